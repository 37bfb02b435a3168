"""Episodes for the eye: sumo-gui, pictures and route files."""
