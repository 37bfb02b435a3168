"""Damaged checkpoints: refused, whatever the damage is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from relid_sumo.base.errors import InputError
from relid_sumo.learn import checkpoint
from relid_sumo.learn.algos.ippo import restore_optimiser
from relid_sumo.runs import layout

STATE = {"update": 1, "episodes": 4, "learner": {"actor": {"w": torch.arange(1000.0)}}}


def test_a_flipped_bit_of_a_weight_is_noticed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, STATE)
    file, rng = tmp_path / layout.CHECKPOINT, random.Random(0)
    whole = file.read_bytes()
    weights = whole.index(torch.arange(1000.0).numpy().tobytes())
    assert torch.equal(checkpoint.load(tmp_path)["learner"]["actor"]["w"], torch.arange(1000.0))
    for _ in range(50):
        changed = bytearray(whole)
        changed[weights + rng.randrange(4000)] ^= 1 << rng.randrange(8)
        file.write_bytes(changed)
        with pytest.raises(InputError, match=r"checkpoint\.pt cannot be read: .*checksum.*; put back a copy, or train"):
            checkpoint.load(tmp_path)


@pytest.mark.parametrize("count", [0, -1, 10**30, 1.5, "1", None])
def test_counters_are_whole_numbers_of_a_run(count: object, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {**STATE, "episodes": count})
    with pytest.raises(InputError, match="no checkpoint of a run"):
        checkpoint.load(tmp_path)


def _optimiser() -> torch.optim.Adam:
    weight = torch.nn.Parameter(torch.ones(3))
    made = torch.optim.Adam([weight], lr=0.1)
    weight.grad = torch.ones(3)
    made.step()
    return made


@pytest.mark.parametrize("change", ["shape", "nan", "type", "betas"])
def test_the_state_of_another_optimiser_is_refused(change: str) -> None:
    state = _optimiser().state_dict()
    restore_optimiser(_optimiser(), state)
    part = state["state"][0]
    if change == "betas":
        state["param_groups"][0]["betas"] = ("a", "b")
    else:
        part["exp_avg"] = {"shape": torch.ones(0), "nan": torch.full((3,), torch.nan), "type": 1.0}[change]
    with pytest.raises((ValueError, TypeError), match=r"does not fit|other settings"):
        restore_optimiser(_optimiser(), state)
