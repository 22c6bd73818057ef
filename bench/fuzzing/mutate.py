"""Inputs from a seed: attacks and well-formed messages, changed in ways that parsers disagree about. Pure.

Everything comes from the `Random` that is handed in: the same seed makes the same inputs. Half of the changes
know the shape of what they change (lines, numbers, letters' case), the others only bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

MOST: Final = 16 * 1024  # bytes of an input; beyond, nothing new is found and everything is slow
_NUMBER: Final = re.compile(rb"[0-9]+")
_BYTES: Final = b"\0\t\n\v\f\r !\"#%&'()*+,-./0129:;<=>?@AFZ[\\]^_`afxz{|}~\x7f\x80\x85\xa0\xc3\xff"
_NUMBERS: Final = (
    b"0", b"1", b"2", b"3", b"5", b"10", b"a", b"00", b"0x5", b"+5", b"-1", b"1e1", b"4294967296",
    b"4294967301", b"9223372036854775807", b"18446744073709551615", b"18446744073709551621", b"9" * 40,
    b"1 0", b"1,1", b"5;", b"5 ", b"\t5", b"0005", b"5\r", b"\xb2",
)  # fmt: skip
_ENDS: Final = (
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\n\r",
    b"\r\n ",
    b"\r\n\t",
    b"\x0b\r\n",
    b"\0\r\n",
    b"\r\n\r\n",
    b"",
)

Change = Callable[[bytes, Random], bytes]


class Mutator:
    """Makes inputs of `seeds`, with `words` that mean something to whoever reads them."""

    def __init__(self, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
        self._seeds = seeds
        self._words = words
        self._changes: tuple[Change, ...] = (
            self._word, self._word, self._word_line, self._splice, _byte, _byte, _flip, _delete, _repeat,
            _cut, _number, _number, _end, _end, _line_twice, _lines_swapped, _line_gone, _case,
        )  # fmt: skip

    def seed(self, rng: Random) -> bytes:
        """One of the seeds as it is."""
        return rng.choice(self._seeds)

    def make(self, rng: Random) -> bytes:
        """An input: most have few changes, for many make noise that everybody refuses."""
        data = rng.choice(self._seeds)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 6))):
            data = rng.choice(self._changes)(data, rng)
        return data[:MOST]

    def _word(self, data: bytes, rng: Random) -> bytes:
        at = rng.randint(0, len(data))
        return data[:at] + rng.choice(self._words) + data[at:]

    def _word_line(self, data: bytes, rng: Random) -> bytes:
        """A whole line more, at the end of some other."""
        at = data.find(b"\n", rng.randint(0, len(data))) + 1
        return data[:at] + rng.choice(self._words) + b"\r\n" + data[at:]

    def _splice(self, data: bytes, rng: Random) -> bytes:
        """The beginning of one and the end of another; or one behind the other."""
        other = rng.choice(self._seeds)
        if rng.random() < 0.5:
            return data + other
        return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


def pieces(data: bytes, rng: Random) -> list[bytes]:
    """`data` as a network might hand it over: now and then byte by byte."""
    if len(data) < 2:
        return [data]
    if len(data) < 300 and rng.random() < 0.1:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(rng.randint(1, len(data) - 1) for _ in range(rng.choice((1, 1, 2, 4))))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _byte(data: bytes, rng: Random) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + bytes((rng.choice(_BYTES),)) + data[at + (rng.random() < 0.5) :]


def _flip(data: bytes, rng: Random) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]


def _delete(data: bytes, rng: Random) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + data[at + rng.choice((1, 1, 2, 5, 20)) :]


def _repeat(data: bytes, rng: Random) -> bytes:
    at = rng.randint(0, len(data))
    part = data[at : at + rng.choice((1, 2, 8, 40))]
    return data[:at] + part * rng.choice((2, 2, 3, 30)) + data[at + len(part) :]


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randint(0, len(data))]


def _number(data: bytes, rng: Random) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return data
    match = rng.choice(found)
    return data[: match.start()] + rng.choice(_NUMBERS) + data[match.end() :]


def _end(data: bytes, rng: Random) -> bytes:
    """Another end of a line."""
    at = data.find(b"\r\n", rng.randint(0, len(data)))
    return data if at < 0 else data[:at] + rng.choice(_ENDS) + data[at + 2 :]


def _lines(data: bytes, rng: Random) -> tuple[list[bytes], int]:
    lines = data.split(b"\r\n")
    return lines, rng.randrange(len(lines))


def _line_twice(data: bytes, rng: Random) -> bytes:
    lines, at = _lines(data, rng)
    return b"\r\n".join([*lines[:at], lines[at], *lines[at:]])


def _lines_swapped(data: bytes, rng: Random) -> bytes:
    lines, at = _lines(data, rng)
    other = rng.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]
    return b"\r\n".join(lines)


def _line_gone(data: bytes, rng: Random) -> bytes:
    lines, at = _lines(data, rng)
    return b"\r\n".join(lines[:at] + lines[at + 1 :])


def _case(data: bytes, rng: Random) -> bytes:
    at = rng.randint(0, len(data))
    end = at + rng.choice((1, 4, 12))
    return data[:at] + data[at:end].swapcase() + data[end:]
