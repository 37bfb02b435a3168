"""Background traffic: its demand, its level of congestion, its travel times."""
