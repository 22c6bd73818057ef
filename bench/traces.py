"""Request traces for eviction policies: read, written, or made from a seed.

A trace is two arrays: which object each request asks for, and how large that is. Formats read: oracleGeneral,
the binary records of libCacheSim (time, object, size, next access; little-endian, 24 bytes, also compressed
with zstd), and CSV with the columns time, object, size. The synthetic families each stress one thing: skew,
sizes, drift, scans, loops; same seed, same trace.
"""

from __future__ import annotations

import csv
import io
import random
import struct
from array import array
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import zstandard

from atoll.errors import AtollError

FORMATS: Final = ("oracleGeneral", "csv")
MOST_REQUESTS: Final = 20_000_000  # half a gigabyte of arrays
_RECORD: Final = struct.Struct("<IQIq")
_NEVER: Final = -1  # the object is not asked for again
_PIECE: Final = 24 * 40_000


class Trace(msgspec.Struct, frozen=True):
    """Requests in order: `objects[i]` with `sizes[i]` bytes."""

    name: str
    objects: array[int]
    sizes: array[int]

    def __len__(self) -> int:
        return len(self.objects)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.objects, self.sizes, strict=True)

    def footprint(self) -> tuple[int, int]:
        """How many objects there are, and their bytes, each at its latest size."""
        sizes = dict(self)
        return len(sizes), sum(sizes.values())


def read(path: Path, file_format: str = "") -> Trace:
    """The trace in a file; its format follows from its name unless given.

    Raises:
        AtollError: the file cannot be read, or is no such trace.
    """
    chosen = file_format or ("csv" if path.name.endswith((".csv", ".csv.zst")) else "oracleGeneral")
    if chosen not in FORMATS:
        raise AtollError(f"{chosen!r} is no format of traces", hint=f"there are: {', '.join(FORMATS)}")
    trace = Trace(path.name, array("Q"), array("Q"))
    try:
        with path.open("rb") as raw:
            stream = _decompressed(raw) if path.suffix == ".zst" else raw
            _read_binary(stream, trace) if chosen == "oracleGeneral" else _read_csv(stream, trace, path)
    except (OSError, zstandard.ZstdError) as error:
        raise AtollError(f"no trace to read: {error}", where=str(path)) from error
    if not len(trace):
        raise AtollError("the trace has no requests", where=str(path))
    return trace


def _decompressed(raw: BinaryIO) -> BinaryIO:
    return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw))


def _read_binary(stream: BinaryIO, trace: Trace) -> None:
    while piece := stream.read(_PIECE):
        if len(piece) % _RECORD.size:
            raise AtollError(
                "the file is no oracleGeneral trace", hint=f"its length is no multiple of {_RECORD.size}"
            )
        for _, key, size, _ in _RECORD.iter_unpack(piece):
            _append(trace, key, size)


def _read_csv(stream: BinaryIO, trace: Trace, path: Path) -> None:
    numbers: dict[str, int] = {}
    for line, row in enumerate(csv.reader(io.TextIOWrapper(stream, errors="replace")), 1):
        if not row or (line == 1 and not row[-1].strip().isdigit()):
            continue  # column names
        if len(row) < 3 or not row[2].strip().isdigit():
            raise AtollError("expected time, object, size", where=f"{path}:{line}")
        _append(trace, numbers.setdefault(row[1].strip(), len(numbers)), int(row[2]))


def _append(trace: Trace, key: int, size: int) -> None:
    if len(trace.objects) >= MOST_REQUESTS:
        raise AtollError(f"the trace has more than {MOST_REQUESTS:,} requests", hint="take a part of it")
    trace.objects.append(key)
    trace.sizes.append(max(size, 1))


def write(trace: Trace, path: Path) -> None:
    """Write a trace as oracleGeneral, with the next access of each object, which Belady's rule needs."""
    following: dict[int, int] = {}
    records = bytearray(len(trace) * _RECORD.size)
    for index in range(len(trace) - 1, -1, -1):
        key = trace.objects[index]
        _RECORD.pack_into(
            records,
            index * _RECORD.size,
            index,
            key,
            min(trace.sizes[index], 2**32 - 1),
            following.get(key, _NEVER),
        )
        following[key] = index + 1
    path.write_bytes(records)


class _Maker:
    """Draws for one synthetic trace."""

    def __init__(self, name: str, seed: int) -> None:
        self.random = random.Random(f"{name} {seed}")
        self._sizes: dict[int, int] = {}
        self._fresh = 1 << 40
        self.trace = Trace(name, array("Q"), array("Q"))

    def zipf(self, objects: int, exponent: float, draws: int) -> list[int]:
        """Ranks, the most popular 0."""
        weights = list(accumulate(1 / (rank + 1) ** exponent for rank in range(objects)))
        return self.random.choices(range(objects), cum_weights=weights, k=draws)

    def fresh(self) -> int:
        """An object that nobody has asked for."""
        self._fresh += 1
        return self._fresh

    def web_size(self, key: int, median: float = 6000.0, sigma: float = 1.5) -> int:
        """Log-normal, as responses on the web are; the same for a key each time."""
        if key not in self._sizes:
            drawn = 500 + int(median * self.random.lognormvariate(0.0, sigma))
            self._sizes[key] = min(drawn, 32 << 20)
        return self._sizes[key]

    def ask(self, key: int, size: int | None = None) -> None:
        """One request."""
        _append(self.trace, key, self.web_size(key) if size is None else size)


def _web(maker: _Maker, requests: int) -> None:
    """Skew and sizes, nothing else."""
    for key in maker.zipf(requests // 6, 0.9, requests):
        maker.ask(key)


def _equal(maker: _Maker, requests: int) -> None:
    """Skew, all objects of 4 KiB."""
    for key in maker.zipf(requests // 6, 0.9, requests):
        maker.ask(key, 4096)


def _drift(maker: _Maker, requests: int) -> None:
    """What is popular changes, and three requests of ten are for objects asked for once."""
    objects = requests // 20
    for index, rank in enumerate(maker.zipf(objects, 1.0, requests)):
        if maker.random.random() < 0.3:
            maker.ask(maker.fresh())
        else:
            maker.ask(rank + objects // 4 * (index * 12 // requests) * (rank % 4 == 0))


def _scan(maker: _Maker, requests: int) -> None:
    """Crawlers: between popular objects, long runs over objects that are not asked for again soon."""
    popular = iter(maker.zipf(requests // 12, 0.9, requests))
    archive, place = requests // 3, 0
    while len(maker.trace) < requests:
        for _ in range(min(requests // 40, requests - len(maker.trace))):
            maker.ask(next(popular))
        for _ in range(min(requests // 60, requests - len(maker.trace))):
            place = (place + 1) % archive
            maker.ask((1 << 32) + place)


def _loop(maker: _Maker, requests: int) -> None:
    """Popular objects, and clients that walk through one long list again and again."""
    length, place = requests // 20, 0
    for rank in maker.zipf(requests // 12, 0.9, requests):
        if maker.random.random() < 0.4:
            place = (place + 1) % length
            maker.ask((1 << 32) + place)
        else:
            maker.ask(rank)


def _video(maker: _Maker, requests: int) -> None:
    """Two kinds of objects: pages and pictures, and segments of films, a megabyte each, watched in order."""
    pages = iter(maker.zipf(requests // 10, 0.9, requests))
    films = iter(maker.zipf(max(10, requests // 400), 0.8, requests))
    viewers = [[next(films), 0, maker.random.randint(5, 60)] for _ in range(40)]
    while len(maker.trace) < requests:
        if maker.random.random() < 0.8:
            maker.ask(next(pages))
            continue
        viewer = maker.random.choice(viewers)
        film, segment, until = viewer
        maker.ask((1 << 33) + film * 1000 + segment, 1_000_000)
        viewer[1] += 1
        if segment >= until:
            viewer[:] = [next(films), 0, maker.random.randint(5, 60)]


FAMILIES: Final[Mapping[str, Callable[[_Maker, int], None]]] = {
    "web": _web,
    "equal": _equal,
    "drift": _drift,
    "scan": _scan,
    "loop": _loop,
    "video": _video,
}
"""Name → who makes it."""


def synthetic(family: str, requests: int, seed: int = 1) -> Trace:
    """A trace of a family; the same for the same arguments.

    Raises:
        AtollError: there is no such family.
    """
    if family not in FAMILIES:
        raise AtollError(f"{family!r} is no kind of trace", hint=f"there are: {', '.join(FAMILIES)}")
    maker = _Maker(family, seed)
    FAMILIES[family](maker, requests)
    return maker.trace
