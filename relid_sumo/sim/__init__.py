"""Run SUMO simulations: start, step, snapshot."""
