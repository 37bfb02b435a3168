"""Run a slice of a run again, and say whether it gives the same bytes, and where it first differs.

The slice is the first updates of the training, resumed from a checkpoint halfway, and evaluation episodes of the
trained policy. It is compared with the run folder: the rows of metrics.csv, the hash of each episode in digests.csv,
the checkpoint where the slice is the whole training, and evaluation.json with routes.json.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from relid_sumo.base import cache, files, temporary
from relid_sumo.base.errors import InputError
from relid_sumo.base.progress import counting
from relid_sumo.env.records import EpisodeRecord
from relid_sumo.evaluation import evaluate as evaluation
from relid_sumo.evaluation.outcome import outcome, routes
from relid_sumo.evaluation.stored import TRAINED
from relid_sumo.evaluation.trained import load_trained
from relid_sumo.learn import checkpoint, run_folder
from relid_sumo.learn import train as training
from relid_sumo.learn.run_folder import RunSettings
from relid_sumo.learn.train import TrainingWatch
from relid_sumo.runs import layout
from relid_sumo.runs.routes import read_routes
from relid_sumo.runs.summary import read_evaluation
from relid_sumo.scenario.prepare import PreparedScenario, prepare
from relid_sumo.scenario.settings import Scenario

PER_SEED = ("digest", "return_s", "travel_time_s", "status", "teleports", "background_vehicle_s")


@dataclass(frozen=True)
class Verification:
    """What was run again, and what differs.

    Attributes
    ----------
    updates : int
        Number of updates of the training that were run again.
    traffic_seeds : tuple of int
        Traffic seeds in which the trained policy was evaluated again.
    inputs : tuple of str
        Inputs that are not those of the run, such as the version of SUMO. They may be the cause of a difference.
    differences : tuple of str
        The first difference of the training and of the evaluation.
    days : tuple of str
        What happens in these traffic seeds: type of the day, incidents and surge.
    """

    updates: int
    traffic_seeds: tuple[int, ...]
    inputs: tuple[str, ...]
    differences: tuple[str, ...]
    days: tuple[str, ...] = ()

    @property
    def reproduces(self) -> bool:
        """Whether all that was run again is the same, byte for byte."""
        return not self.differences


class _EnoughError(Exception):
    """Ends the training that is run again."""


def verify(folder: Path, *, updates: int = 2, seeds: int = 1, workers: int | None = None) -> Verification:
    """Run a slice of a run again and compare it with the run.

    Parameters
    ----------
    folder
        The run folder; nothing in it changes.
    updates
        Number of updates of the training to run again, from its start. Planning programs are not asked again: the
        slice uses the demonstrations of the run, and ends before they are renewed.
    seeds
        Number of traffic seeds of the stored evaluation to run again.
    workers
        Number of simulation processes. Default: one per core.

    Raises
    ------
    InputError
        The folder contains no run, or nothing to compare with.
    """
    if updates < 0 or seeds < 0:
        raise InputError(f"--updates {updates}, --seeds {seeds}: give numbers from 0 on")
    settings, scenario = run_folder.load(folder)
    rows = _lines(folder / layout.METRICS)
    stored = read_evaluation(folder)
    n = min(updates, len(rows) - 1, _before_renewal(settings))
    chosen = () if stored is None else tuple(stored.traffic_seeds[:seeds])
    if n < 1 and not chosen:
        raise InputError(
            f"{folder}: nothing to verify: the run has no finished update and no evaluation, or --updates and --seeds "
            "are 0"
        )
    inputs = tuple(_inputs(settings, scenario))
    ready = prepare(scenario, simulators=settings.train.simulators(scenario))
    try:
        run_folder.check_same(settings, ready, folder)
        if ready.demand != settings.demand:
            raise InputError(f"{folder}: its traffic ({scenario.demand.route_file}) has changed since")
    except InputError as error:
        return Verification(0, (), inputs, (str(error),))
    differences = []
    if n >= 1:
        differences += _trained(folder, ready, settings, rows, n, workers)[:1]
    if chosen:
        differences += _evaluated(folder, chosen, workers)[:1]
    days = tuple(f"traffic seed {seed}: {said}" for seed in chosen if (said := ready.describe_day(seed)))
    return Verification(n, chosen, inputs, tuple(differences), days)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else [""]


def _before_renewal(settings: RunSettings) -> int:
    """Return the number of updates after which no program plans again."""
    renews = settings.train.algorithm.experts and not settings.train.demonstrations and settings.train.renew_every
    return settings.train.renew_every - 1 if renews else settings.train.episodes


def _inputs(settings: RunSettings, scenario: Scenario) -> Iterator[str]:
    """Yield the inputs that differ from those of the run."""
    now = run_folder.versions()
    for name in sorted(now.keys() | settings.versions.keys()):
        is_now, was = now.get(name, "absent"), settings.versions.get(name, "not recorded")
        if is_now != was:
            yield f"{name} is {is_now} here, and was {was}"
    if settings.code and settings.code != cache.code():
        yield "the code of relid_sumo is not that of the run"
    sources = run_folder.sources(scenario, settings.train)
    for name in sorted(sources):
        if settings.sources.get(name, sources[name]) != sources[name]:
            yield f"the source of {name} is not that of the run"


def _trained(
    folder: Path, ready: PreparedScenario, settings: RunSettings, rows: list[str], n: int, workers: int | None
) -> list[str]:
    """Train n updates again, with a resume halfway, and return the differences."""
    with temporary.folder("relid-sumo-verify-") as place:
        again = Path(place)
        if (folder / layout.DEMONSTRATIONS).is_file():
            shutil.copyfile(folder / layout.DEMONSTRATIONS, again / layout.DEMONSTRATIONS)
        total = min(n * settings.train.episodes_per_update, settings.train.episodes)
        with counting("training episode again", total) as tick:
            for until in sorted({n // 2, n} - {0}):
                state = checkpoint.load(again) if (again / layout.CHECKPOINT).exists() else None

                def stop(row: Mapping[str, float], until: int = until) -> None:
                    if row["update"] == until:
                        raise _EnoughError

                try:
                    watch = TrainingWatch(tick, stop)
                    training.run_updates(ready, again, settings.train, state, watch, workers=workers, fork=True)
                except _EnoughError:
                    pass
        found = list(_compared(folder, again, rows, n, settings))
        whole = n == len(rows) - 1 and checkpoint.load(folder)["update"] == n
        if not found and whole and not _same_bytes(folder / layout.CHECKPOINT, again / layout.CHECKPOINT):
            found.append(f"{layout.CHECKPOINT} after update {n}: other weights, though all metrics are the same")
        return found


def _same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _compared(folder: Path, again: Path, rows: list[str], n: int, settings: RunSettings) -> Iterator[str]:
    """Yield where two trainings differ: an update, its metrics and its first other episode."""
    new, per_update = _lines(again / layout.METRICS), settings.train.episodes_per_update
    if new[0] != rows[0]:
        yield f"{layout.METRICS}: other columns: {', '.join(sorted(set(rows[0].split(',')) ^ set(new[0].split(','))))}"
        return
    digests = [_digests(one / layout.DIGESTS) for one in (folder, again)]
    for k in range(1, n + 1):
        other = _first_other(*(one.get(k, []) for one in digests))
        if rows[k] == new[k] and other is None:
            continue
        names, was, now = rows[0].split(","), rows[k].split(","), new[k].split(",")
        values = [f"{name} is {b}, and was {a}" for name, a, b in zip(names, was, now, strict=False) if a != b]
        where = f"update {k} (episodes {(k - 1) * per_update + 1} to {min(k * per_update, settings.train.episodes)})"
        if other is not None:
            place, seed = other
            first = f"episode {(k - 1) * per_update + place + 1} (traffic seed {seed}) is the first that differs"
        elif digests[0].get(k):
            first = "its episodes are the same, so learning differs"
        else:
            first = f"the run has no {layout.DIGESTS}, which would name the episode"
        yield f"{where}: {'; '.join(values[:3]) or 'the same metrics'}; {first}"


def _digests(file: Path) -> dict[int, list[tuple[str, str]]]:
    """Return (traffic seed, hash) of the episodes of each update."""
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {int(r["update"]): list(zip(r["traffic_seed"].split(), r["digest"].split(), strict=True)) for r in rows}


def _first_other(was: list[tuple[str, str]], now: list[tuple[str, str]]) -> tuple[int, str] | None:
    pairs = enumerate(zip(was, now, strict=False))
    return next(((place, one[0]) for place, (one, other) in pairs if one != other), None)


def _evaluated(folder: Path, seeds: tuple[int, ...], workers: int | None) -> list[str]:
    """Evaluate the trained policy again and return the differences."""
    ready, policy = load_trained(folder)
    with counting("evaluating episode again", len(seeds)) as tick:
        table = evaluation.episodes(ready, {TRAINED: policy}, seeds, workers=workers, on_done=tick)
    stored = files.read_json(folder / layout.EVALUATION)
    was, now = stored["policies"][TRAINED], outcome(ready, table)["policies"][TRAINED]
    for k, seed in enumerate(seeds):
        for name in (name for name in PER_SEED if name in was):
            if was[name][k] != now[name][k]:
                where = f"evaluation, traffic seed {seed}: {name} {_values(ready.on(seed), was[name][k], now[name][k])}"
                return [f"{where}{_other_road(folder, ready, table, seed)}"]
    return []


def _values(ready: PreparedScenario, was: object, now: object) -> str:
    if isinstance(was, list) and isinstance(now, list):
        for name, one, other in zip(ready.task.names, was, now, strict=True):
            if one != other:
                return f"of agent '{name}' is {other}, and was {one}"
    return f"is {now}, and was {was}"


def _other_road(folder: Path, ready: PreparedScenario, table: dict[str, list[EpisodeRecord]], seed: int) -> str:
    """Return the first road that differs; routes are stored of the first traffic seed only."""
    file = folder / layout.ROUTES
    drawn = read_routes(file) if file.is_file() else None
    if drawn is None or drawn.traffic_seed != seed or drawn.network_key != ready.network.key:
        return ""
    now = routes(ready, table)["routes"][TRAINED]
    for name, one, other in zip(ready.on(seed).task.names, drawn.routes.get(TRAINED, []), now, strict=False):
        for place, (a, b) in enumerate(zip(one, other, strict=False)):
            if a != b:
                edges = ready.network.graph.edge_ids
                return f"; agent '{name}' takes edge '{edges[b]}' as road {place + 1}, and took '{edges[a]}'"
    return ""
