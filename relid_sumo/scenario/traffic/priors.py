"""Mesoscopic parameters of three networks, as starting points for others."""

from __future__ import annotations

from relid_sumo.scenario.settings import Meso

# Fitted by 88 trials each. The first one suits suburbs with signals and fits most networks at once.
SUBURB = Meso(minor_penalty_s=6.511, tauff=1.094, taufj=1.234, taujf=2.478, taujj=1.763)
TOWN = Meso(minor_penalty_s=5.953, tauff=2.498, taufj=1.0, taujf=3.12, taujj=1.717)
DENSE = Meso(
    tls_penalty=0.486, tls_flow_penalty=0.886, minor_penalty_s=8.746, tauff=2.5, taufj=2.156, taujf=3.675, taujj=1.319
)
PRIORS = (SUBURB, TOWN, DENSE)
