"""How long what is stored may be taken for what the network means by it."""

from __future__ import annotations

from collections.abc import Callable


class Lease:
    """Until when this PoP may take it that it has heard of every purge (monotonic seconds, from `clock`).

    A lease that nobody has ever granted holds: without a control plane there are no purges to miss. A worker
    that has one begins with a lease that has run out.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until_s: float | None = None

    def renew(self, until_s: float) -> None:
        """It holds until then."""
        self._until_s = until_s

    def holds(self) -> bool:
        """Whether it does."""
        return self._until_s is None or self._clock() < self._until_s
