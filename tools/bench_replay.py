"""Measure how many frames per second the page of a replay draws with many vehicles, in headless Chromium.

    python tools/bench_replay.py                                    # 2,000 vehicles on the town
    python tools/bench_replay.py orlando --vehicles 2000 --seconds 10

The streets, agents and decisions are those of a recorded episode; the other vehicles are synthetic: they drive through
the network at 36 km/h on random routes. The page plays at 10 times the speed, in one map, in two maps side by side with
as many vehicles each, and in the overlay. Chromium draws without a graphics card, on the processor. On a busy machine
it draws fewer frames; the processor time of a frame, over all of Chromium's processes, depends less on that.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from browser import Browser, browser

from relid_sumo.env.policies import Policy
from relid_sumo.network.graph import RoadGraph
from relid_sumo.replay.content import content
from relid_sumo.replay.page import page
from relid_sumo.replay.recording import Recording, Tracks, record
from relid_sumo.scenario.make import load_scenario
from relid_sumo.scenario.prepare import prepare

SPEED_MPS = 10.0
COUNT = """
const [seconds] = arguments;
return new Promise((done) => {
  let frames = 0;
  const start = performance.now();
  const next = (now) => {
    frames += 1;
    if (now - start < 1000 * seconds) requestAnimationFrame(next); else done(1000 * frames / (now - start));
  };
  requestAnimationFrame(next);
});
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print frames per second in each layout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="?", default="town")
    parser.add_argument("--vehicles", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0, help="time of each measurement")
    given = parser.parse_args(arguments)
    ready = prepare(load_scenario(given.scenario))
    seed = ready.scenario.seeds.evaluation[0]
    recorded = record(ready, Policy("shortest"), name="shortest", traffic_seed=seed)
    crowded = replace(recorded, tracks=crowd(ready.network.graph, recorded, given.vehicles))
    with tempfile.TemporaryDirectory() as folder, browser() as tab:
        for names in (("one",), ("one", "other")):
            file = Path(folder) / f"{len(names)}.html"
            said, arrays = content(ready, dict.fromkeys(names, crowded), seed, title="bench")
            file.write_text(page(said, arrays, ["rgb(0 114 178)"], "0"), encoding="utf-8")
            print(f"{len(names)} x {given.vehicles} vehicles, page of {file.stat().st_size / 1e6:.1f} MB")
            start(tab, file)
            measure(tab, "side by side" if names[1:] else "one map", given.seconds)
        tab.press("o")
        measure(tab, "overlay", given.seconds)


def measure(tab: Browser, what: str, seconds: float) -> None:
    """Print how many frames a playing page draws, and their processor time."""
    before, begin = spent_s(), time.monotonic()
    rate = float(tab.run(COUNT, seconds))
    each_ms = 1000 * (spent_s() - before) / (rate * (time.monotonic() - begin))
    print(f"  {what}: {rate:.0f} frames/s, {each_ms:.0f} ms of processor time per frame")


def spent_s() -> float:
    """Return the processor time of the processes that descend from this one, s."""
    stats = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may have ended since
            stats[int(folder.name)] = (folder / "stat").read_text().rpartition(")")[2].split()
    found = {os.getpid()}
    while more := {pid for pid, stat in stats.items() if int(stat[1]) in found} - found:
        found |= more
    ticks = sum(int(stats[pid][11]) + int(stats[pid][12]) for pid in found - {os.getpid()})
    return ticks / os.sysconf("SC_CLK_TCK")


def crowd(graph: RoadGraph, recorded: Recording, vehicles: int) -> Tracks:
    """Return the tracks of the agents, and synthetic ones of other vehicles that drive during the whole episode."""
    tracks, rng = recorded.tracks, np.random.default_rng(0)
    frames = int((tracks.first + tracks.length).max())
    ours = np.flatnonzero([tracks.names[vehicle].startswith("agent") for vehicle in tracks.vehicle])
    ends = np.cumsum(tracks.length)
    parts = [tracks.xy[ends[k] - tracks.length[k] : ends[k]] for k in ours]
    reach = SPEED_MPS * tracks.frame_s * np.arange(frames)
    open_edges = np.flatnonzero(graph.n_successors)
    for _ in range(vehicles):
        edge, points, metres = int(rng.choice(open_edges)), list[np.ndarray](), 0.0
        while metres < reach[-1] + 1000.0:
            points.append(graph.shape(edge))
            metres += float(graph.length[edge])
            after = graph.slots[edge][graph.slots[edge] >= 0]
            edge = int(rng.choice(after)) if len(after) else int(rng.choice(open_edges))
        line = np.concatenate(points)
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        parts.append(np.column_stack([np.interp(reach, along, line[:, axis]) for axis in (0, 1)]))
    names = [tracks.names[vehicle] for vehicle in tracks.vehicle[ours]]
    return Tracks(
        frame_s=tracks.frame_s,
        vehicle=np.arange(len(parts), dtype=np.int32),
        first=np.concatenate([tracks.first[ours], np.zeros(vehicles, np.int32)]),
        length=np.array([len(part) for part in parts], np.int32),
        xy=np.concatenate(parts),
        names=[*names, *(f"synthetic {i}" for i in range(vehicles))],
    )


def start(tab: Browser, file: Path) -> None:
    """Open a page and play it."""
    tab.size(1280, 800)
    tab.open(file.as_uri())
    while not tab.run("return document.body.dataset.ready"):
        time.sleep(0.1)
    tab.press(" ")


if __name__ == "__main__":
    main()
