"""A trained policy and the baselines in traffic that training never used."""
