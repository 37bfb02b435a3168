"""Show episodes: in sumo-gui, as pictures, and as route files for plain SUMO."""
