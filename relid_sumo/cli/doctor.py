"""Check what relid_sumo needs on this machine, and how to fix what is missing."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Literal

from relid_sumo.base import cache as base_cache
from relid_sumo.base import files, interpreter, sumo
from relid_sumo.base.errors import InputError, RelidSumoError
from relid_sumo.base.system import LIBRARIES, install_line, missing_libraries
from relid_sumo.base.toml import load_toml
from relid_sumo.network import catalogue
from relid_sumo.sed.programs.layers import Layer
from relid_sumo.sed.programs.sandbox import layer_states, missing_isolation

MINIMUM_PYTHON = (3, 11)
PROGRAMS = ("sumo", "netconvert", "duarouter", "sumo-gui")
INSTALL = "make install (or: pip install -c constraints.txt relid_sumo)"
BUBBLEWRAP = (
    "for a further layer: apt-get install -y bubblewrap (0.8 or newer), and user name spaces that this user may make"
)
LAYER_NAMES: dict[Layer, str] = {
    "calls": "permitted system calls (seccomp)",
    "landlock": "permitted files (Landlock)",
    "bubblewrap": "name spaces of its own (bubblewrap)",
}
XVFB = ("xvfb", "xorg-x11-server-Xvfb")

GIB = 2**30
DISK_FAIL, DISK_WARN = 0.1 * GIB, 2.0 * GIB

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes
    ----------
    name : str
        What was checked.
    status : str
        ``fail``: relid_sumo does not work without it; ``warn``: a part of it does not work; ``ok``.
    found : str
        What was found.
    fix : str
        What to do; "" if there is nothing to do.
    """

    name: str
    status: Status
    found: str
    fix: str = ""


def checks() -> list[Check]:
    """Run all checks and return them in the order in which to fix problems."""
    return [
        python(),
        system_libraries(),
        sumo_programs(),
        sumo_python(),
        torch(),
        display(),
        sandbox(),
        cache(),
        disk("disk, cache", base_cache.cache_folder()),
        disk("disk, here", Path.cwd()),
        extracts(),
    ]


def python() -> Check:
    """Check the version of Python."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < MINIMUM_PYTHON:
        return Check("Python", "fail", found, "make the environment with Python 3.11 or newer")
    return Check("Python", "ok", found)


def system_libraries() -> Check:
    """Check the system libraries that SUMO's wheels need."""
    missing = missing_libraries()
    if missing:
        line = install_line(LIBRARIES[library] for library in missing)
        return Check("system libraries", "fail", f"missing: {', '.join(missing)}", line)
    return Check("system libraries", "ok", "all that SUMO's wheels need")


def sumo_programs() -> Check:
    """Check that SUMO's programs start and have the wheel's version."""
    try:
        wanted = sumo.version()
        said = {program: sumo.run(program, ["--version"], timeout_s=60).partition("\n")[0] for program in PROGRAMS}
    except (RelidSumoError, OSError) as error:
        return Check("SUMO", "fail", str(error), INSTALL)
    wrong = [f"{program} prints '{line}'" for program, line in said.items() if wanted not in line.split()]
    if wrong:
        return Check("SUMO", "fail", f"the wheel is {wanted}, but {wrong[0]}", INSTALL)
    return Check("SUMO", "ok", f"{wanted}: {', '.join(said)} ({sumo.home()})")


def sumo_python() -> Check:
    """Check that libsumo loads, and that SUMO's four packages have the same version."""
    name = "libsumo, traci, sumolib"
    try:
        versions = {package: package_version(package) for package in ("eclipse-sumo", "libsumo", "traci", "sumolib")}
    except PackageNotFoundError as error:
        return Check(name, "fail", f"{error.name} is not installed", INSTALL)
    if len(set(versions.values())) > 1:
        found = ", ".join(f"{package} {version}" for package, version in versions.items())
        return Check(name, "fail", f"different versions: {found}", INSTALL)
    # In a separate process, because libsumo has global state and a broken one may end the process.
    ok, said = _run_python("import libsumo; print(libsumo.getVersion()[1].split()[-1])")
    if not ok:
        return Check(name, "fail", f"libsumo does not load: {said}", INSTALL)
    if said != versions["libsumo"]:
        return Check(name, "fail", f"the wheel is {versions['libsumo']}, but libsumo reports {said}", INSTALL)
    return Check(name, "ok", f"{said}, loads")


def torch() -> Check:
    """Check that torch loads."""
    ok, said = _run_python(
        "import torch; print(torch.__version__, 'with CUDA' if torch.cuda.is_available() else 'on the CPU,', "
        "torch.get_num_threads(), 'threads')"
    )
    return Check("torch", "ok", said) if ok else Check("torch", "fail", f"does not load: {said}", INSTALL)


def display() -> Check:
    """Check that `relid-sumo view` has a screen, or Xvfb to record without one."""
    name, shown = "display", os.environ.get("DISPLAY", "")
    xvfb = shutil.which("Xvfb")
    install = install_line([XVFB])
    if shown and _display_opens():
        return Check(name, "ok", f"DISPLAY={shown}" + (f"; {xvfb}" if xvfb else ""))
    screen = f"DISPLAY={shown} does not answer" if shown else "no screen"
    if xvfb:
        return Check(name, "ok", f"{screen}; {xvfb}, so that `view --record` works without one")
    return Check(name, "warn", f"{screen}, no Xvfb: `view` cannot draw", f"to record without a screen: {install}")


def sandbox() -> Check:
    """Check that programs written by a language model can be isolated, and in which layers: a harmless one is run."""
    reason = missing_isolation()
    if reason is not None:
        return Check(
            "sandbox",
            "warn",
            f"{reason}; only programs written by a language model need it",
            "run on Linux 6.12 or newer with Landlock enabled (kernel option lsm=landlock,..; containers may hide it)",
        )
    states = layer_states()
    absent = [f"{layer}: {why}" for layer, why in states.items() if why is not None]
    present = [LAYER_NAMES[layer] for layer, why in states.items() if why is None]
    found = f"programs run isolated, in layers: {', '.join(present)}"
    return Check("sandbox", "ok", "; not ".join([found, *absent]), BUBBLEWRAP if absent else "")


def cache() -> Check:
    """Check that the cache can be written."""
    folder = base_cache.cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = "make it writable, or set RELID_SUMO_CACHE to another folder"
        return Check("cache", "fail", f"{folder}: {error.strerror}", fix)
    return Check("cache", "ok", str(folder))


def disk(name: str, folder: Path) -> Check:
    """Check the free space on the disk of a folder, which need not exist."""
    there = files.nearest(folder)
    free = shutil.disk_usage(there).free
    found = f"{free / GIB:.1f} GiB free at {there}"
    if free >= DISK_WARN:
        return Check(name, "ok", found)
    fix = f"free some space: runs and networks need some hundred MB; {DISK_WARN / GIB:.0f} GiB are enough"
    return Check(name, "warn" if free >= DISK_FAIL else "fail", found, fix)


def extracts() -> Check:
    """Check which OSM extracts of the included cities are in the folders of RELID_SUMO_OSM_PATH."""
    name, setting = "OSM extracts", os.environ.get(catalogue.PATH_VARIABLE, "")
    folders = [Path(part) for part in setting.split(os.pathsep) if part]
    if not folders:
        fix = "set it to the folder of your extracts; without it, an included city is downloaded on first use"
        return Check(name, "warn", f"{catalogue.PATH_VARIABLE} is not set", fix)
    absent = [str(folder) for folder in folders if not folder.is_dir()]
    if absent:
        fix = f"correct {catalogue.PATH_VARIABLE}: folders separated by '{os.pathsep}'"
        return Check(name, "warn", f"no such folder: {', '.join(absent)}", fix)
    try:
        wanted = {city: load_toml(file, catalogue.NetworkEntry).extract for city, file in catalogue.known().items()}
    except InputError as error:
        return Check(name, "warn", str(error), "correct that file")
    states = {city: _extract_state(extract, folders) for city, extract in wanted.items()}
    found = "; ".join(f"{city}: {state}" for city, state in states.items())
    if all(state == "found" for state in states.values()):
        return Check(name, "ok", found or "no named network needs one")
    fix = f"put the right file into a folder of {catalogue.PATH_VARIABLE}; a missing file is downloaded on first use"
    return Check(name, "warn", found, fix)


def _extract_state(extract: catalogue.ExtractEntry, folders: list[Path]) -> str:
    file = next((folder / extract.file for folder in folders if (folder / extract.file).is_file()), None)
    if file is None:
        return f"{extract.file} is in none of the folders"
    return "found" if base_cache.sha256(file) == extract.sha256 else f"{file} has other map data (its checksum differs)"


def _run_python(code: str) -> tuple[bool, str]:
    """Run code in a new interpreter; return whether it succeeded, and the last line of its output or errors."""
    try:
        done = subprocess.run(
            interpreter.command(code),
            capture_output=True,
            text=True,
            timeout=120,
            env=interpreter.environment(),
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, "no answer in 120 s"
    if done.returncode == 0:
        return True, done.stdout.strip().rpartition("\n")[2]  # libsumo may print a warning about pyarrow first
    lines = done.stderr.strip().splitlines()
    return False, lines[-1] if lines else f"exit code {done.returncode}"


def _display_opens() -> bool:
    """Return whether the X server named by DISPLAY answers (DISPLAY may name one that has ended)."""
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return False
    x11.XOpenDisplay.restype = ctypes.c_void_p
    handle = x11.XOpenDisplay(None)
    if handle:
        x11.XCloseDisplay(ctypes.c_void_p(handle))
    return bool(handle)
