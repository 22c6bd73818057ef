"""The access log: one JSON line a request, made of pieces that were rendered before.

A record is three references (time stamp, connection, response) appended to a list; joining and writing is
done a few times a second, off the request's path. A file that grows too large is set aside; one that
somebody else has renamed is written on until `reopen`.

What is no file but somebody who reads, behind a pipe, may read slowly or not at all: it is given what it
takes, and holds up nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import stat
from pathlib import Path
from typing import Final

import msgspec

from atoll.edge.clock import Clock
from atoll.http.exchange import ConnectionInfo

LEFT: Final = 499
"""A status in the log only, as other proxies write it: the client left before there was an answer."""

_FLUSH_S: Final = 0.25
_MAX_PENDING: Final = (
    3_000  # pieces; three a record: their lines stay in the processor's cache, and nobody waits
)
_MAX_FILE: Final = 64 * 1024 * 1024
_MAX_WAITING: Final = 1024 * 1024  # bytes that a slow reader has not taken: beyond, records are lost
_PIECE: Final = select.PIPE_BUF  # what a pipe with room takes as a whole, and from several writers unmixed
_PARTING_MS: Final = 1000  # that a reader gets for the rest


class AccessLog:
    """Collects records and appends them to `path` (None: standard output).

    `rotates`: it is set aside here when it is too large; otherwise that is somebody else's to do.
    """

    def __init__(self, path: Path | None, clock: Clock, *, rotates: bool = True) -> None:
        self._path = path
        self._rotates = rotates and path is not None
        self._clock = clock
        self.pending: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting = b""  # for a reader that is slow
        self._watched = False  # whether the loop tells of room
        self._fd = self._open()
        self._room: select.poll | None = None
        self._meet()

    def add(self, conn: ConnectionInfo, tail: bytes) -> None:
        """One record: `tail` is what `record_tail` made."""
        self.pending += (self._clock.stamp, conn.log_prefix, tail)
        if self._timer is None:
            self._timer = self._loop.call_later(_FLUSH_S, self.flush)
        elif len(self.pending) > _MAX_PENDING:
            self.flush()

    def flush(self) -> None:
        """Write what is pending. A disk that refuses costs the records, never the requests."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, self.pending = self.pending, []
        if self._room is not None:
            self._offer(b"".join(pending))
            return
        if not pending:
            return
        try:
            os.write(self._fd, b"".join(pending))
            if self._rotates and os.fstat(self._fd).st_size > _MAX_FILE:
                self._rotate()
        except OSError:
            return

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        if self._waiting:
            self._offer(b"", _PARTING_MS)
        self._watch(False)
        os.close(self._fd)

    def reopen(self) -> None:
        """Go on in the file that has the name now; should that fail, in the one before."""
        self.flush()
        self._watch(False)
        with contextlib.suppress(OSError):
            old, self._fd = self._fd, self._open()
            os.close(old)
            self._meet()
        self._watch(bool(self._waiting))

    def _meet(self) -> None:
        """See whether it is a file, or somebody who reads."""
        self._room = None
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self._room = select.poll()
            self._room.register(self._fd, select.POLLOUT)
        else:
            self._waiting = b""  # was for somebody else

    def _offer(self, data: bytes, patience_ms: int = 0) -> None:
        """Write as much as there is room for, whole lines together; the rest waits for the next time."""
        assert self._room is not None
        if len(self._waiting) <= _MAX_WAITING:
            self._waiting += data
        rest, at = self._waiting, 0
        try:
            while at < len(rest) and self._room.poll(patience_ms):
                end = rest.rfind(b"\n", at, at + _PIECE) + 1 or at + _PIECE
                at += os.write(self._fd, rest[at:end])
        except OSError:
            at = len(rest)  # nobody reads any more
        self._waiting = rest[at:]
        self._watch(bool(self._waiting))

    def _watch(self, wanted: bool) -> None:
        """Have the loop say when there is room again, or not any more."""
        if wanted and not self._watched:
            self._loop.add_writer(self._fd, self._offer, b"")
        elif self._watched and not wanted:
            self._loop.remove_writer(self._fd)
        self._watched = wanted

    def _open(self) -> int:
        if self._path is None:
            return os.dup(1)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _rotate(self) -> None:
        assert self._path is not None
        os.replace(self._path, self._path.with_suffix(".log.1"))
        old, self._fd = self._fd, self._open()  # should it fail, the records go on into the old file
        os.close(old)


class NoLog(AccessLog):
    """Where nobody wants records: none are kept."""

    def __init__(self) -> None:
        self.pending: list[bytes] = []

    def add(self, conn: ConnectionInfo, tail: bytes) -> None:
        """See `AccessLog`."""

    def flush(self) -> None:
        """See `AccessLog`."""

    def reopen(self) -> None:
        """See `AccessLog`."""

    def close(self) -> None:
        """See `AccessLog`."""


def connection_prefix(conn: ConnectionInfo, city: str) -> bytes:
    """The part of a record that a connection's requests share."""
    fields = {"client": conn.client_ip, "city": city, "scheme": conn.scheme.decode(), "tls": conn.tls_version}
    return b"," + msgspec.json.encode(fields)[1:-1]


def record_head(method: bytes, host: bytes, target: bytes) -> bytes:
    """The part of a record that identical requests share."""
    fields = {
        "method": method.decode("latin-1"),
        "host": host.decode("latin-1"),
        "target": target.decode("latin-1"),
    }
    return b"," + msgspec.json.encode(fields)[1:-1]


def record_tail(
    head: bytes,
    status: int,
    size: int,
    verdict: bytes,
    duration_ms: float,
    trace: bytes = b"",
    error: bytes = b"",
) -> bytes:
    """`head` and the part of a record that belongs to the response, with the line's end.

    `trace` is the response's `Atoll-Trace`; one from prepared bytes has none. `error` says why there was no
    answer: printable ASCII without quotes.
    """
    end = b'"trace":"%b"}\n' % trace if trace else b'"trace":null}\n'
    if error:
        end = b'"error":"%b",%b' % (error, end)
    return b'%b,"status":%d,"bytes":%d,"cache":"%b","ms":%.2f,%b' % (
        head,
        status,
        size,
        verdict.lower(),
        duration_ms,
        end,
    )
