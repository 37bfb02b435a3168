"""Numbers of a plan from paired episodes, against figures worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relid_sumo.base.errors import InputError
from relid_sumo.env.policies import Policy
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.scenario.task import RoutingTask
from relid_sumo.sed import demonstrations
from relid_sumo.sed.ask.template import constants
from relid_sumo.sed.demonstrations import Demonstrations
from relid_sumo.sed.programs import feedback, material
from relid_sumo.sed.programs.feedback import Reference
from relid_sumo.sim.toy import grid

Drive = Callable[..., EpisodeRecord]


@pytest.fixture
def episode(crossing: RoutingTask, toy_drive: Drive) -> EpisodeRecord:
    return toy_drive(crossing, Policy("fixed", routes={}))


def with_times(record: EpisodeRecord, *rows: Sequence[float]) -> list[EpisodeRecord]:
    return [
        replace(record, travel_time=np.array(row, dtype=float), returns=-np.array(row, dtype=float)) for row in rows
    ]


@pytest.fixture
def reference(episode: EpisodeRecord) -> Reference:
    present = with_times(episode, [100.0] * 6, [100.0] * 6)
    placebo = with_times(episode, [100, 100, 101, 99, 100, 100], [100, 100, 101, 101, 100, 100])
    return Reference(present, present, present, placebo)


def test_f_out_is_the_mean_of_what_each_other_agent_felt(episode: EpisodeRecord, reference: Reference) -> None:
    """Agents 2 and 3 feel +10 and -20 s on average, 4 nothing in the mean, 5 nothing; unit 100 s."""
    records = with_times(episode, [80, 80, 115, 80, 105, 100], [60, 80, 105, 80, 95, 100])
    numbers = feedback.measure(records, reference, (0, 1), (0.5, 0.0))
    assert numbers.f_out == pytest.approx((0.10 + 0.20 + 0 + 0) / 4)
    assert numbers.f_out_signed == pytest.approx((0.10 - 0.20) / 4)
    assert numbers.f_out_floor == pytest.approx(0.01 / 4)
    assert numbers.travel_time_s == pytest.approx(75.0)
    assert numbers.mean_return == pytest.approx(-75.0)
    mean = np.mean([[80, 80, 115, 80, 105, 100], [60, 80, 105, 80, 95, 100]])
    assert numbers.all_travel_time_s == pytest.approx(mean)
    assert numbers.score == pytest.approx(-mean / 100 - 0.5 * 0.075)
    assert numbers.d_in is None


def test_nobody_outside_feels_nothing(episode: EpisodeRecord, reference: Reference) -> None:
    numbers = feedback.measure(with_times(episode, [50] * 6, [50] * 6), reference, range(6), (1.0, 1.0))
    assert (numbers.f_out, numbers.f_out_signed, numbers.f_out_floor) == (0.0, 0.0, 0.0)
    assert numbers.score == pytest.approx(-0.5)


def test_d_in_is_what_present_policies_leave_to_other_actions(episode: EpisodeRecord, reference: Reference) -> None:
    """Agent 0 would do what it did with 0.9, agent 1 with 0.4; weighted by decisions."""
    shares = {0: 0.9, 1: 0.4}

    def probabilities(agent: int, observation: Any, mask: Any) -> Any:  # noqa: ANN401 - arrays
        assert observation.shape == (len(mask) * 2 + 2,)
        return np.full(len(mask), shares[agent])

    count = [int(((episode.agent == i) & (episode.mask.sum(axis=1) > 1)).sum()) for i in shares]
    assert min(count) > 0
    numbers = feedback.measure([episode, episode], reference, (0, 1), (0.0, 2.0), probabilities)
    wanted = (0.1 * count[0] + 0.6 * count[1]) / sum(count)
    assert numbers.d_in == pytest.approx(wanted)
    assert numbers.score == pytest.approx(-numbers.all_travel_time_s / 100 - 2.0 * wanted)


def test_only_decisions_with_a_choice_count(episode: EpisodeRecord) -> None:
    """With one open slot there is no choice; two count, and where none counts nothing diverges."""
    mask = np.zeros_like(episode.mask)
    mask[:, 0] = True
    assert feedback.divergence([replace(episode, mask=mask)], range(6), lambda *_: np.zeros(mask.shape[1])) == 0.0
    first, second = np.flatnonzero(episode.agent == 0)[:2]
    mask[first, :2], mask[second] = True, True
    share = {2: 0.5, mask.shape[1]: 0.25}

    def probabilities(agent: int, observation: Any, mask: Any) -> Any:  # noqa: ANN401 - arrays
        return np.full(len(mask), share[int(mask.sum())])

    assert feedback.divergence([replace(episode, mask=mask)], (0,), probabilities) == pytest.approx((0.5 + 0.75) / 2)


def test_time_lost_is_found_where_it_was_lost(crossing: RoutingTask, toy_drive: Drive) -> None:
    """One slow edge on the route of agent 0: the first place told holds it, with what it cost; all parts sum up."""
    route = tuple(crossing.route(0, int(crossing.origin[0])))
    slow = route[2]
    record = toy_drive(crossing, Policy("fixed", routes={0: route}), slow={slow: 4.0})
    parts = feedback.lost([record], crossing, {0: route})
    assert parts[0].first <= 2 <= parts[0].last
    assert len(parts) == 1 + len({int(e) for e in record.edge[record.agent == 0]} - {route[0]})
    free = crossing.graph.free_flow_s
    assert parts[0].lost_s == pytest.approx(3 * free[slow], abs=2.0)
    assert sum(part.measured_s for part in parts) == pytest.approx(record.travel_time[0])
    covered = [edge for part in sorted(parts, key=lambda p: p.first) for edge in range(part.first, part.last + 1)]
    assert covered == list(range(len(route)))


def test_the_placebo_differs_in_one_later_vehicle(tmp_path: Path) -> None:
    vehicles = "".join(f'<vehicle id="b{t}" depart="{t}.00"><route edges="a b"/></vehicle>' for t in (5, 50, 60, 70))
    source = tmp_path / "0.rou.xml"
    source.write_text(f'<routes><vType id="background"/>{vehicles}</routes>')
    (tmp_path / "out").mkdir()
    options = ("-n", "net", "-r", str(source), "--seed", "1")
    changed = feedback.without_one_vehicle(options, tmp_path / "out", 55.0)
    assert changed == ("-n", "net", "-r", str(tmp_path / "out" / "0.rou.xml"), "--seed", "1")
    assert [f'id="b{t}"' in Path(changed[3]).read_text() for t in (5, 50, 60, 70)] == [True, True, False, True]
    assert feedback.without_one_vehicle(options, tmp_path / "out", 500.0) == options


def test_routes_tried_are_told_fastest_first_with_their_runs(crossing: RoutingTask, toy_drive: Drive) -> None:
    tried: material.Tried = {}
    records = [toy_drive(crossing, Policy("random", seed=seed)) for seed in range(6)]
    material.note(tried, records, [0, 1])
    (trip,) = material.trips_data(crossing, [0], tried)
    means = [one["travel_time"] for one in trip["tried"]]
    assert means == sorted(means)
    assert sum(one["runs"] for one in trip["tried"]) == sum(record.status[0] == "arrived" for record in records)
    assert all(one["route"][0] == trip["origin"] and one["route"][-1] == trip["destination"] for one in trip["tried"])
    assert set(tried) <= {0, 1}


def test_closed_edges_are_nobodys_successors(toy_task: Callable[..., RoutingTask]) -> None:
    task = toy_task(grid(3), [("0>1", "5>8")], closed=["4>5"])
    data = material.network_data(task)
    assert task.graph.index["4>5"] not in {way for ways in data["successors"] for way in ways}
    assert len(data["edges"]) == len(data["successors"]) == task.graph.n_edges


def test_the_template_avoids_others_the_more_they_felt(episode: EpisodeRecord, reference: Reference) -> None:
    numbers = feedback.measure(with_times(episode, [80] * 6, [80] * 6), reference, (0, 1), (0.2, 0.2))
    facts = {"round": 2, "sample": 1, "runs": 8, "numbers": numbers}
    assert constants({**facts, "numbers": None})["avoid"] == 0.0
    assert constants(facts)["avoid"] == 10.0
    assert constants({**facts, "numbers": replace(numbers, f_out=numbers.f_out_floor)})["avoid"] == 0.0


def test_demonstrations_hold_what_was_driven(crossing: RoutingTask, toy_drive: Drive, tmp_path: Path) -> None:
    records = [toy_drive(crossing, Policy("fixed"), slow={5: float(factor)}) for factor in (1, 3)]
    made = demonstrations.collect(crossing, records, {"scenario": "toy"})
    for k, record in enumerate(records):
        mine = made.episode == k
        for name in ("agent", "edge", "action", "time", "reward", "observation", "mask"):
            assert np.array_equal(getattr(made, name)[mine], getattr(record, name)), name
        assert made.arrived[k].tolist() == [status == "arrived" for status in record.status]
    starts = [crossing.graph.shape(int(edge))[0] for edge in made.edge]
    assert np.array_equal(made.position, starts)
    made.save(tmp_path / "d.npz")
    back = Demonstrations.load(tmp_path / "d.npz")
    assert back.digest == made.digest
    assert back.meta == {"scenario": "toy"}
    assert replace(made, meta={"scenario": "other"}).digest != made.digest
    assert replace(made, reward=made.reward + 1e-9).digest != made.digest
    assert [file.name for file in tmp_path.iterdir()] == ["d.npz"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rubbish", b"not an archive"])
def test_a_file_without_demonstrations_is_told(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        Demonstrations.load(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npz: not a file of demonstrations"):
        Demonstrations.load(tmp_path / "x.npz")
