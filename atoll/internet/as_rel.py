"""Reads who buys from whom on the real Internet: CAIDA's AS relationship files, serial-1 and serial-2.

A line is `<provider>|<customer>|-1` or `<peer>|<peer>|0`; serial-2 (`as-rel2`) has a fourth column, where the
link was seen, which routing does not need. Lines that start with `#` are comments. Files may be plain, bzip2
or gzip: the first bytes tell, not the name. Atoll ships no such file, they come under an agreement of their
own. Every fault is an `AtollError` with the file and the line; nothing is guessed or left out.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

import msgspec

from atoll.errors import AtollError

MAX_LINES: Final = 8_000_000  # the files of 2024 have 0.5 million; a bomb in a bzip2 file has no end
MAX_LINE_BYTES: Final = 512  # comments are the longest lines
MAX_ASN: Final = 4_294_967_295  # RFC 6793
_RELATIONS: Final = {b"-1": True, b"0": False}  # is the first the second's provider?


class Relations(msgspec.Struct, frozen=True):
    """Links between ASes, each once."""

    transit: tuple[tuple[int, int], ...]  # (provider, customer), in the order of the source
    peering: tuple[tuple[int, int], ...]  # (lower, higher)


def read_as_rel(path: Path) -> Relations:
    """What the file says.

    Raises:
        AtollError: it cannot be read, is damaged or too long, or a line is wrong.
    """
    with _opened(path) as stream:
        return parse_as_rel(_lines(stream, str(path)), str(path))


def parse_as_rel(lines: Iterable[bytes], name: str) -> Relations:
    """Relations from lines; `name` is what errors call the source.

    Raises:
        AtollError: a line is wrong, contradicts an earlier one, or there is no link at all.
    """
    transit: list[tuple[int, int]] = []
    peering: list[tuple[int, int]] = []
    seen: dict[tuple[int, int], tuple[int, int]] = {}  # pair → (customer or 0 for peers, line)
    for number, line in enumerate(lines, 1):
        if line.startswith(b"#") or not line.strip():
            continue
        where = f"{name}:{number}"
        one, other, sells = _link(line, where)
        pair = (one, other) if one < other else (other, one)
        relation = other if sells else 0
        first = seen.setdefault(pair, (relation, number))
        if first[1] == number:
            if sells:
                transit.append((one, other))
            else:
                peering.append(pair)
        elif first[0] != relation:
            raise AtollError(
                f"AS{pair[0]} and AS{pair[1]} have another relation in line {first[1]}",
                hint="keep one of the two lines",
                where=where,
            )
    if not seen:
        raise AtollError("no links in this file", hint="an as-rel file of CAIDA's", where=name)
    return Relations(tuple(transit), tuple(peering))


def _link(line: bytes, where: str) -> tuple[int, int, bool]:
    """The two AS numbers, and whether the first sells to the second."""
    fields = line.rstrip(b"\r\n").split(b"|")
    if len(fields) not in (3, 4):
        hint = "<provider>|<customer>|-1 or <peer>|<peer>|0, serial-2 with one column more"
        raise AtollError(f"{len(fields)} columns", hint=hint, where=where)
    one, other = _asn(fields[0], where), _asn(fields[1], where)
    sells = _RELATIONS.get(fields[2])
    if sells is None:
        raise AtollError(f"relation {_shown(fields[2])}", hint="-1 (sells to) or 0 (peers)", where=where)
    if one == other:
        raise AtollError(f"AS{one} is linked to itself", hint="remove the line", where=where)
    return one, other, sells


def _asn(text: bytes, where: str) -> int:
    # int() would take "+1", "1_0" and blanks; isdigit() of bytes is ASCII alone
    if not text.isdigit() or len(text) > 10 or not 1 <= int(text) <= MAX_ASN:
        raise AtollError(f"{_shown(text)} is no AS number", hint=f"1 to {MAX_ASN}", where=where)
    return int(text)


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", "replace"))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as plain:
            head = plain.read(3)
            plain.seek(0)
            if head == b"BZh":
                with bz2.open(plain) as bunzipped:
                    yield bunzipped
            elif head == b"\x1f\x8b\x08":
                with gzip.open(plain) as gunzipped:
                    yield cast(IO[bytes], gunzipped)
            else:
                yield plain
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error) or "ends too early"
        raise AtollError(f"cannot be read: {reason}", hint="is it whole?", where=str(path)) from error


def _lines(stream: IO[bytes], name: str) -> Iterator[bytes]:
    for number in range(1, MAX_LINES + 1):
        line = stream.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        if len(line) > MAX_LINE_BYTES:
            raise AtollError(
                f"line of more than {MAX_LINE_BYTES} bytes",
                hint="is it an as-rel file?",
                where=f"{name}:{number}",
            )
        yield line
    if stream.read(1):
        raise AtollError(f"more than {MAX_LINES:,} lines", hint="is it an as-rel file?", where=name)
