"""Limits the time and the size of a response while it is read."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2


class Bounded(httpx2.SyncByteStream):
    """The stream of a response.

    Parameters
    ----------
    stream
        The stream to read.
    most_bytes
        Size limit, bytes as they come in.
    until
        Time limit, on the clock of `time.monotonic`, s. A service that sends a byte now and then does not extend it.
    """

    def __init__(self, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream, most_bytes: int, until: float) -> None:
        if not isinstance(stream, httpx2.SyncByteStream):
            raise TypeError("the client has to be synchronous")
        self._stream, self._most, self._until = stream, most_bytes, until

    def __iter__(self) -> Iterator[bytes]:
        """Yield the parts of the stream.

        Raises
        ------
        httpx2.ReadTimeout
            The time is over.
        ValueError
            The response is too large.
        """
        size = 0
        for part in self._stream:
            size += len(part)
            if size > self._most:
                raise ValueError(f"it has more than {self._most // 2**20} MiB")
            if time.monotonic() > self._until:
                raise httpx2.ReadTimeout("the response did not end in time")
            yield part

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()
