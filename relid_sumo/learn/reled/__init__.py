"""Experts of RELED: demonstrations, probes of other routes, renewal."""
