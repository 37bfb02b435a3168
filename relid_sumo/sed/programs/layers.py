"""The layers around a model's program, each of which is tested alone, and what they let it read.

``calls``: the allow-list of system calls (`relid_sumo.sed.programs.system_calls`). ``landlock``: the kernel's rules for
files, which sandlock sets up. ``bubblewrap``: user, network, process, mount, IPC and host name spaces of its own, with
nothing in them but what the program may read.
"""

from __future__ import annotations

import base64
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from relid_sumo.base.temporary import process_folder
from relid_sumo.sed.programs import program, runner, system_calls

Layer = Literal["calls", "landlock", "bubblewrap"]
LAYERS: tuple[Layer, ...] = ("calls", "landlock", "bubblewrap")
NEEDED: tuple[Layer, ...] = ("calls", "landlock")
"""Without these no model's program is run."""

LIBRARIES = ("numpy", "networkx")
MULTIARCH, LIBDIR = (sysconfig.get_config_var(name) or "" for name in ("MULTIARCH", "LIBDIR"))
SYSTEM_LIBRARIES = (f"/lib/{MULTIARCH}", f"/usr/lib/{MULTIARCH}", "/lib64", "/usr/lib64", "/etc/ld.so.cache")
OTHER_PACKAGES = ("site-packages", "dist-packages")
ENVIRONMENT = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "PYTHONHASHSEED": "0",
    "HOME": "/",
    "USER": "nobody",
    "PATH": "",
    "LANG": "C",
}
START = "import sys\nsys.dont_write_bytecode = True\nimport runner\nrunner.main()\n"


def missing_part(layer: Layer) -> str | None:
    """Return what a layer lacks on this machine, as far as one can see without trying; None where nothing."""
    if layer == "calls":
        return None if system_calls.this_machine() else "there is no list of system calls for this processor"
    if layer == "bubblewrap":
        return None if shutil.which("bwrap") else "bubblewrap is not installed (no program bwrap)"
    try:
        import sandlock  # noqa: PLC0415 - there are no wheels but for Linux
    except ImportError as error:
        return f"sandlock cannot be imported ({error})"
    found, wanted = sandlock.landlock_abi_version(), sandlock.min_landlock_abi()
    if found < wanted:
        return f"the kernel's Landlock is version {max(found, 0)}, and {wanted} is needed (Linux 6.12, lsm=landlock,..)"
    return None


@cache
def module_path() -> Path:
    """Return the folder that is all of a program's module path: links to modules and to libraries it may import.

    It stands in for the standard library's own folder, in which there may be site-packages. It is made once and removed
    when this process ends.
    """
    folder = process_folder("relid-sumo-sandbox-")
    modules = [entry for root in standard_library() for entry in without_other_packages(root)]
    for target in (*modules, *_packages("landlock"), Path(program.__file__), Path(runner.__file__)):
        link = folder / target.name
        if not link.is_symlink():
            link.symlink_to(target)
    (folder / "start.py").write_text(START, encoding="utf-8")
    return folder


def walls(layers: Sequence[Layer], limits: Sequence[int]) -> dict[str, Any]:
    """Return what `runner.wall_in` puts up inside the process."""
    machine = system_calls.this_machine()
    listed = "calls" in layers and machine is not None
    return {
        "path": [str(module_path()), *map(str, standard_library()[1:])],
        "limits": list(limits),
        "readable": [str(module_path()), *map(str, readable())] if "landlock" in layers else None,
        "calls": base64.b64encode(system_calls.compiled(machine)).decode() if listed and machine else None,
    }


def command(layers: Sequence[Layer]) -> list[str]:
    """Return the command that starts the runner."""
    python = [str(_interpreter()), "-S", "-s", "-B", str(module_path() / "start.py")]
    return [*_bubblewrap(layers), *python] if "bubblewrap" in layers else python


def _bubblewrap(layers: Sequence[Layer]) -> list[str]:
    """Return the command that starts another one in name spaces of its own, over an empty and read-only file tree."""
    bwrap, folder = shutil.which("bwrap") or "bwrap", module_path()
    alone = ["--unshare-user", "--unshare-all", "--disable-userns", "--cap-drop", "ALL", "--die-with-parent"]
    roots, masks = _roots(), _masks()
    options = [part for root in roots for part in ("--ro-bind", str(root), str(root))]
    options += [part for mask in masks for part in ("--tmpfs", str(mask))]
    own = (*_packages(*layers), Path(program.__file__), Path(runner.__file__), folder)
    options += [part for path in own for part in ("--ro-bind", str(path), str(path))]
    options += [part for mask in (*masks, Path("/")) for part in ("--remount-ro", str(mask))]
    return [bwrap, *alone, "--hostname", "sandbox", *options, "--chdir", str(folder), "--"]


@cache
def readable() -> tuple[Path, ...]:
    """Return the files and folders that a program may read, besides its own folder."""
    parts = [part for root in _roots() for part in without_other_packages(root)]
    return (*parts, *_packages(), Path(program.__file__), Path(runner.__file__))


@cache
def _interpreter() -> Path:
    return Path(os.path.realpath(sys.executable))


@cache
def standard_library() -> tuple[Path, ...]:
    """Return its folders: that of the modules, then that of those in C.

    Not by what Python was built with: many Pythons are used elsewhere than where they were built.
    """
    modules = Path(sysconfig.get_path("stdlib"))
    return tuple(folder for folder in (modules, modules / "lib-dynload") if os.access(folder, os.R_OK))


@cache
def _roots() -> tuple[Path, ...]:
    """Return the interpreter, its standard library and the system's shared libraries."""
    system = [Path(path) for path in SYSTEM_LIBRARIES if not path.endswith("/")]
    own = [folder for folder in (Path(sys.base_prefix, "lib"), Path(LIBDIR)) if folder not in system]
    beside = [file for folder in own for file in folder.glob("lib*.so*")]
    found = dict.fromkeys([_interpreter(), *standard_library(), *beside, *system])
    return tuple(path for path in found if os.access(path, os.R_OK))


@cache
def _masks() -> tuple[Path, ...]:
    """Return the folders of other packages in the roots."""
    return tuple(dict.fromkeys(folder for root in _roots() for folder in _other_packages(root)))


def _other_packages(root: Path) -> Iterator[Path]:
    """Give the folders of other packages in a folder, or in one of its folders for Python."""
    for pattern in ("", "python*/", "pypy*/"):
        for name in OTHER_PACKAGES:
            yield from root.glob(pattern + name)


def without_other_packages(root: Path) -> Iterator[Path]:
    """Give a folder's entries without those of other packages, whose folders are opened as far as they must be."""
    others = list(_other_packages(root)) if root.is_dir() else []
    if root.name in OTHER_PACKAGES:
        return
    if not others and root not in standard_library():
        yield root
        return
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and any(entry in (other, *other.parents) for other in others):
            yield from without_other_packages(entry)
        else:
            yield entry


@cache
def _packages(*layers: Layer) -> tuple[Path, ...]:
    """Return the folders of the libraries that a program may import, and of what sets up a layer."""
    folders = []
    for name in (*LIBRARIES, *(["sandlock"] if "landlock" in layers else [])):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue
        package = Path(spec.origin).parent
        folders += [folder for folder in (package, package.with_name(f"{name}.libs")) if folder.is_dir()]
    return tuple(folders)
