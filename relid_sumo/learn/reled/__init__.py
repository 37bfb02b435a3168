"""The experts' side of RELED."""
