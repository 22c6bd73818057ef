"""BIRD's control socket: one command, one reply, as `birdc` does it.

A reply is lines that begin with four digits, then `-` where more follow and a space on the last; a line that
begins with a space goes on as the one before. Codes from 8000 are errors, from 9000 those of the parser.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import msgspec

from atoll.errors import AtollError

TIMEOUT_S: Final = 5.0
FIRST_ERROR: Final = 8000

_MAX_LINE: Final = 1 << 20


class Line(msgspec.Struct, frozen=True):
    """One line of a reply. `code` says of what kind it is (BIRD's `doc/reply_codes`)."""

    code: int
    text: str


def read_line(raw: str, before: int) -> tuple[Line, bool]:
    """A line as it came, after one with the code `before`; and whether it is the reply's last.

    Raises:
        ValueError: it is none.

    >>> read_line("1002-up1 BGP --- up", 0)
    (Line(code=1002, text='up1 BGP --- up'), False)
    >>> read_line(" more", 1002)
    (Line(code=1002, text='more'), False)
    >>> read_line("0000 ", 1002)
    (Line(code=0, text=''), True)
    """
    if raw.startswith(" "):
        return Line(before, raw[1:]), False
    code, mark, text = raw[:4], raw[4:5], raw[5:]
    if not (code.isascii() and code.isdigit() and len(code) == 4) or mark not in (" ", "-", ""):
        raise ValueError(raw)
    return Line(int(code), text), mark != "-"


async def ask(control: Path, command: str, timeout_s: float = TIMEOUT_S) -> tuple[Line, ...]:
    """What BIRD answers to `command`, its greeting left out.

    Raises:
        AtollError: nobody listens, no answer in time, or BIRD refuses.
    """
    assert "\n" not in command
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(control, limit=_MAX_LINE)
            try:
                await _reply(reader)
                writer.write(command.encode() + b"\n")
                lines = await _reply(reader)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise AtollError(f"BIRD said nothing within {timeout_s:g} s", where=str(control)) from None
    except OSError as error:
        raise AtollError(
            f"no BIRD to talk to: {error.strerror or error}",
            hint="it has to run, and this user may have to be in the group `bird`",
            where=str(control),
        ) from error
    except (ValueError, asyncio.IncompleteReadError) as error:
        raise AtollError("what listens there is no BIRD", where=str(control)) from error
    refused = [line.text for line in lines if line.code >= FIRST_ERROR]
    if refused:
        raise AtollError(f"BIRD refuses {command!r}: {' '.join(refused)}", where=str(control))
    return lines


async def _reply(reader: asyncio.StreamReader) -> tuple[Line, ...]:
    lines: list[Line] = []
    last = False
    while not last:
        raw = (await reader.readuntil(b"\n")).decode(errors="replace").rstrip("\n")
        line, last = read_line(raw, lines[-1].code if lines else 0)
        lines.append(line)
    return tuple(lines)
