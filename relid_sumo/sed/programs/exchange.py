"""Exchanges messages with the process that runs a program, within limits of size and time."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

CHUNK = 65536
LITTLE, PAUSE_S = 4096, 0.002
"""After a read of less than this many bytes, wait for more: a process that writes byte by byte costs little here."""


@contextlib.contextmanager
def started(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a group of its own with pipes to it; when the context ends, end the group and close them."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=folder,
        start_new_session=True,
        bufsize=0,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and the processes that it started
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def exchange(
    process: subprocess.Popen[bytes], message: bytes, most_bytes: int, deadline: float
) -> tuple[bytes, bytes, str | None]:
    """Send the message and read the reply, until the process has closed its outputs.

    Parameters
    ----------
    most_bytes
        Limit of both outputs together; reading stops there.
    deadline
        Time limit, on the clock of `time.monotonic`, s.

    Returns
    -------
    tuple
        Its standard output and error, cut to `most_bytes`, and the limit that stopped reading: ``"time"``,
        ``"size"`` or None.
    """
    written, printed = bytearray(), bytearray()
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:
        raise ValueError("the process has to be started with three pipes")
    rest, given_up = memoryview(message), None
    with selectors.DefaultSelector() as ready:
        for stream, kind in ((stdin, selectors.EVENT_WRITE), (stdout, selectors.EVENT_READ), (stderr, 1)):
            os.set_blocking(stream.fileno(), False)
            ready.register(stream, kind)
        while given_up is None and (stdout in ready.get_map() or stderr in ready.get_map()):
            left = deadline - time.monotonic()
            events = ready.select(left) if left > 0 else []
            if not events:
                given_up = "time"
            for key, _ in events:
                if key.fileobj is stdin:
                    rest = _sent(stdin, rest)
                    ended = not rest
                else:
                    part = os.read(key.fd, CHUNK)
                    (written if key.fileobj is stdout else printed).extend(part)
                    ended = not part
                    if 0 < len(part) < LITTLE:
                        time.sleep(PAUSE_S)
                if ended:
                    ready.unregister(key.fileobj)
                    if key.fileobj is stdin:
                        stdin.close()
            if len(written) + len(printed) > most_bytes:
                given_up = "size"
    return bytes(written[:most_bytes]), bytes(printed[:most_bytes]), given_up


def _sent(stream: IO[bytes], rest: memoryview) -> memoryview:
    """Write as much of the rest as a pipe takes; return the remainder, empty where the reader has closed the pipe."""
    try:
        return rest[os.write(stream.fileno(), rest[:CHUNK]) :]
    except BrokenPipeError:
        return rest[:0]


def ended(process: subprocess.Popen[bytes], deadline: float) -> int | None:
    """Wait for a process that has closed its outputs; return its exit code, or minus the signal that ended it.

    None where it does not end before the deadline.
    """
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(max(0.01, deadline - time.monotonic()))
    return None
