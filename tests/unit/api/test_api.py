"""The public API: what `__all__` names exists, is documented with an example, and loads no more than it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import relid_sumo
from relid_sumo.baseline.table import BASELINES
from relid_sumo.learn.algorithms import ALGORITHMS

ERRORS = {"InputError", "RelidSumoError", "SimulationError"}
RECORDS = {
    "AgentDecisions",
    "Answer",
    "Asking",
    "Batch",
    "CollectedEpisode",
    "EpisodeRecord",
    "Evaluation",
    "Leg",
    "LearnerSetup",
}
RECORDS |= {
    "PreparedScenario",
    "Question",
    "Result",
    "RoutingEnv",
    "Scenario",
    "TrainSettings",
    "Verification",
    "Written",
}


@pytest.mark.parametrize("name", relid_sumo.__all__)
def test_each_public_name_exists_and_is_documented(name: str) -> None:
    found = getattr(relid_sumo, name)
    assert found.__name__ == name
    text = found.__doc__
    assert text and text.strip()[0].isupper()
    if name not in ERRORS | RECORDS:
        assert "Examples\n" in text, "a user wants to see how it is called"


def test_all_is_sorted_and_complete() -> None:
    assert relid_sumo.__all__ == sorted(relid_sumo.__all__)
    assert set(relid_sumo.__all__) == set(relid_sumo._HOME) <= set(dir(relid_sumo))
    with pytest.raises(AttributeError, match="has no attribute 'tarin'"):
        relid_sumo.tarin  # noqa: B018


@pytest.mark.parametrize("name", ["report", "view", "train", "evaluate", "baselines", "verify"])
def test_no_submodule_hides_a_function(name: str) -> None:
    modules = "relid_sumo.reports.write, relid_sumo.viewer.gui, relid_sumo.baseline.named, relid_sumo.cli.main"
    code = f"import {modules}; import relid_sumo; print(callable(relid_sumo.{name}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


def test_docstrings_name_what_is_built_in() -> None:
    assert all(f"``{name}``" in str(relid_sumo.train.__doc__) for name in ALGORITHMS)
    assert all(name in str(relid_sumo.baselines.__doc__) for name in BASELINES)


def test_scenarios_settings_and_baselines_load_no_torch() -> None:
    code = (
        "import sys, relid_sumo as r; r.load_scenario('town'); r.TrainSettings(); r.baselines(); r.evaluate; r.train; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stdout + done.stderr
