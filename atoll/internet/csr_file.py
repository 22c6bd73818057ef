"""Keeps a graph's arrays in a file that the next run maps into memory instead of reading the source again.

The file is named after a digest of the source's bytes and of this format, so that another source is another
file and nothing is ever out of date. It is written beside its place and renamed. What is damaged, shortened
or of other sizes than it says is made again; where the folder cannot be written, all works without it.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import xxhash

from atoll.errors import AtollError
from atoll.internet.as_rel import read_as_rel
from atoll.internet.csr import MAX_ASES, MAX_ENDS, CsrGraph, Ints, Pairs, Rows, build

MAX_SOURCE_BYTES: Final = 256 << 20  # the plain files have 10 MB
MAX_KEPT: Final = 8  # graphs in a folder, 5 MB each; the oldest go
_HEADER: Final = struct.Struct("<8sQQQQ")  # magic, ASes, transit links, ends of peerings, xxh3 of the rest
_MAGIC: Final = b"atollcs1"
_ENDING: Final = ".csr"


def load_as_rel(path: Path, folder: Path | None = None) -> CsrGraph:
    """The graph of an as-rel file, out of `folder` when it has been read before.

    Raises:
        AtollError: the source cannot be read or is wrong.
    """
    kept = folder and folder / f"{_digest(path)}{_ENDING}"
    return cached(kept, lambda: _read(path))


def cached(kept: Path | None, make: Callable[[], CsrGraph]) -> CsrGraph:
    """The graph in the file `kept`, or what `make` gives, which is put there; None keeps nothing."""
    found = load(kept) if kept is not None else None
    if found is None:
        found = make()
        if kept is not None:
            save(found, kept)
    return found


def load(kept: Path) -> CsrGraph | None:
    """The graph mapped from a file; None where there is none, or a damaged one."""
    try:
        with kept.open("rb") as stream:
            # copied on write, so that no mistake here can reach the file
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):  # ValueError: the file is empty
        return None
    return _unpacked(mapped)


def save(graph: CsrGraph, kept: Path) -> bool:
    """Writes the graph's file by rename; False where that cannot be done."""
    arrays = _arrays(graph)
    body = b"".join(array.tobytes() for array in arrays)
    head = _HEADER.pack(
        _MAGIC, graph.size, len(graph.providers.nodes), len(graph.peers.nodes), xxhash.xxh3_64_intdigest(body)
    )
    new: Path | None = None
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, suffix=".new", delete=False) as stream:
            new = Path(stream.name)
            stream.write(head.ljust(64, b"\0") + body)
        new.replace(kept)
        _forget_oldest(kept.parent)
    except OSError:
        if new is not None:
            new.unlink(missing_ok=True)
        return False
    return True


def _read(path: Path) -> CsrGraph:
    relations = read_as_rel(path)
    try:
        return build(relations.transit, relations.peering)
    except AtollError as error:
        where = f"{path}: {error.where}" if error.where else str(path)
        raise AtollError(error.message, error.hint, where) from error


def _digest(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_SOURCE_BYTES:
            raise AtollError("larger than 256 MiB", hint="is it an as-rel file?", where=str(path))
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256")
    except OSError as error:
        reason = error.strerror or str(error)
        raise AtollError(f"cannot be read: {reason}", hint="an as-rel file", where=str(path)) from error
    found.update(_MAGIC)
    return found.hexdigest()[:32]


def _arrays(graph: CsrGraph) -> tuple[Pairs | Ints, ...]:
    """In the order of the file. The 64-bit one is first: all are aligned then."""
    rows = (graph.providers, graph.customers, graph.peers)
    return (graph.asns, graph.order, *(each for kind in rows for each in (kind.start, kind.nodes)))


def _unpacked(mapped: mmap.mmap) -> CsrGraph | None:
    if len(mapped) < 64:
        return None
    magic, ases, transit, peering, checksum = _HEADER.unpack_from(mapped)
    if magic != _MAGIC or not 1 <= ases <= MAX_ASES or max(transit, peering) > MAX_ENDS:
        return None
    counts = (ases, ases + 1, transit, ases + 1, transit, ases + 1, peering)  # of 32-bit numbers
    if len(mapped) != 64 + 8 * ases + 4 * sum(counts):
        return None
    if xxhash.xxh3_64_intdigest(memoryview(mapped)[64:]) != checksum:
        return None
    asns = np.frombuffer(mapped, np.int64, ases, 64)
    numbers = np.split(np.frombuffer(mapped, np.int32, offset=64 + 8 * ases), np.cumsum(counts)[:-1])
    order, *rows = numbers
    providers, customers, peers = (Rows(rows[at], rows[at + 1]) for at in (0, 2, 4))
    return CsrGraph(asns, providers, customers, peers, order)


def _forget_oldest(folder: Path) -> None:
    kept = sorted(folder.glob(f"*{_ENDING}"), key=lambda path: path.stat().st_mtime)
    for path in kept[:-MAX_KEPT]:
        path.unlink(missing_ok=True)
