"""Grids of runs: an experiment file becomes cells, and cells become run folders, here or on Ray."""
