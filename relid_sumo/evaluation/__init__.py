"""Evaluate trained policies and baselines in held-out traffic."""
