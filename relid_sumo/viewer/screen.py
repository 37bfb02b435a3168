"""The X server that sumo-gui draws on: the user's, or a virtual one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

from relid_sumo.base.errors import InputError, SimulationError
from relid_sumo.base.process import die_with_parent

INSTALL = "apt-get install xvfb"
NO_DISPLAY = "unable to open display"  # in sumo-gui's message where no X server answers


def check_display() -> None:
    """Raise InputError where DISPLAY names no screen."""
    if not os.environ.get("DISPLAY"):
        raise InputError(
            "view needs a screen, but DISPLAY is not set; set it, or record a picture or a film without a screen with "
            f"--record FILE.png|.gif|.mp4 (this needs Xvfb: {INSTALL})"
        )


def unanswered() -> InputError:
    """Return the error for a DISPLAY at which no X server answers."""
    return InputError(
        f"no screen answers at DISPLAY={os.environ.get('DISPLAY')}; correct it, or record a picture or a film without "
        f"a screen with --record FILE.png|.gif|.mp4 (this needs Xvfb: {INSTALL})"
    )


@contextlib.contextmanager
def virtual(width: int, height: int) -> Iterator[None]:
    """Point DISPLAY at a new virtual screen of this size, pixels; where Xvfb is missing, use the present screen.

    Raises
    ------
    InputError
        Xvfb is not installed, and there is no screen.
    SimulationError
        Xvfb does not start.
    """
    program, before = shutil.which("Xvfb"), os.environ.get("DISPLAY")
    if program is None and before:
        yield
        return
    if program is None:
        raise InputError(f"recording without a screen needs Xvfb, which is not installed: {INSTALL}")
    reader, writer = os.pipe()
    command = [program, "-displayfd", str(writer), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command,
        pass_fds=[writer],
        stdin=quiet,
        stdout=quiet,
        stderr=quiet,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - a viewer that is killed must not leave its screen
    ) as server:
        try:
            os.close(writer)
            with os.fdopen(reader) as answer:
                number = answer.readline().strip()  # written when the server is ready; empty if it exits
            if not number:
                raise SimulationError(f"Xvfb did not start (exit code {server.wait()})")
            os.environ["DISPLAY"] = f":{number}"
            yield
        finally:
            if before is None:
                os.environ.pop("DISPLAY", None)
            else:
                os.environ["DISPLAY"] = before
            server.terminate()
