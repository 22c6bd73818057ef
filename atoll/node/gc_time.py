"""How long a process stands still to collect garbage: nothing else runs in it meanwhile."""

from __future__ import annotations

import gc
from time import perf_counter


class GcTime:
    """Counts from `start` on: all collections, their time, and the longest."""

    def __init__(self) -> None:
        self.runs = 0
        self.total_s = 0.0
        self.longest_s = 0.0
        self._began_s = 0.0

    def start(self) -> None:
        """Have the collector tell of itself."""
        gc.callbacks.append(self._told)

    def stop(self) -> None:
        """Hear no more of it."""
        gc.callbacks.remove(self._told)

    def _told(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._began_s = perf_counter()
            return
        took_s = perf_counter() - self._began_s
        self.runs += 1
        self.total_s += took_s
        self.longest_s = max(self.longest_s, took_s)
