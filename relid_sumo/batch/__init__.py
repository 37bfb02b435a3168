"""Run grids of training runs: an experiment file defines cells, and each cell makes a run folder, here or on Ray."""
