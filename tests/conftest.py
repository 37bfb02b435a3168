"""What the tests share: the real extracts, a cache of their own, a display, and no way out to the internet."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

LOOPBACK = {"localhost", "127.0.0.1", "::1", ""}

# Markers whose tests need a program that a user's machine may lack: (program, how to get it)
PROGRAMS = {
    "gui": ("Xvfb", "apt-get install xvfb"),
    "browser": ("chromium", "apt-get install chromium"),
}


def absent(reason: str) -> NoReturn:
    """Skip the test that needs what is absent; fail it on CI, where everything has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_configure(config: pytest.Config) -> None:
    """Give the session a cache of its own.

    New for every session, so that no test passes on a network which an earlier version of the code built; one for the
    session, and inherited by xdist's workers, so that each network is built once. RELID_SUMO_TEST_CACHE names a folder
    that is kept, for work on tests that do not concern the building of networks.
    """
    if hasattr(config, "workerinput"):
        return
    kept = os.environ.get("RELID_SUMO_TEST_CACHE")
    folder = kept or tempfile.mkdtemp(prefix="relid_sumo-tests-")
    if not kept:
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["RELID_SUMO_CACHE"] = folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check that the programs a test's markers speak of are there."""
    for marker, (program, install) in PROGRAMS.items():
        if item.get_closest_marker(marker) and not shutil.which(program):
            absent(f"{program} is not installed: {install}")


@pytest.fixture(scope="session")
def osm_dir() -> Path:
    """Return the first existing folder of RELID_SUMO_OSM_PATH."""
    setting = os.environ.get("RELID_SUMO_OSM_PATH", "")
    for folder in filter(None, setting.split(os.pathsep)):
        if Path(folder).is_dir():
            return Path(folder).resolve()
    absent(f"RELID_SUMO_OSM_PATH names no existing folder with real extracts: '{setting}'")


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Return the session's cache of built networks."""
    return Path(os.environ["RELID_SUMO_CACHE"])


@pytest.fixture
def xvfb(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run an X server without a screen and point DISPLAY at it; for tests marked gui."""
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1280x960x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL) as server:
        os.close(writer)
        with os.fdopen(reader) as answer:
            number = answer.readline().strip()  # the server writes it when it is ready, and nothing if it dies
        if not number:
            pytest.fail(f"Xvfb did not start (exit code {server.wait()})")
        monkeypatch.setenv("DISPLAY", f":{number}")
        yield f":{number}"
        server.terminate()


@pytest.fixture(autouse=True, scope="session")
def no_internet() -> Iterator[None]:
    """Refuse every connection that leaves this machine: tests must not depend on it, nor burden anyone's server."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def checked_connect(self: socket.socket, address: Any) -> None:  # noqa: ANN401 - the shape depends on the family
        if self.family != socket.AF_UNIX and address[0] not in LOOPBACK:
            raise OSError(f"a test tried to reach {address[0]}")
        connect(self, address)

    def checked_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as socket.getaddrinfo
        if host is not None and str(host) not in LOOPBACK:
            raise OSError(f"a test tried to look up {host}")
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", checked_connect)
        patch.setattr(socket, "getaddrinfo", checked_look_up)
        yield
