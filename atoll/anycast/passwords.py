"""Secrets of TCP-MD5 (RFC 2385), each in a file that only its owner reads."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from atoll.anycast.neighbors import Neighbor
from atoll.errors import AtollError

MAX_LENGTH: Final = 80  # what Linux takes
_PLAIN: Final = re.compile(r"""[!-~]+""")
_QUOTING: Final = frozenset("\"'\\;{}")


def read_passwords(neighbors: Iterable[Neighbor]) -> dict[str, str]:
    """The secrets of those neighbours that have one, by name.

    Raises:
        AtollError: a file that cannot be read, that others may read, or that holds no such secret.
    """
    found = {}
    for neighbor in neighbors:
        if not neighbor.password_file:
            continue
        path = Path(neighbor.password_file)
        try:
            mode, text = path.stat().st_mode, path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AtollError(f"no secret for {neighbor.name}: {error}", where=str(path)) from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise AtollError(
                f"the secret of {neighbor.name} may be read by others", hint="chmod 600", where=str(path)
            )
        if not _PLAIN.fullmatch(text) or _QUOTING & set(text) or len(text) > MAX_LENGTH:
            raise AtollError(
                f"the secret of {neighbor.name} is not usable",
                hint=f"1 to {MAX_LENGTH} ASCII characters without spaces, quotes, backslashes, ; {{ }}",
                where=str(path),
            )
        found[neighbor.name] = text
    return found
