"""SUMO scenarios and demand of others as they are: configurations, route files, matrices, counts."""
