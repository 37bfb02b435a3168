"""Names of the files in a run folder."""

from __future__ import annotations

SETTINGS, SCENARIO, METRICS, TIMING = "settings.json", "scenario.toml", "metrics.csv", "timing.csv"


EVALUATION, ROUTES, ROUNDS = "evaluation.json", "routes.json", "rounds.csv"


RUN_FORMAT = 1
