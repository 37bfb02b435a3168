"""A running SUMO simulation."""
