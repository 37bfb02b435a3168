"""The Dec-POMDP: vehicles that choose the next edge at every junction."""
