"""Runs planning programs, and checks and measures their plans."""
