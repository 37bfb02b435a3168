"""Routing problems: a network, background traffic and the agents' trips."""
