"""Learning algorithms, each in one file that reads from top to bottom."""
