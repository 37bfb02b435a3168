"""Names of everything in the run folder of a training. docs/concepts.md says what each of them contains.

The folder of an SED run is another kind: see `relid_sumo.sed.run_folder`.
"""

from __future__ import annotations

# Every run
SETTINGS, SCENARIO, METRICS, TIMING = "settings.json", "scenario.toml", "metrics.csv", "timing.csv"
CHECKPOINT, LOCK, TENSORBOARD = "checkpoint.pt", "run.lock", "tensorboard"
DIGESTS = "digests.csv"

# Runs with experts
DEMONSTRATIONS, PROBES, EXPERTS, ROUNDS = "demonstrations.npz", "probes.json", "experts.json", "rounds.csv"
SED, RENEWED = "sed", "renewed"

# Runs that were evaluated
EVALUATION, ROUTES = "evaluation.json", "routes.json"

# Of settings.json. 1: until 0.1.0; trips that reached the horizon had no credit for distance. 2: congestion was
# observed as 1 - 2 free-flow time / travel time.
RUN_FORMAT = 3
RUN_ADVICE = "its observations or rewards have another definition; train again"
