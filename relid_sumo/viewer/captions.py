"""The texts of a show: what each view shows at a time, and the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from relid_sumo.env.records import ARRIVED, EpisodeRecord
from relid_sumo.viewer.film import Caption, Row
from relid_sumo.viewer.together import Side

if TYPE_CHECKING:
    from relid_sumo.viewer.gui import Shown

MOST_ROWS = 24  # agents in the table of a recording


def clock(seconds: float) -> str:
    """Return a time after the warm-up as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def so_far(side: Side, now: float) -> tuple[int, float]:
    """Return how many agents have arrived, and the mean travel time so far of those that have departed, s."""
    if side.episode is None:
        return 0, 0.0
    arrived, times = 0, []
    for vehicle, depart_s in zip(side.episode.vehicles, side.task.depart_s.tolist(), strict=True):
        arrived += vehicle.status == ARRIVED
        if now >= depart_s:
            times.append(vehicle.travel_time if vehicle.status else now - depart_s)
    return arrived, sum(times) / len(times) if times else 0.0


def headline(sides: Sequence[Side], i: int, now: float) -> str:
    """Return the line at the top of a window: policy, time, arrivals, mean travel time so far, and the difference."""
    side = sides[i]
    arrived, mean = so_far(side, now)
    text = f"{side.name} - {clock(now)} - {arrived} of {side.task.n_agents} arrived - mean time so far {mean:.0f} s"
    for other in (one for one in sides if one is not side):
        text += f" ({mean - so_far(other, now)[1]:+.0f} s to {other.name})"
    return text


def summary(shown: Sequence[Shown], records: Sequence[EpisodeRecord], until_s: float | None = None) -> list[str]:
    """Return the results of the whole episodes, in lines."""
    lines = [] if until_s is None else [f"stopped at {clock(until_s)}; results of the whole episode:"]
    for one, record in zip(shown, records, strict=True):
        lines.append(
            f"{one.name}: {record.travel_time.mean():.0f} s on average, {record.status.count(ARRIVED)} of "
            f"{len(record.status)} agents arrived"
        )
    return [*lines, *([difference(shown, records)] if len(records) == 2 else [])]


def difference(shown: Sequence[Shown], records: Sequence[EpisodeRecord]) -> str:
    """Return in words which of two policies has the shorter mean travel time in this traffic."""
    one, other = (round(float(record.travel_time.mean())) for record in records)  # as `summary` prints them
    gain = other - one
    if not gain:
        return f"{shown[0].name} and {shown[1].name} need the same time on average"
    word, share = "faster" if gain > 0 else "slower", abs(gain) / other
    percent = f" ({share:.0%})" if share >= 0.01 else ""
    return f"{shown[0].name} is {abs(gain)} s{percent} {word} than {shown[1].name} in this traffic"


def caption(
    shown: Sequence[Shown],
    sides: Sequence[Side],
    records: Sequence[EpisodeRecord],
    agents: Sequence[int],
    now: float,
    notes: frozenset[str],
) -> Caption:
    """Return the texts of a frame at a time, s after the warm-up."""
    heads, colours = [], sides[0].window.colours
    for side in sides:
        arrived, mean = so_far(side, now)
        heads.append((side.name, f"{arrived} of {side.task.n_agents} arrived, mean time so far {mean:.0f} s"))
    names = sides[0].task.names
    rows = [Row(names[i], colours[names[i]], _states(sides, i, now)) for i in agents[:MOST_ROWS]]
    ready, names_of = shown[0].ready, " and ".join(one.name for one in shown)
    result = "Whole episode: " + "; ".join(summary(shown, records)) + "."
    return Caption(
        title=f"{ready.scenario.name}: {names_of}, traffic seed {records[0].traffic_seed}",
        clock=f"time {clock(now)}",
        heads=tuple(heads),
        rows=tuple(rows),
        result=result,
        foot=f"Map: {ready.network.attribution}. Simulated by SUMO.",
        notes=notes,
    )


def _states(sides: Sequence[Side], agent: int, now: float) -> tuple[str, ...]:
    """Return the state of an agent in each view, and the difference where it has arrived in both."""
    states = [_state(side, agent, now) for side in sides]
    vehicles = [side.episode.vehicles[agent] for side in sides if side.episode is not None]
    if len(vehicles) == 2 and all(vehicle.status == ARRIVED for vehicle in vehicles):
        states.append(f"{vehicles[0].travel_time - vehicles[1].travel_time:+.0f} s")
    return tuple(states)


def _state(side: Side, agent: int, now: float) -> str:
    """Return the state of an agent's trip in a few words."""
    depart_s = float(side.task.depart_s[agent])
    if side.episode is None or now < depart_s:
        return f"departs {clock(depart_s)}"
    vehicle = side.episode.vehicles[agent]
    if vehicle.status == ARRIVED:
        return f"arrived {vehicle.travel_time:.0f} s"
    return vehicle.status or f"drives {now - depart_s:.0f} s"
