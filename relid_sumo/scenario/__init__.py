"""A routing problem, ready to drive: a network, background traffic and the agents' trips."""
