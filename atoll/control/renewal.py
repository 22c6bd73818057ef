"""When a certificate is renewed, and when again after a failure. Pure.

Two thirds of its life is the usual time. Where the authority has an opinion (RFC 9773) that one is taken, as
long as it leaves time for mistakes. Chance spreads what was issued together.
"""

from __future__ import annotations

from typing import Final

RENEW_AFTER: Final = 2 / 3  # of its life
JITTER: Final = 1 / 30  # of its life, earlier
LATEST: Final = 5 / 6  # of its life: whoever suggests later gets this
FIRST_RETRY_S: Final = 15 * 60.0  # authorities count failed validations by the hour
LONGEST_RETRY_S: Final = 24 * 3600.0
URGENT_RETRY_S: Final = 3600.0  # when it is about to expire
URGENT_S: Final = 3 * 24 * 3600.0
LOOK_AGAIN_S: Final = 6 * 3600.0  # at what the authority suggests


def renew_at_s(not_before_s: float, not_after_s: float, chance: float) -> float:
    """When to renew what is valid from `not_before_s` to `not_after_s`; `chance` is from [0, 1)."""
    life_s = not_after_s - not_before_s
    return not_before_s + life_s * (RENEW_AFTER - JITTER * chance)


def suggested_at_s(suggested_s: float, not_before_s: float, not_after_s: float) -> float:
    """The authority's suggestion, but not so late that a failure could not be made up for."""
    return min(suggested_s, not_before_s + (not_after_s - not_before_s) * LATEST)


def retry_at_s(failures: int, now_s: float, not_after_s: float, chance: float) -> float:
    """When to try again after `failures` in a row, the last one now; `chance` is from [0, 1)."""
    delay_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures - 1, 20))
    if 0.0 < not_after_s - now_s < URGENT_S:
        delay_s = min(delay_s, URGENT_RETRY_S)
    return now_s + delay_s * (0.8 + 0.4 * chance)
