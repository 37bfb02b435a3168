"""Write the replay of an episode (`relid-sumo replay`)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from relid_sumo.base import files
from relid_sumo.base.errors import InputError
from relid_sumo.env.policies import Policy
from relid_sumo.replay.content import content
from relid_sumo.replay.page import page
from relid_sumo.replay.recording import Recording, record
from relid_sumo.scenario.prepare import PreparedScenario
from relid_sumo.viewer.window import COLOURS


def check(out: Path) -> None:
    """Check that a page can be written.

    Raises
    ------
    InputError
        The name has another ending, or the file cannot be written.
    """
    if out.suffix.lower() not in {".html", ".htm"}:
        raise InputError(f"--out {out}: a replay is a web page; give the name the ending .html")
    files.check_writable(out, "--out")


def write(
    ready: PreparedScenario,
    policies: Mapping[str, Policy],
    out: Path,
    *,
    traffic_seed: int,
    branches: float = 0.0,
    title: str | None = None,
) -> dict[str, Recording]:
    """Record an episode of each policy in the same traffic, write the page and return the recordings by policy.

    Parameters
    ----------
    policies
        One policy or two, by name, with planned routes where they need them.
    branches
        Share of the decisions of learnt policies at which every next edge is tried (slow: each costs an episode).
    title
        Title of the page. Default: the scenario's name.

    Raises
    ------
    InputError
        The file cannot be written.
    SimulationError
        SUMO failed.
    """
    check(out)
    recordings = {
        name: record(
            ready,
            policy,
            name=name,
            traffic_seed=traffic_seed,
            branches=branches if policy.name == "learned" else 0.0,
        )
        for name, policy in policies.items()
    }
    said, arrays = content(ready, recordings, traffic_seed, title=title or ready.scenario.name)
    colours = ["rgb({} {} {})".format(*colour) for colour in COLOURS]
    files.write(out, page(said, arrays, colours, version("relid_sumo")).encode(), binary=True)
    return recordings
