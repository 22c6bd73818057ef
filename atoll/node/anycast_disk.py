"""What a PoP's anycast role keeps over its own end: the operator's intent, and how often the PoP fell.

Both are small JSON files beside each other, written whole or not at all. One that cannot be read counts as
none: a PoP that serves is better than a role that does not start.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from atoll.anycast.health import Health
from atoll.errors import AtollError


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator wants. `drained`: the window has passed, whatever the clock says since."""

    drain_since_s: float | None = None
    drained: bool = False


class Damping(msgspec.Struct, frozen=True, kw_only=True):
    """How often it fell. `up`: it served when this was written, so an end that changes it not was a fall."""

    penalty: float = 0.0
    suppressed: bool = False
    checked_s: float = 0.0  # seconds since the epoch
    up: bool = False


_Kept = TypeVar("_Kept", Intent, Damping)


class AnycastDisk:
    """`intent.json` and `damping.json` in a PoP's data folder."""

    def __init__(self, folder: Path) -> None:
        self._intent = folder / "intent.json"
        self._damping = folder / "damping.json"

    def intent(self) -> Intent:
        """What the operator wanted last."""
        return _read(self._intent, Intent)

    def keep_intent(self, intent: Intent) -> None:
        """Remember what the operator wants.

        Raises:
            AtollError: it cannot be written.
        """
        _write(self._intent, intent)

    def damping(self) -> Damping:
        """How often it fell."""
        return _read(self._damping, Damping)

    def keep_damping(self, health: Health, *, leaving: bool = False) -> None:
        """Remember how often it fell; `leaving` in order is no fall.

        Raises:
            AtollError: it cannot be written.
        """
        damping = Damping(
            penalty=health.penalty,
            suppressed=health.suppressed,
            checked_s=health.checked_s,
            up=health.state == "up" and not leaving,
        )
        _write(self._damping, damping)


def _read(path: Path, kind: type[_Kept]) -> _Kept:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return kind()


def _write(path: Path, value: Intent | Damping) -> None:
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(msgspec.json.encode(value))
        fresh.replace(path)
    except OSError as error:
        raise AtollError(f"it cannot be kept: {error.strerror}", where=str(path)) from error
