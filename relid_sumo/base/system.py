"""The system libraries that SUMO's wheels need, and the command that installs missing ones.

Standard library only: `make install` runs it before anything is installed (``tools/check_system.py``).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterable

# SUMO's Linux wheels link to these and do not contain them; the drawing libraries are needed without a screen too.
# Library: (Debian and Ubuntu package, Fedora and RHEL package)
LIBRARIES = {
    "libGL.so.1": ("libgl1", "libglvnd-glx"),
    "libX11.so.6": ("libx11-6", "libX11"),
    "libXext.so.6": ("libxext6", "libXext"),
    "libXrender.so.1": ("libxrender1", "libXrender"),
    "libatomic.so.1": ("libatomic1", "libatomic"),
    "libexpat.so.1": ("libexpat1", "expat"),
}


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def missing_libraries(loads: Callable[[str], bool] = _loads) -> list[str]:
    """Return those of `LIBRARIES` that the dynamic loader does not find; other systems' wheels contain them."""
    return [library for library in LIBRARIES if not loads(library)] if sys.platform == "linux" else []


def install_line(packages: Iterable[tuple[str, str]]) -> str:
    """Return the command that installs packages, given by (apt, dnf) names; both if neither tool is installed."""
    apt_names, dnf_names = zip(*packages, strict=True)
    sudo = "" if os.geteuid() == 0 else "sudo "
    apt = f"{sudo}apt-get update && {sudo}apt-get install -y {' '.join(apt_names)}"
    dnf = f"{sudo}dnf install -y {' '.join(dnf_names)}"
    if shutil.which("apt-get"):
        return apt
    return dnf if shutil.which("dnf") else f"{apt}    (Fedora, RHEL: {dnf})"
