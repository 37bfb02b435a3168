"""The Dec-POMDP: agents that choose the next edge at each junction."""
