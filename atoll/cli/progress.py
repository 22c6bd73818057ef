"""What a person sees while something starts: a line per stage, with its time.

On a terminal the stage under way turns a wheel; elsewhere only what is done is said.
"""

from __future__ import annotations

import sys
from time import monotonic

from rich.console import Console
from rich.status import Status

from atoll.cli.output import say


class Progress:
    """Stages one after the other. `quiet` for `--json`: times are kept, nothing is shown."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._began_s = self._stage_s = monotonic()
        self._wheel: Status | None = None
        self.seconds: dict[str, float] = {}
        if not quiet and sys.stderr.isatty():
            self._wheel = Console(stderr=True).status("")

    def doing(self, what: str) -> None:
        """A stage is under way."""
        self._stage_s = monotonic()
        if self._wheel is not None:
            self._wheel.update(what)
            self._wheel.start()

    def done(self, stage: str, note: str = "") -> None:
        """It is done."""
        took_s = monotonic() - self._stage_s
        self.seconds[stage] = round(took_s, 3)
        self.close()
        if not self._quiet:
            say(f"  {stage:<22} {took_s:5.1f} s  {note}".rstrip())

    def close(self) -> None:
        """Stop the wheel."""
        if self._wheel is not None:
            self._wheel.stop()

    @property
    def total_s(self) -> float:
        """Since the first stage began."""
        return monotonic() - self._began_s
