"""How long to wait before the next try: doubling, bounded, and not in step with others."""

from __future__ import annotations

from typing import Final

FIRST_RETRY_S: Final = 0.05
LAST_RETRY_S: Final = 2.0


def backoff_s(attempt: int, jitter: float) -> float:
    """The pause before try `attempt` (0, 1, …): doubling up to a bound, of which `jitter` (0..1) is half.

    >>> backoff_s(0, 1.0), backoff_s(1, 1.0), backoff_s(1, 0.0), backoff_s(60, 1.0)
    (0.05, 0.1, 0.05, 2.0)
    """
    full = min(LAST_RETRY_S, FIRST_RETRY_S * (1 << min(attempt, 16)))
    return full * (0.5 + jitter / 2.0)
