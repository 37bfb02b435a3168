"""Scenarios, runs, batches, answers and maps of strangers: refused with one message, and nothing outside changes.

Each case makes a hostile folder, runs a command on it and looks at a tree beside it, which no command may touch.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from relid_sumo import load_scenario
from relid_sumo.base.errors import InputError
from relid_sumo.cli.main import main
from relid_sumo.scenario.files import write_scenario

pytestmark = pytest.mark.sumo

TOWN = Path(__file__).parents[3] / "scenarios" / "town" / "town.osm"
SETTINGS = [
    *("demand.rate_vph=300", "demand.warmup_s=60", "horizon_s=400"),
    *("seeds.training=[0, 1]", "seeds.validation=[100]", "seeds.evaluation=[200]"),
]
SECRET = "a secret of the user"
ROUTES = '<routes><vehicle id="v" depart="0"><route edges="a b"/></vehicle></routes>'
DEEP = "[" * 100_000


@dataclass(frozen=True)
class Places:
    """Where a case happens.

    Attributes
    ----------
    here
        The hostile folder, a copy of `kind`.
    outside
        The user's own tree: nothing in it may be read into the answer, written or deleted.
    """

    here: Path
    outside: Path


@dataclass(frozen=True)
class Case:
    """One hostile folder.

    Attributes
    ----------
    kind
        What it is a copy of: scenario, run, sed, batch.
    make
        Makes it hostile.
    words
        The command; HERE, FILE and OUT stand for the folder, a file beside it, and a new folder.
    said
        What its message says; where empty, it ends well or with any one message.
    """

    kind: str
    make: Callable[[Places], object]
    words: str
    said: str = ""


def replace(file: str, old: str, new: str) -> Callable[[Places], object]:
    def make(p: Places) -> None:
        text = (p.here / file).read_text()
        changed = re.sub(old, lambda _: new.format(outside=p.outside), text, count=1, flags=re.MULTILINE)
        assert changed != text
        (p.here / file).write_text(changed)

    return make


def write(file: str, content: str | bytes) -> Callable[[Places], object]:
    def make(p: Places) -> None:
        (p.here / file).parent.mkdir(parents=True, exist_ok=True)
        (p.here / file).write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def link(file: str, target: str) -> Callable[[Places], object]:
    """Put a link in the place of a file; its target is relative to the tree outside."""

    def make(p: Places) -> None:
        place = p.here / file
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        place.symlink_to(p.outside / target)

    return make


def pipe(file: str) -> Callable[[Places], object]:
    def make(p: Places) -> None:
        (p.here / file).parent.mkdir(parents=True, exist_ok=True)
        (p.here / file).unlink(missing_ok=True)
        os.mkfifo(p.here / file)

    return make


def both(*parts: Callable[[Places], object]) -> Callable[[Places], object]:
    return lambda p: [part(p) for part in parts]


def edit(file: str, change: Callable[[dict[str, object], Places], object]) -> Callable[[Places], object]:
    """Change a JSON file."""

    def make(p: Places) -> None:
        content = json.loads((p.here / file).read_text())
        change(content, p)
        (p.here / file).write_text(json.dumps(content))

    return make


class Planted:
    """Writes a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.file, "planted"))


def checkpoint(change: Callable[[dict[str, object], Places], object]) -> Callable[[Places], object]:
    def make(p: Places) -> None:
        file = p.here / "checkpoint.pt"
        state = torch.load(file, weights_only=True)
        torch.save(change(state, p) or state, file)

    return make


def arrays(meta: str) -> bytes:
    out = io.BytesIO()
    np.savez(out, meta=np.asarray(meta))
    return out.getvalue()


def bomb(unpacked: int) -> bytes:
    """Return an .npz whose header says that it is large, of a few bytes."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("meta.npy", "w", force_zip64=True) as one,
    ):
        for _ in range(unpacked >> 24):
            one.write(bytes(1 << 24))
    return out.getvalue()


CHECK, TRAIN = "scenario check HERE", "train HERE --out OUT --episodes 2"
NETWORK, OWN = r'^network = ".*"$', r"^# route_file =$"
LAUGHS = (
    '<!DOCTYPE osm [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><osm><node id="1" lat="0" lon="&b;"/></osm>'
)

SCENARIOS = {
    "routes-abs": Case(
        "scenario",
        replace("scenario.toml", OWN, 'route_file = "{outside}/own.rou.xml"'),
        CHECK,
        "demand.route_file = .*lies outside",
    ),
    "routes-up": Case(
        "scenario",
        replace("scenario.toml", OWN, 'route_file = "../outside/own.rou.xml"'),
        CHECK,
        "demand.route_file = .*lies outside",
    ),
    "routes-up-and-back": Case(
        "scenario", replace("scenario.toml", OWN, 'route_file = "../HERE/own.rou.xml"'), CHECK, "lies outside"
    ),
    "routes-etc": Case("scenario", replace("scenario.toml", OWN, 'route_file = "/etc/passwd"'), CHECK, "lies outside"),
    "routes-link": Case(
        "scenario",
        both(link("own.rou.xml", "own.rou.xml"), replace("scenario.toml", OWN, 'route_file = "own.rou.xml"')),
        CHECK,
        "a link in .* leads out",
    ),
    "routes-linked-folder": Case(
        "scenario",
        both(link("data", "."), replace("scenario.toml", OWN, 'route_file = "data/own.rou.xml"')),
        CHECK,
        "a link in .* leads out",
    ),
    "routes-pipe": Case(
        "scenario",
        both(pipe("own.rou.xml"), replace("scenario.toml", OWN, 'route_file = "own.rou.xml"')),
        CHECK,
        "neither a file nor a folder",
    ),
    "routes-folder": Case(
        "scenario",
        both(write("own.rou.xml/x", ""), replace("scenario.toml", OWN, 'route_file = "own.rou.xml"')),
        CHECK,
        "no such route file",
    ),
    "routes-empty-name": Case("scenario", replace("scenario.toml", OWN, 'route_file = ""'), CHECK, "no path"),
    "routes-null": Case("scenario", replace("scenario.toml", OWN, 'route_file = "a\\u0000b"'), CHECK, "no path"),
    "routes-long": Case("scenario", replace("scenario.toml", OWN, f'route_file = "{"x" * 5000}"'), CHECK, "no path"),
    "routes-two-files": Case(
        "scenario",
        replace("scenario.toml", OWN, 'route_file = "a.xml,{outside}/own.rou.xml"'),
        CHECK,
        "no such route file",
    ),
    "routes-ssm": Case(
        "scenario",
        both(
            write("own.rou.xml", '<routes><vType id="t"><param key="device.ssm.file" value="x"/></vType></routes>'),
            replace("scenario.toml", OWN, 'route_file = "own.rou.xml"'),
        ),
        TRAIN,
        "own.rou.xml, line 1: the parameter 'device.ssm.file'",
    ),
    "routes-include": Case(
        "scenario",
        both(
            write("own.rou.xml", '<routes>\n<include href="../outside/own.rou.xml"/></routes>'),
            replace("scenario.toml", OWN, 'route_file = "own.rou.xml"'),
        ),
        TRAIN,
        "own.rou.xml, line 2: <include>",
    ),
    "network-abs": Case(
        "scenario",
        replace("scenario.toml", NETWORK, 'network = "{outside}/map.osm"'),
        CHECK,
        "network = .*lies outside",
    ),
    "network-up": Case(
        "scenario",
        replace("scenario.toml", NETWORK, 'network = "../outside/map.osm"'),
        CHECK,
        "network = .*lies outside",
    ),
    "network-of-the-folder-one-is-in": Case(
        "scenario", replace("scenario.toml", NETWORK, 'network = "maps/map.osm"'), CHECK, "there is no such file"
    ),
    "network-link": Case("scenario", link("town.osm", "map.osm"), CHECK, "a link in .* leads out"),
    "network-named-link": Case(
        "scenario",
        both(link("orlando", "map.osm"), replace("scenario.toml", NETWORK, 'network = "orlando"')),
        CHECK,
        "a link in .* leads out",
    ),
    "network-dots": Case(
        "scenario", replace("scenario.toml", NETWORK, 'network = ".."'), CHECK, "network = '..': lies outside"
    ),
    "network-passwd": Case(
        "scenario", replace("scenario.toml", NETWORK, 'network = "/etc/passwd"'), CHECK, "lies outside"
    ),
    "network-null": Case("scenario", replace("scenario.toml", NETWORK, 'network = "a\\u0000b.osm"'), CHECK, "no path"),
    "network-surrogate": Case(
        "scenario", replace("scenario.toml", NETWORK, 'network = "\\uD800.osm"'), CHECK, "not TOML"
    ),
    "network-url": Case(
        "scenario",
        replace("scenario.toml", NETWORK, 'network = "http://127.0.0.1:9/x.osm"'),
        CHECK,
        "there is no such file",
    ),
    **{
        f"name-{number}": Case(
            "scenario",
            replace("scenario.toml", r'^name = ".*"$', f"name = {json.dumps(name)}"),
            CHECK,
            "name = .*(a name|this name)",
        )
        for number, name in enumerate(
            (
                "..",
                ".",
                "../x",
                "a/b",
                "/etc",
                "-x",
                ".hidden",
                "x.part",
                "nul",
                "con.txt",
                "a\nb",
                "\u001b[2J",
                "a b",
                "",
                "x" * 300,
                "a\u202eb",
            )
        )
    },
    "place": Case(
        "scenario",
        replace("scenario.toml", r'^name = ".*"$', 'name = "x"\n__folder__ = "{outside}"'),
        CHECK,
        "unknown key '__folder__'",
    ),
    "escape-in-a-key": Case(
        "scenario",
        replace("scenario.toml", r'^name = ".*"$', 'name = "x"\n"\\u001b[31mred" = 1'),
        CHECK,
        r"unknown key '\\x1b\[31mred'",
    ),
    "toml-link": Case("scenario", link("scenario.toml", "scenario.toml"), CHECK, "a link in .* leads out"),
    "toml-pipe": Case("scenario", pipe("scenario.toml"), CHECK, "there is no scenario"),
    "toml-folder": Case(
        "scenario",
        both(lambda p: (p.here / "scenario.toml").unlink(), write("scenario.toml/x", "")),
        CHECK,
        "there is no scenario",
    ),
    "toml-deep": Case("scenario", write("scenario.toml", f"x = {DEEP}"), CHECK, "not usable TOML|not TOML"),
    "toml-digits": Case("scenario", write("scenario.toml", f"x = {'9' * 10_000}"), CHECK, "not usable TOML"),
    "toml-binary": Case("scenario", write("scenario.toml", bytes(range(256))), CHECK, "not UTF-8 text"),
    "toml-large": Case("scenario", write("scenario.toml", "# " + "x" * (17 << 20)), CHECK, "larger than 16 MiB"),
    "seed-digits": Case(
        "scenario", replace("scenario.toml", r"^training = .*$", f"training = [{'9' * 5000}]"), CHECK, "not usable TOML"
    ),
    "horizon-nan": Case(
        "scenario", replace("scenario.toml", r"^horizon_s = .*$", "horizon_s = nan"), CHECK, "horizon_s"
    ),
    **{
        f"{key}-large": Case(
            "scenario",
            replace("scenario.toml", rf"^{key} = .*$", f"{key} = {value}"),
            CHECK,
            f"{key}.* than or equal to",
        )
        for key, value in (
            ("warmup_s", "1e308"),
            ("horizon_s", "1e300"),
            ("profile", "[[-1e308, 1e308], [1e308, 1e308]]"),
            ("rate_vph", "1e308"),
            ("fringe_factor", "1e308"),
            ("min_distance_m", "1e308"),
            ("step_length_s", "1e-12"),
            ("training", f"[{10**30}]"),
        )
    },
    "vehicles-many": Case(
        "scenario",
        both(
            replace("scenario.toml", r"^rate_vph = .*$", "rate_vph = 1e6"),
            replace("scenario.toml", r"^horizon_s = .*$", "horizon_s = 604800.0"),
        ),
        CHECK,
        "background vehicles are more than",
    ),
    "templates": Case(
        "scenario",
        replace("scenario.toml", r'^name = ".*"$', 'name = "x"\ntemplates = "{outside}"'),
        CHECK,
        "unknown key 'templates'",
    ),
}

SED = "sed run HERE --llm recorded --out OUT"
COPY = "train HERE --out OUT --episodes 2"
HEAD = "---\nvehicles: agent0\n---\n"
ANSWERS = {
    "answer-link": Case(
        "scenario", link("answers/subset1-round1-sample1-0.md", "notes.md"), SED, "a link that leads out"
    ),
    "answer-link-copied": Case(
        "scenario", link("answers/subset1-round1-sample1-0.md", "notes.md"), COPY, "a link that leads out"
    ),
    "answers-link": Case("scenario", link("answers", "."), SED, "a link in .* leads out"),
    "answers-link-copied": Case("scenario", link("answers", "."), COPY, "a link in .* leads out"),
    "answer-in-a-linked-folder": Case(
        "scenario", both(write("answers/x.md", HEAD), link("answers/more", ".")), COPY, "a link that leads out"
    ),
    "answer-link-to-nothing": Case("scenario", link("answers/x.md", "new.md"), COPY, "a link that leads out"),
    "answer-link-chain": Case(
        "scenario",
        both(
            link("step", "notes.md"),
            write("answers/y.md", HEAD),
            lambda p: (p.here / "answers/x.md").symlink_to("../step"),
        ),
        COPY,
        "a link that leads out",
    ),
    "answer-pipe": Case("scenario", pipe("answers/x.md"), SED, "neither a file nor a folder"),
    "answer-folder": Case("scenario", write("answers/x.md/y", ""), SED, "not a recorded answer, a file"),
    "answer-large": Case(
        "scenario", write("answers/x.md", "x" * (5 << 20)), SED, "not a recorded answer, a file of at most 4 MiB"
    ),
    "answer-without-header": Case(
        "scenario", write("answers/subset1-round1-sample1-0.md", "no header"), SED, "not a recorded answer"
    ),
    "answer-binary": Case("scenario", write("answers/subset1-round1-sample1-0.md", b"\xff\xfe"), SED, "not UTF-8 text"),
    "record-into-a-link": Case("scenario", both(link("answers", ".")), "sed record SED HERE", "a link in .* leads out"),
    "record-over-a-link": Case(
        "scenario", link("answers/x.md", "notes.md"), "sed record SED HERE", "a link that leads out"
    ),
}

EVALUATE, RESUME, REPORT = (
    "evaluate HERE --seeds 1 --baselines shortest",
    "train --resume HERE --evaluate 0",
    "report HERE --out FILE.html",
)
RUNS = {
    **{
        f"{file}-link{number}": Case("run", link(file, target), words, "a link that leads out")
        for file, target in (
            ("scenario.toml", "scenario.toml"),
            ("settings.json", "notes.md"),
            ("checkpoint.pt", "notes.md"),
            ("checkpoint.pt.part", "notes.md"),
            ("metrics.csv", "notes.md"),
            ("timing.csv", "notes.md"),
            ("tensorboard", "."),
            ("tensorboard/events.out", "notes.md"),
            ("demonstrations.npz", "notes.md"),
            ("evaluation.json", "notes.md"),
            ("routes.json", "notes.md"),
            ("rounds.csv", "notes.md"),
            ("answers/x.md", "notes.md"),
            ("sed", "."),
            ("run.lock", "notes.md"),
        )
        for number, words in enumerate((EVALUATE, RESUME, REPORT))
    },
    **{
        f"new-run-lock-{number}": Case("empty", link("run.lock", file), "train SCENARIO --algo ippo --out HERE --episodes 2", "a link")
        for number, file in enumerate(("notes.md", "new.md"))
    },
    "run-routes": Case("run", replace("scenario.toml", OWN, 'route_file = "{outside}/own.rou.xml"'), EVALUATE, "lies outside"),
    "run-network": Case("run", replace("scenario.toml", NETWORK, 'network = "{outside}/map.osm"'), EVALUATE, "lies outside"),
    "run-network-resumed": Case("run", replace("scenario.toml", NETWORK, 'network = "../outside/map.osm"'), RESUME, "lies outside"),
    "run-demonstrations": Case(
        "run",
        both(
            edit("settings.json", lambda c, p: c["train"].update(algo="bc", demonstrations=f"{p.outside}/demonstrations.npz")),  # type: ignore[attr-defined]
            lambda p: (p.here / "checkpoint.pt").unlink(),
        ),
        RESUME,
        "train.demonstrations = .*outside the run folder",
    ),
    "pickle": Case("run", checkpoint(lambda state, p: {**state, "learner": Planted(p.outside / "planted")}), EVALUATE, "checkpoint.pt cannot be read"),
    "pickle-resumed": Case("run", checkpoint(lambda state, p: {**state, "learner": Planted(p.outside / "planted")}), RESUME, "checkpoint.pt cannot be read"),
    "bare-pickle": Case("run", lambda p: (p.here / "checkpoint.pt").write_bytes(pickle.dumps(Planted(p.outside / "planted"))), EVALUATE, "checkpoint.pt cannot be read"),
    "checkpoint-cut": Case("run", lambda p: (p.here / "checkpoint.pt").write_bytes((p.here / "checkpoint.pt").read_bytes()[:2000]), EVALUATE, "checkpoint.pt cannot be read"),
    "checkpoint-list": Case("run", lambda p: torch.save([1], p.here / "checkpoint.pt"), EVALUATE, "no checkpoint of a run"),
    "checkpoint-empty": Case("run", checkpoint(lambda *_: {"update": 1, "episodes": 1}), EVALUATE, "does not fit the run"),
    "checkpoint-text": Case("run", checkpoint(lambda state, _: {**state, "episodes": "x"}), RESUME, "no checkpoint of a run"),
    "weights-of-another-shape": Case("run", checkpoint(lambda state, _: state["learner"]["actor"].update({"slot.0.weight": torch.zeros(1)})), EVALUATE, "does not fit the run"),  # type: ignore[index]
    "weights-nan": Case("run", checkpoint(lambda state, _: state["learner"]["actor"]["slot.0.bias"].fill_(np.nan).shape and None), EVALUATE, "does not fit the run"),  # type: ignore[index]
    "weights-complex": Case("run", checkpoint(lambda state, _: state["learner"].update(actor={name: value.to(torch.complex64) for name, value in state["learner"]["actor"].items()})), EVALUATE, "are no real numbers"),  # type: ignore[attr-defined, index]
    "weights-more": Case("run", checkpoint(lambda state, _: state["learner"]["actor"].update({"x": torch.zeros(1)})), EVALUATE, "does not fit the run"),  # type: ignore[index]
    "weights-resumed": Case("run", both(edit("settings.json", lambda c, _: c["train"].update(episodes=4)), checkpoint(lambda state, _: state["learner"].pop("critic") and None)), RESUME, "does not fit the run"),  # type: ignore[attr-defined]
    "settings-deep": Case("run", write("settings.json", DEEP), EVALUATE, "not JSON"),
    "settings-digits": Case("run", write("settings.json", f'{{"format": {"9" * 10_000}}}'), EVALUATE, "not JSON"),
    "settings-list": Case("run", write("settings.json", "[]"), EVALUATE, "contains no JSON object"),
    "settings-surrogate": Case("run", edit("settings.json", lambda c, _: c.update(network_key="\ud800")), EVALUATE),
    "settings-escape": Case("run", edit("settings.json", lambda c, _: c.update({"\u001b[31mred": 1})), EVALUATE, r"unknown key '\\x1b\[31mred'"),
    "settings-algo": Case("run", edit("settings.json", lambda c, _: c["train"].update(algo="os.system")), EVALUATE, "algo = 'os.system'"),  # type: ignore[attr-defined]
    "metrics-inf": Case("run", write("metrics.csv", "episodes,mean_return\ninf,nan\n"), REPORT, "not a number"),
    "metrics-binary": Case("run", write("metrics.csv", bytes(range(256))), REPORT, "cannot be read"),
    "metrics-escape": Case("run", write("metrics.csv", "episodes,mean_return\n\x1b[31m,1\n"), REPORT, r"episodes = '\\x1b\[31m': not a number"),
    "evaluation-deep": Case("run", write("evaluation.json", DEEP), REPORT, "not JSON"),
    "evaluation-short": Case("run", write("evaluation.json", '{"horizon_s": 1, "traffic_seeds": [1], "agents": ["a"], "policies": {}}'), REPORT, "'trained', is missing"),
    "scenario-name-in-a-report": Case("run", replace("scenario.toml", r'^name = ".*"$', 'name = "\\\\input{{/etc/passwd}}"'), "report HERE --out FILE.tex", "a name"),
    "algorithm-formula": Case("run", edit("settings.json", lambda c, _: c["train"].update(algo="=1+1")), "report HERE --out FILE.csv", "not those of a training run"),  # type: ignore[attr-defined]
    "seed-text": Case("run", edit("settings.json", lambda c, _: c["train"].update(seed="x")), REPORT, "not those of a training run"),  # type: ignore[attr-defined]
    "policy-markup": Case("run", write("evaluation.json", '{"horizon_s": 1, "traffic_seeds": [1], "agents": ["a"], "policies": {"[/]": 1}}'), REPORT, "policies"),
    "agent-markup": Case("run", write("evaluation.json", '{"horizon_s": 1, "traffic_seeds": [1], "agents": ["$\\\\frac{"], "policies": {}}'), REPORT, "agents"),
    "run-pipe": Case("run", pipe("rounds.csv"), REPORT, "neither a file nor a folder"),
    "export-over-a-link": Case("run", link("checkpoint.pt", "notes.md"), "export HERE --out FILE.rou.xml", "a link that leads out"),
    "view-over-a-link": Case("run", link("tensorboard", "."), "view HERE --record FILE.png", "a link that leads out"),
}  # fmt: skip

PLACE = "../../outside/notes"
SEDS = {
    **{
        f"sed-{file.replace('/', '-')}{number}": Case("sed", link(file, target), words, "a link that leads out")
        for file, target in (("answers", "."), ("prompts", "."), ("programs", "."), ("results.json", "notes.md"), ("usage.json", "notes.md"), ("routes.png", "notes.md"), ("run.lock", "notes.md"))
        for number, words in enumerate(("sed show HERE", "sed run SCENARIO --llm template --out HERE", "sed record HERE SCENARIO"))
    },
    **{
        f"new-sed-lock-{number}": Case("empty", link("run.lock", file), "sed run SCENARIO --llm template --out HERE", "a link that leads out")
        for number, file in enumerate(("notes.md", "new.md"))
    },
    "place-show": Case("sed", edit("results.json", lambda c, _: c["subsets"][0]["attempts"][0].update(place=PLACE)), "sed show HERE", "place = "),  # type: ignore[index]
    "no-provider": Case("sed", write("settings.json", '{"settings": {}}'), "sed record HERE SCENARIO", "settings.json: provider is None"),
    "place-record": Case("sed", both(edit("settings.json", lambda c, _: c.update(provider="mailbox")), edit("results.json", lambda c, _: c["subsets"][0]["attempts"][0].update(place=PLACE))), "sed record HERE SCENARIO", "place = "),  # type: ignore[index]
    "vehicles": Case("sed", edit("results.json", lambda c, _: c["subsets"][0].update(vehicles=["a\n---\n"])), "sed show HERE", "vehicles"),  # type: ignore[index]
    "edge": Case("sed", edit("results.json", lambda c, _: [one.update(routes={"agent0": ["nowhere"]}) for s in c["subsets"] for one in s["attempts"]]), "sed show HERE", "has the edge 'nowhere'"),  # type: ignore[attr-defined]
    "route-empty": Case("sed", edit("results.json", lambda c, _: [one.update(routes={"nobody": []}) for s in c["subsets"] for one in s["attempts"]]), "sed show HERE", "at least 1 item"),  # type: ignore[attr-defined]
    "results-shape": Case("sed", write("results.json", "{}"), "sed show HERE", "another version"),
    "results-deep": Case("sed", write("results.json", DEEP), "sed show HERE", "not JSON"),
    "results-markup": Case("sed", edit("results.json", lambda c, _: c.update(scenario="[/]")), "sed show HERE", "scenario = '\\[/\\]'"),
    "problem-markup": Case("sed", edit("results.json", lambda c, _: [one.update(problem="[/] \u001b[31m") for s in c["subsets"] for one in s["attempts"]]), "sed show HERE"),  # type: ignore[attr-defined]
    "sed-network": Case("sed", edit("settings.json", lambda c, p: c["scenario"].update(network=f"{p.outside}/map.osm")), "sed show HERE", "network = .*lies outside"),  # type: ignore[attr-defined]
    "sed-routes": Case("sed", edit("settings.json", lambda c, p: c["scenario"]["demand"].update(route_file="../outside/own.rou.xml")), "sed show HERE", "route_file = .*lies outside"),  # type: ignore[index]
    "sed-place": Case("sed", edit("settings.json", lambda c, p: c["scenario"].update(__folder__=str(p.outside))), "sed show HERE", "unknown key '__folder__'"),  # type: ignore[attr-defined]
    "sed-no-scenario": Case("sed", edit("settings.json", lambda c, _: c.pop("scenario")), "sed show HERE", "settings.json"),
}  # fmt: skip

GIVEN = "train SCENARIO --algo bc --out OUT --episodes 2 --demonstrations HERE/demonstrations.npz"
DEMONSTRATIONS = {
    "demonstrations-objects": Case("sed", lambda p: np.savez(p.here / "demonstrations.npz", meta=np.array([Planted(p.outside / "planted")], dtype=object)), GIVEN, "not a file of demonstrations"),
    "demonstrations-pickle": Case("sed", lambda p: (p.here / "demonstrations.npz").write_bytes(pickle.dumps(Planted(p.outside / "planted"))), GIVEN, "not a file of demonstrations"),
    "demonstrations-bomb": Case("sed", write("demonstrations.npz", bomb(5 << 30)), GIVEN, "more than 4096 MiB of arrays"),
    "demonstrations-empty": Case("sed", write("demonstrations.npz", arrays(meta=json.dumps({"format": 3}))), GIVEN, "not a file of demonstrations"),
    "demonstrations-meta": Case("sed", write("demonstrations.npz", arrays(meta=DEEP)), GIVEN, "not a file of demonstrations"),
    "demonstrations-text": Case("sed", write("demonstrations.npz", "x" * 1000), GIVEN, "not a file of demonstrations"),
}  # fmt: skip

STATUS, RETRY, AGAIN, DRY = (
    "batch status HERE",
    "batch retry HERE",
    "batch HERE.toml --out HERE",
    "batch HERE.toml --out HERE --dry-run",
)


def cell(**changes: object) -> Callable[[Places], object]:
    return edit("batch.json", lambda c, _: c["plan"]["cells"][0].update(changes))  # type: ignore[index]


BATCHES = {
    **{
        f"cell-{number}": Case("batch", cell(name=name), words, "name = ")
        for number, (name, words) in enumerate(
            (name, words) for name in ("..", ".", "../../outside/x", "/etc/x", "a/b", "x.part", "-x", "a\nb", "x" * 400) for words in (STATUS, RETRY)
        )
    },
    "cell-scenario": Case("batch", cell(scenario=".."), RETRY, "scenario = "),
    "cell-scenario-unknown": Case("batch", cell(scenario="other"), RETRY, "'other' has no source"),
    "cell-algorithm": Case("batch", cell(algorithm="../x"), RETRY, "algorithm = "),
    "cell-twice": Case("batch", edit("batch.json", lambda c, _: c["plan"].update(cells=c["plan"]["cells"] * 2)), RETRY, "two have the same name"),  # type: ignore[index, attr-defined]
    "cell-demonstrations": Case("batch", edit("batch.json", lambda c, p: c["plan"]["cells"][0]["train"].update(algo="bc", demonstrations=f"{p.outside}/demonstrations.npz")), RETRY, "demonstrations = .*outside the batch"),  # type: ignore[index]
    "source-label": Case("batch", edit("batch.json", lambda c, _: c["plan"].update(sources={"..": {"source": "town"}})), STATUS, "sources"),  # type: ignore[attr-defined]
    "source-path": Case("batch", both(edit("batch.json", lambda c, p: c["plan"]["sources"]["town"].update(source=f"{p.outside}/map.osm")), lambda p: shutil.rmtree(p.here / "scenarios")), RETRY, "sources.town = .*outside the batch"),  # type: ignore[index]
    "source-folder": Case("batch", both(edit("batch.json", lambda c, p: c["plan"]["sources"]["town"].update(source=str(p.outside))), lambda p: shutil.rmtree(p.here / "scenarios")), RETRY, "sources.town = .*outside the batch"),  # type: ignore[index]
    "source-settings": Case("batch", both(edit("batch.json", lambda c, p: c["plan"]["sources"]["town"].update(settings={"demand": {"route_file": f"{p.outside}/own.rou.xml"}})), lambda p: shutil.rmtree(p.here / "scenarios")), RETRY, "route_file = .*lies outside"),  # type: ignore[index]
    "scenario-routes": Case("batch", replace("scenarios/town/scenario.toml", OWN, 'route_file = "{outside}/own.rou.xml"'), RETRY, "route_file = .*lies outside"),
    "scenario-network": Case("batch", replace("scenarios/town/scenario.toml", NETWORK, 'network = "{outside}/map.osm"'), RETRY, "network = .*lies outside"),
    **{
        f"batch-{file.replace('/', '-')}-{number}": Case("batch", link(file, target), words, "a link that leads out")
        for file, target in (
            ("batch.lock", "notes.md"),
            ("batch.json", "notes.md"),
            ("runs", "."),
            ("runs/town-ippo-0.part", "."),
            ("scenarios", "."),
            ("scenarios/town", "."),
            ("scenarios/town/scenario.toml", "scenario.toml"),
            ("scenarios/town/speed.json", "notes.md"),
            ("summaries", "."),
            ("failed", "."),
            ("logs", "."),
            ("logs/town-ippo-0.log", "notes.md"),
        )
        for number, words in enumerate((STATUS, RETRY, AGAIN, DRY))
    },
    "endless": Case("batch", write("scenarios/town/speed.json", '{"micro": 1e308}'), RETRY, "speed.json"),
    "speed": Case("batch", write("scenarios/town/speed.json", '{"micro": "x", "os": 1}'), RETRY, "speed.json"),
    "failed-shape": Case("batch", write("failed/town-ippo-0.json", "{}"), STATUS),
    "failed-markup": Case("batch", write("failed/town-ippo-0.json", '{"error": "[/] \\u001b[31m"}'), STATUS),
    "summary-name": Case("batch", write("summaries/[/].json", "{}"), REPORT),
    "batch-deep": Case("batch", write("batch.json", DEEP), STATUS, "not JSON"),
    "label": Case("batch", lambda p: Path(f"{p.here}.toml").write_text('[scenarios.".."]\nsource = "town"\n[algorithms.ippo]'), AGAIN, r"scenarios\.\.\."),
    "label-dry": Case("batch", lambda p: Path(f"{p.here}.toml").write_text('[scenarios.".."]\nsource = "town"\n[algorithms.ippo]'), DRY, r"scenarios\.\.\."),
    "label-path": Case("batch", lambda p: Path(f"{p.here}.toml").write_text('[scenarios."a/b"]\nsource = "town"\n[algorithms.ippo]'), DRY, "scenarios.a/b"),
    "algorithm-label": Case("batch", lambda p: Path(f"{p.here}.toml").write_text('scenarios = ["town"]\n[algorithms.".."]\nalgo = "ippo"'), DRY, r"algorithms\.\.\."),
}  # fmt: skip

ENTRY = '[extract]\nfile = "{file}"\nsha256 = "{zero}"\ndate = "2025-01-01"\narea = [0, 0, 1, 1]\n'


def network_entry(file: str = "x.osm", title: str = "x", more: str = "") -> Callable[[Places], object]:
    text = f'title = "{title}"\ndescription = "x"\n{more}\n' + ENTRY.format(file=file, zero="0" * 64)
    return write("networks/mine/network.toml", text)


SHOW = "network show mine"
NETWORKS = {
    **{
        f"extract-{number}": Case("empty", network_entry(file), SHOW, "extract.file = ")
        for number, file in enumerate(("../outside/map.osm", "/etc/passwd", "/etc/x.osm", "..", "a/b.osm", "-x.osm", ".x.osm", "x.xml", "x\\u0000.osm"))
    },
    "title": Case("empty", network_entry(title="\\u001b[31mred"), SHOW, "title = "),
    "toml-pipe": Case("empty", pipe("networks/mine/network.toml"), SHOW, "there is no network 'mine'"),
    "toml-link": Case("empty", link("networks/mine/network.toml", "scenario.toml"), SHOW, "there is no network 'mine'"),
    "toml-linked-folder": Case("empty", link("networks", "."), "network show folder", "there is no network 'folder'"),
    "unknown-key": Case("empty", network_entry(more='netconvert = "--output-file /tmp/x"'), SHOW, "unknown key 'netconvert'"),
    "type-files": Case("empty", network_entry(more='[options]\ntype_files = "/tmp/x"'), SHOW, "unknown key 'options.type_files'"),
    "box": Case("empty", network_entry(more="[options]\nbbox = [nan, nan, nan, nan]"), SHOW),
}  # fmt: skip


def street(tag: str, value: str) -> str:
    return (
        '<osm><node id="1" lat="0" lon="0"/><node id="2" lat="0" lon="0.01"/><way id="3"><nd ref="1"/><nd ref="2"/>'
        f'<tag k="highway" v="residential"/><tag k="{tag}" v="{value}"/></way></osm>'
    )


BUILD = "network build HERE/map.osm"
MAPS = {
    "laughs": Case("empty", write("map.osm", LAUGHS), BUILD, "line 1: a document type"),
    "external-entity": Case("empty", write("map.osm", '<!DOCTYPE osm [<!ENTITY x SYSTEM "file:///etc/passwd">]><osm>&x;</osm>'), BUILD, "a document type"),
    "external-dtd": Case("empty", write("map.osm", '<!DOCTYPE osm SYSTEM "http://127.0.0.1:9/x.dtd"><osm/>'), BUILD, "a document type"),
    "web-page-type": Case("empty", write("map.osm", '<!DOCTYPE html SYSTEM "file:///etc/passwd"><osm/>'), BUILD, "line 1: a document type"),
    "web-page-type-bare": Case("empty", write("map.osm", f"<!DOCTYPE html>{street('name', 'x')}"), BUILD, "line 1: a document type"),
    "map-pipe": Case("empty", pipe("map.osm"), BUILD, "a pipe or a device"),
    "bomb": Case("empty", write("map.osm.gz", gzip.compress(b"<osm>" + b" " * (96 << 20))), f"{BUILD}.gz", "more than 100 times its size"),
    "bomb-bz2": Case("empty", write("map.osm.bz2", bz2.compress(b"<osm>" + b" " * (96 << 20))), f"{BUILD}.bz2", "more than 100 times its size"),
    "digits": Case("empty", write("map.osm", f'<osm><node id="{"9" * 5000}" lat="0" lon="0"/></osm>'), BUILD, "map.osm, line 1"),
    "large-number": Case("empty", write("map.osm", '<osm><node id="99999999999999999999" lat="0" lon="0"/></osm>'), BUILD, "map.osm, line 1"),
    "nan": Case("empty", write("map.osm", '<osm><node id="1" lat="nan" lon="0"/></osm>'), BUILD, "map.osm, line 1"),
    "markup-in-a-tag": Case("empty", write("map.osm", street("name", "&quot;/&gt;&lt;include href=&quot;/etc/passwd&quot;/&gt;")), BUILD),
    "option-in-a-tag": Case("empty", write("map.osm", street("highway", "--output-file=/tmp/x")), BUILD),
    "include": Case("empty", write("map.osm", '<osm><include href="/etc/passwd"/></osm>'), BUILD, "there are no roads"),
    "name": Case("empty", write("map.osm", street("name", "x")), f"{BUILD} --name ../x", "cannot be a network's name"),
    "name-dots": Case("empty", write("map.osm", street("name", "x")), f"{BUILD} --name ..", "cannot be a network's name"),
}  # fmt: skip

EVIL = "from pathlib import Path\nPath('{outside}/planted').write_text('x')\ndef evil(*_): return 0\n"


def planted(*more: Callable[[Places], object]) -> Callable[[Places], object]:
    """Put a program that writes outside into the folder."""
    return both(lambda p: (p.here / "evil.py").write_text(EVIL.replace("{outside}", str(p.outside))), *more)


def code(kind: str, file: str, change: Callable[[dict[str, object], str], object], words: str) -> Case:
    """Return a folder whose JSON file names the program."""
    return Case(kind, planted(edit(file, lambda c, p: change(c, f"{p.here}/evil.py:evil"))), words, "names code")


def kind_of(part: str, name: str) -> Callable[[Places], object]:
    return lambda p: (p.here / "scenario.toml").write_text(
        re.sub(
            rf"^\[{part}\]\n",
            f'[{part}]\nkind = "{name}"\n',
            re.sub(r"^kind = .*\n", "", (p.here / "scenario.toml").read_text(), flags=re.MULTILINE),
            flags=re.MULTILINE,
        )
    )


PROGRAMS = {
    **{
        f"{part}-code-{number}": Case("scenario", planted(kind_of(part, name)), words, "names code")
        for part in ("observation", "reward")
        for number, (name, words) in enumerate((("evil.py:evil", CHECK), ("evil.py:evil", TRAIN), ("os:system", TRAIN), ("relid_sumo.base.files:write", CHECK)))
    },
    "run-observation-code": Case("run", planted(kind_of("observation", "evil.py:evil")), EVALUATE, "names code"),
    "run-reward-code": Case("run", planted(kind_of("reward", "evil.py:evil")), RESUME, "names code"),
    "run-algorithm-code": code("run", "settings.json", lambda c, name: c["train"].update(algo=name), EVALUATE),  # type: ignore[attr-defined]
    "run-algorithm-code-resumed": code("run", "settings.json", lambda c, name: c["train"].update(algo=name), RESUME),  # type: ignore[attr-defined]
    "run-provider-code": code("run", "settings.json", lambda c, name: c["train"].update(algo="bc", llm=name), RESUME),  # type: ignore[attr-defined]
    "checkpoint-code": Case("run", planted(checkpoint(lambda state, p: {**state, "policy": {"acts": f"{p.here}/evil.py:evil", "weights": state["learner"]["actor"]}})), EVALUATE, "names code"),  # type: ignore[index]
    "sed-provider-code": code("sed", "settings.json", lambda c, name: c.update(provider=name), "sed record HERE SCENARIO"),
    "batch-algorithm-code": code("batch", "batch.json", lambda c, name: c["plan"]["cells"][0]["train"].update(algo=name), STATUS),  # type: ignore[index]
    "batch-provider-code": code("batch", "batch.json", lambda c, name: c["plan"]["cells"][0]["train"].update(llm=name), RETRY),  # type: ignore[index]
    "batch-baseline-code": code("batch", "batch.json", lambda c, name: c["plan"]["cells"][0]["evaluation"].update(baselines=[name]), RETRY),  # type: ignore[index]
    "batch-observation-code": code("batch", "batch.json", lambda c, name: c["plan"]["sources"]["town"].update(settings={"observation": {"kind": name}}), RETRY),  # type: ignore[index]
}  # fmt: skip

ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # on a terminal
CASES = PROGRAMS | SCENARIOS | ANSWERS | RUNS | SEDS | DEMONSTRATIONS | BATCHES | NETWORKS | MAPS


def command(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def state(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Return what a tree has: content, permissions and time of change of everything in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(folder))] = (hashlib.sha256(content).hexdigest(), about.st_mode, about.st_mtime_ns)
    return found


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folders that hostile ones are made from: a scenario, a run, an SED run, a batch that is not done."""
    root = tmp_path_factory.mktemp("kinds")
    (root / "empty").mkdir()
    (root / "scenario").mkdir()
    shutil.copy(TOWN, root / "scenario")
    changes = {"name": "small", "network": "town.osm"}
    write_scenario(load_scenario("town", changes=SETTINGS).model_copy(update=changes), root / "scenario")
    alone = ("--algo", "ippo", "--curriculum", "micro", "--evaluate", "0")
    assert command("train", root / "scenario", *alone, "--episodes", "2", "--out", root / "run") == 0
    few = ("--rounds", "1", "--samples", "1", "--set", "sed.seeds=1", "--set", "sed.held_out=1")
    assert command("sed", "run", root / "scenario", "--llm", "template", "--out", root / "sed", *few) == 0
    sets = "\n".join(f"{line}" for line in SETTINGS)
    (root / "batch.toml").write_text(
        f"episodes = 2\n[scenarios.town.settings]\n{sets}\n[algorithms.ippo]\n[evaluation]\nseeds = 1\n"
    )
    assert command("batch", root / "batch.toml", "--out", root / "batch", "--quiet") == 0
    shutil.rmtree(root / "batch" / "runs")
    shutil.rmtree(root / "batch" / "summaries")
    return root


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "notes.md").write_text(SECRET)
    (outside / "folder" / "notes.md").write_text(SECRET)
    (outside / "own.rou.xml").write_text(ROUTES)
    (outside / "demonstrations.npz").write_bytes(b"PK")
    (outside / "scenario.toml").write_text(f'name = "{SECRET}"')
    shutil.copy(TOWN, outside / "map.osm")
    (tmp_path / "work" / "maps").mkdir(parents=True)
    shutil.copy(TOWN, tmp_path / "work" / "maps" / "map.osm")
    monkeypatch.chdir(tmp_path / "work")
    yield Places(tmp_path / "here", outside)


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_folder_is_refused_or_harmless(
    name: str,
    places: Places,
    kinds: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = CASES[name]
    shutil.copytree(kinds / case.kind, places.here)
    shutil.copytree(kinds / "scenario", tmp_path / "scenario")
    shutil.copytree(kinds / "sed", tmp_path / "answered")
    for file in (
        tmp_path / "answered" / "settings.json",
        *([places.here / "settings.json"] if case.kind == "sed" else []),
    ):
        file.write_text(file.read_text().replace('"provider": "template"', '"provider": "mailbox"'))
    shutil.copy(kinds / "batch.toml", f"{places.here}.toml")
    case.make(places)
    if (places.here / "networks").is_dir():
        monkeypatch.chdir(places.here)
    before, work, own = state(places.outside), state(Path.cwd()), state(tmp_path / "scenario")
    words = case.words.replace("HERE", str(places.here)).replace("OUT", str(tmp_path / "new"))
    words = words.replace("FILE", str(tmp_path / "file")).replace("SCENARIO", str(tmp_path / "scenario"))
    capfd.readouterr()
    code = command(*words.replace("SED", str(tmp_path / "answered")).split())
    told = "".join(capfd.readouterr())
    assert state(places.outside) == before
    assert state(Path.cwd()) == work
    assert state(tmp_path / "scenario") == own
    assert SECRET not in told
    assert "Traceback" not in told
    assert not ACTS.search(told), told
    if case.said:
        assert code == 2, told
        assert told.count("Error:") == 1, told
        assert re.search(case.said, told.replace("\n", " ")), told
    new = [file for file in (tmp_path / "new").rglob("*") if file.is_file()]
    assert not [file for file in new if SECRET.encode() in file.read_bytes()]


@pytest.mark.parametrize("changed", ["", "horizon_s = 401", "reward.w_d = 0.2", "demand.rate_vph = -1"])
def test_a_dry_run_writes_and_deletes_nothing(
    changed: str, kinds: Path, places: Places, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A grid whose scenario is another one now made the batch forget the one that it had, in a dry run too."""
    shutil.copytree(kinds / "batch", places.here)
    text = (kinds / "batch.toml").read_text()
    if changed:
        key = changed.partition(" ")[0]
        text = re.sub(rf"^{key}.*\n", "", text, flags=re.MULTILINE)
        text = text.replace("[scenarios.town.settings]", f"[scenarios.town.settings]\n{changed}")
    (tmp_path / "batch.toml").write_text(text)
    before = state(tmp_path)
    code = command("batch", tmp_path / "batch.toml", "--out", places.here, "--dry-run")
    assert state(tmp_path) == before
    assert code == (2 if "-1" in changed else 0), capfd.readouterr()
    if changed == "horizon_s = 401":  # and without --dry-run, the scenario of the new grid takes its place
        assert command("batch", tmp_path / "batch.toml", "--out", places.here, "--quiet") == 0
        assert "horizon_s = 401" in (places.here / "scenarios" / "town" / "scenario.toml").read_text()


def test_names_in_a_map_are_shown_as_text(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    evil = "[/red]&#x9b;31mEVIL&#x202e;"
    corners = ("0,0", "0,0.01", "0.01,0.01")
    nodes = "".join(
        f'<node id="{i}" lat="{at.split(",")[0]}" lon="{at.split(",")[1]}"><tag k="{evil}node" v="x"/></node>'
        for i, at in enumerate(corners, 1)
    )
    refs = "".join(f'<nd ref="{i}"/>' for i in (1, 2, 3, 1))
    tags = f'<tag k="highway" v="residential"/><tag k="{evil}way" v="x"/>'
    places.here.mkdir()
    text = f"<osm><remark>{evil}remark</remark>{nodes}<way id='3'>{refs}{tags}</way></osm>"
    (places.here / "map.osm").write_text(text)
    assert command("network", "build", places.here / "map.osm") == 0
    told = "".join(capfd.readouterr())
    assert not ACTS.search(told), told
    for kind in ("node", "way", "remark"):
        assert rf"[/red]\x9b31mEVIL\u202e{kind}" in "".join(told.split()), told


def test_a_dry_run_makes_no_folder(kinds: Path, places: Places, tmp_path: Path) -> None:
    assert command("batch", kinds / "batch.toml", "--out", tmp_path / "new", "--dry-run") == 0
    assert not (tmp_path / "new").exists()


def test_what_the_user_names_is_read_wherever_it_lies(kinds: Path, places: Places) -> None:
    """On the command line, or once before: then a scenario file of the user's may name it."""
    shutil.copytree(kinds / "scenario", places.here)
    (places.here / "town.osm").unlink()
    replace("scenario.toml", NETWORK, 'network = "{outside}/map.osm"')(places)
    with pytest.raises(InputError, match="or name it yourself: relid-sumo network build FILE"):
        load_scenario(places.here)
    assert load_scenario(places.here, changes=[f"network={places.outside}/map.osm"]).network.endswith("map.osm")
    with pytest.raises(InputError, match="lies outside"):
        load_scenario(places.here)
    assert command("network", "build", places.outside / "map.osm") == 0
    assert load_scenario(places.here).network == f"{places.outside}/map.osm"
