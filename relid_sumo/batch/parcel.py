"""Files sent over the network: a scenario to a node, a run folder in both directions."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from relid_sumo.base import cache, safe_paths
from relid_sumo.base import files as base_files
from relid_sumo.base.errors import InputError
from relid_sumo.base.toml import load_toml
from relid_sumo.learn import run_folder
from relid_sumo.network import catalogue
from relid_sumo.runs import layout
from relid_sumo.scenario import kinds
from relid_sumo.scenario.files import ANSWERS, FILE, OWN_FILES, answer_files, note_paths, placed, read_scenario, to_toml
from relid_sumo.scenario.settings import Scenario

EXTRACT, RUN, LOG = "extract/", "run/", "log"
BINARY = {".pt", ".npz", ".png", ".gz", ".bz2"}


def pack_scenario(folder: Path) -> dict[str, bytes]:
    """Return a scenario's files by name: its own in one folder, an extract of the catalogue under ``extract/``."""
    scenario = read_scenario(folder / FILE)
    files: dict[str, bytes] = {}
    source = scenario.folder / scenario.network
    if not source.is_file():
        located = catalogue.locate(scenario.network)
        source = located.source
        if scenario.network in catalogue.known():
            files[EXTRACT + source.name] = source.read_bytes()
        else:  # a name that only this machine knows
            scenario = scenario.model_copy(update={"network_options": located.settings})
    if EXTRACT + source.name not in files:
        files[source.name] = source.read_bytes()
        scenario = scenario.model_copy(update={"network": source.name})
    packed = dict[str, str]()
    for key in OWN_FILES:
        if (name := getattr(scenario.demand, key)) is not None:
            own = scenario.folder / name
            files[own.name] = own.read_bytes()
            packed[key] = own.name
    scenario = scenario.model_copy(update={"demand": scenario.demand.model_copy(update=packed)})
    for answer in answer_files(folder / ANSWERS):
        files[f"{ANSWERS}/{answer.name}"] = answer.read_bytes()
    files[FILE] = to_toml(scenario).encode()
    return files


def unpack_scenario(files: dict[str, bytes], folder: Path) -> None:
    """Write a scenario's files into a folder; an extract goes into the cache, where networks are built from it."""
    for name, content in files.items():
        extract = name.startswith(EXTRACT)
        home = cache.cache_folder() / "osm" if extract else folder
        file = safe_paths.place(home, name.removeprefix(EXTRACT) if extract else name, "a scenario that was sent")
        if not (extract and file.is_file()):
            base_files.write(file, content, binary=file.suffix in BINARY)
    note_paths(kinds.located(load_toml(folder / FILE, Scenario), folder))  # checked by the batch that sent it


def pack_run(folder: Path, log: Path) -> bytes:
    """Return a run folder, which may still grow, and its log.

    The checkpoint is read first. The tables then contain at least its updates, and resuming cuts them to it.
    """
    files = [file for file in folder.rglob("*") if file.is_file() and file.suffix not in {".part", ".lock"}]
    files.sort(key=lambda file: (file.name != run_folder.CHECKPOINT, file))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for file in files:
            tar.add(file, RUN + file.relative_to(folder).as_posix())
        if log.is_file():
            tar.add(log, LOG)
    return buffer.getvalue()


def unpack_run(content: bytes, folder: Path, log: Path, scenario: Path) -> None:
    """Write the content from `pack_run`, the checkpoint last, so that an incomplete folder resumes from the old one.

    The paths in the run's scenario are changed to the scenario's folder on this machine.
    """
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
        members.sort(key=lambda member: member.name == RUN + run_folder.CHECKPOINT)
        for member in members:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is None or (member.name != LOG and not member.name.startswith(RUN)):
                raise InputError(f"a run that was sent: {safe_paths.printable(member.name)} is no file of a run")
            name = member.name.removeprefix(RUN)
            file = log if member.name == LOG else safe_paths.place(folder, name, "a run that was sent")
            if file == folder / FILE:
                base_files.write(file, _here(stream.read(), folder, read_scenario(scenario / FILE)))
            elif file.parent.name == layout.TENSORBOARD:
                grow(file, stream.read())
            else:
                base_files.write(file, stream.read(), binary=file.suffix in BINARY)


def _here(content: bytes, folder: Path, scenario: Scenario) -> bytes:
    """Return a run's scenario.toml with paths of this machine."""
    foreign = folder / f"{FILE}.foreign.part"
    base_files.write(foreign, content)
    here, there = placed(scenario), load_toml(foreign, Scenario)
    demand = there.demand.model_copy(update={key: getattr(here.demand, key) for key in OWN_FILES})
    own = {"network": here.network, "network_options": here.network_options, "demand": demand}
    text = to_toml(there.model_copy(update=own), [run_folder.HEADING])
    foreign.unlink()
    return text.encode()


def grow(file: Path, content: bytes) -> None:
    """Append the missing end of a longer version to a file, because TensorBoard does not follow a replaced file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as out:
        out.write(content[out.tell() :])
