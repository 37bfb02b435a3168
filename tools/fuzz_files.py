"""Damage files that the product reads back, and run the command that reads them.

    python tools/fuzz_files.py --cases 2000
    python tools/fuzz_files.py --seed 0 --case 17    # one case again, with all it prints

A scenario, a run, an SED run, a batch and a cache are made once with the town. Each case copies them, damages one file
and runs a command. `forked` says what is right; in addition, the message names the damaged file or its folder, and
nothing in its folder changes.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import forked
import mutate

TOWN = Path(__file__).parents[1] / "scenarios" / "town" / "town.osm"
CHANGES = ("demand.rate_vph=300", "demand.warmup_s=60", "horizon_s=400")
SEEDS = ("seeds.training=[0, 1]", "seeds.validation=[100]", "seeds.evaluation=[200]")
FEW = "--rounds 1 --samples 1 --set sed.seeds=1 --set sed.held_out=1"
EVALUATE = "evaluate run --seeds 1 --baselines shortest --workers 1"
RESUME, REPORT, EXPORT = "train --resume run --workers 1", "report run --out page.html", "export run --out own.rou.xml"
STATUS, OF_BATCH, RETRY = "batch status batch", "report batch --out page.md", "batch retry batch --workers 1"
SED, RECORDED = f"sed run scenario --llm template --out sed {FEW}", f"sed run scenario --llm recorded --out new {FEW}"
SHOW, RECORD = "sed show sed", "sed record sed scenario"
OWN_ROUTES = "scenario check scenario --set demand.route_file=scenario/own.rou.xml"
DEMONSTRATED = "train scenario --algo bc --demonstrations sed/demonstrations.npz --episodes 1 --out new --workers 1"
RELED = (
    "train scenario --algo reled --llm template --episodes 2 --workers 1 --set train.episodes_per_update=1 "
    "--set train.renew_every=1 --set train.feedback=false --set train.score_seeds=1"
)
AGAIN = f"{RELED} --out new"
FAILED = {"error": "SUMO ended", "kind": "SimulationError", "log": "x"}


@dataclass(frozen=True)
class Target:
    """Files of one kind: a pattern in the made folders, commands that read them, and how often they are damaged."""

    kind: str
    files: str
    commands: tuple[str, ...]
    weight: float = 1.0

    @property
    def folder(self) -> str:
        """The made folder, or the file."""
        return self.files.partition("/")[0]


TARGETS = (
    Target("run: settings", "run/settings.json", (EVALUATE, RESUME, REPORT, REPORT, EXPORT), 2),
    Target("run: scenario", "run/scenario.toml", (EVALUATE, RESUME, REPORT, EXPORT), 2),
    Target("run: checkpoint", "run/checkpoint.pt", (EVALUATE, EVALUATE, RESUME), 3),
    Target("run: tables", "run/*.csv", (REPORT, REPORT, REPORT, RESUME), 2),
    Target("run: demonstrations", "run/demonstrations.npz", (RESUME,), 2),
    Target("run: experts, probes", "run/[ep][xr]*s.json", (RESUME, REPORT), 0.5),
    Target("run: evaluation", "run/evaluation.json", (REPORT, REPORT, REPORT, EVALUATE), 2),
    Target("run: routes", "run/routes.json", (REPORT, REPORT, REPORT, EVALUATE), 2),
    Target("run: sed, renewed", "run/*/**/*.*", (RESUME,), 0.5),
    Target("sed: results", "sed/results.json", (SHOW, f"{SHOW} --json"), 3),
    Target("sed: settings", "sed/settings.json", (SHOW, SHOW, SED, RECORD), 2),
    Target("sed: demonstrations", "sed/demonstrations.npz", (DEMONSTRATED,), 2),
    Target("sed: prompts, answers", "sed/*s/*.*", (SED, RECORD), 0.5),
    Target("scenario: settings", "scenario/scenario.toml", ("scenario check scenario",), 3),
    Target("scenario: answers", "scenario/answers/*.md", (RECORDED,), 0.5),
    Target("scenario: own routes", "scenario/own.rou.xml", (OWN_ROUTES,), 2),
    Target("batch: grid", "batch/batch.json", (STATUS, STATUS, STATUS, OF_BATCH, OF_BATCH, RETRY), 3),
    Target("batch: summaries", "batch/summaries/*.json", (STATUS, OF_BATCH), 2),
    Target("batch: failed cells", "batch/failed/*.json", (STATUS, OF_BATCH)),
    Target("batch: runs", "batch/runs/*/*.*", (STATUS, OF_BATCH)),
    Target("batch: scenarios", "batch/scenarios/*/*.*", (RETRY,), 0.4),
    Target("batch: experiment file", "batch.toml", ("batch batch.toml --out new --dry-run",)),
    Target("cache: networks", "cache/networks/*/*", ("network show small", "network show small", EVALUATE), 2),
    Target("cache: times, demand", "cache/[td][re]*/**/*.*", (EVALUATE, EVALUATE, AGAIN)),
    Target("cache: results", "cache/[dp]r*/*.*", (AGAIN,), 0.5),
    Target("cache: names", "cache/names/*.json", ("network build small", "network show small")),
    Target("cache: checksums", "cache/checksums/n*", ("network show small",)),
)


def make(folder: Path) -> None:
    """Make the files that cases damage."""
    from relid_sumo import load_scenario  # noqa: PLC0415 - after the variable of the cache is set
    from relid_sumo.base import files  # noqa: PLC0415
    from relid_sumo.cli.main import main  # noqa: PLC0415
    from relid_sumo.scenario.files import placed, write_scenario  # noqa: PLC0415
    from relid_sumo.sed import run_folder  # noqa: PLC0415

    def command(words: str) -> None:
        with Path(os.devnull).open("w", encoding="utf-8") as nothing, redirect_stdout(nothing):
            try:
                main([*words.split(), "--quiet"])
            except SystemExit as end:
                if end.code:
                    raise SystemExit(f"{words}: exit code {end.code}") from None

    os.chdir(folder)
    write_scenario(placed(load_scenario("town", changes=[*CHANGES, *SEEDS])), folder / "scenario")
    command(SED)
    settings = files.read_json(folder / "sed" / "settings.json")
    run_folder.write_json(folder / "sed" / "settings.json", {**settings, "provider": "mailbox"})
    command(RECORD)
    run_folder.write_json(folder / "sed" / "settings.json", settings)
    command(f"{RELED} --out run")
    command(EVALUATE)
    settings = files.read_json(folder / "run" / "settings.json")
    settings["train"]["episodes"] = 3  # so that it can be resumed
    files.write_json(folder / "run" / "settings.json", settings)
    grid = "\n".join(("episodes = 1", "seeds = [0, 1]", "[scenarios.town.settings]", *CHANGES, *SEEDS))
    (folder / "batch.toml").write_text(f"{grid}\n[algorithms.ippo]\n[evaluation]\nseeds = 1\n")
    command("batch batch.toml --out batch")
    (folder / "batch" / "summaries" / "town-ippo-1.json").unlink()
    (folder / "batch" / "runs" / "town-ippo-1").rename(folder / "batch" / "runs" / "town-ippo-1.part")
    files.write_json(folder / "batch" / "failed" / "town-ippo-1.json", FAILED)
    demand = next((folder / "cache" / "demand").rglob("*.rou.xml"))
    shutil.copy(demand, folder / "scenario" / "own.rou.xml")
    command(f"network build {TOWN} --name small")


def case_maker(made: Path, seed: int) -> Callable[[int, Path], forked.Case]:
    """Return the function that makes the case with a number in a folder."""
    targets = [(one, sorted(file for file in made.glob(one.files) if file.is_file())) for one in TARGETS]
    if missing := [one.kind for one, files in targets if not files]:
        raise SystemExit(f"no files to damage: {', '.join(missing)}; make them again with another --files")
    weights = [one.weight for one, _ in targets]

    def case(number: int, place: Path) -> forked.Case:
        rng = random.Random(f"{seed}-{number}")
        target, files = rng.choices(targets, weights)[0]
        file, words = rng.choice(files), rng.choice(target.commands).split()
        used = {"cache", target.folder, *words} & {one.name for one in made.iterdir()}
        for name in (*sorted(used), *(["scenario"] if "scenario" not in used and "sed" in used else [])):
            copy = shutil.copytree if (made / name).is_dir() else shutil.copy
            place.mkdir(exist_ok=True)
            copy(made / name, place / name)
        what = _damage(place / file.relative_to(made), rng)
        in_cache = target.folder == "cache"
        return forked.Case(
            number=number,
            kind=target.kind,
            what=f"{file.relative_to(made)}: {what}",
            words=words,
            place=place,
            names=[file.name, target.folder],
            watched=[] if in_cache else [one for one in place.rglob("*") if one.is_file() and _watched(one, place)],
            environment={"RELID_SUMO_CACHE": str(place / "cache")},
        )

    return case


def _damage(file: Path, rng: random.Random) -> str:
    """Damage a file, and return what was done."""
    chance, content = rng.random(), file.read_bytes()
    if chance < 0.05:
        file.unlink()
        if chance < 0.02:
            return "missing"
        file.mkdir()
        return "a folder in its place"
    what, damaged = mutate.damage(file.name, content, rng)
    file.write_bytes(damaged)
    return what


def _watched(file: Path, place: Path) -> bool:
    """Return whether an error must not change a file."""
    return "cache" not in file.relative_to(place).parts and file.suffix not in {".lock", ".log"}


def main() -> None:
    """Run the cases; exit code 1 if one is wrong."""
    parser = forked.parser(__doc__ or "")
    parser.add_argument("--files", type=Path, metavar="DIR", help="folder of the whole files; made where empty")
    options = parser.parse_args()
    forked.warm()
    with tempfile.TemporaryDirectory(prefix="relid-sumo-files-") as name:
        made = (options.files or Path(name)).absolute()
        made.mkdir(parents=True, exist_ok=True)
        os.environ["RELID_SUMO_CACHE"] = str(made / "cache")
        if not any(made.iterdir()):
            make(made)
        code = forked.fuzz("tools/fuzz_files.py", options, case_maker(made, options.seed))
    sys.exit(code)


if __name__ == "__main__":
    main()
