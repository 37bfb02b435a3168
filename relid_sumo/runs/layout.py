"""The names of the files in a run folder, and which settings each algorithm reads."""

from __future__ import annotations

SETTINGS, SCENARIO, METRICS, TIMING = "settings.json", "scenario.toml", "metrics.csv", "timing.csv"


EVALUATION, ROUTES, ROUNDS = "evaluation.json", "routes.json", "rounds.csv"


RUN_FORMAT = 1


ALONE = {"ippo", "mappo"}  # algorithms without experts


OF_EXPERTS = {"hpo", "demonstrations", "llm", "elite", "probes", "feedback", "score_seeds", "renew_every"}


def unread(algo: str) -> set[str]:
    """Return settings of a training run that an algorithm does not look at."""
    return OF_EXPERTS if algo in ALONE else {"ippo"}
