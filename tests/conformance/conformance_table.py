"""The whole table: every chapter's rows, in the order of the documents."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cases_forwarding
import cases_freshness
import cases_invalidation
import cases_ranges
import cases_requests
import cases_stale
import cases_status
import cases_storing
import cases_targeted
import cases_validation
import cases_vary
from conformance_case import Case

_CHAPTERS: Final = (
    cases_storing.CHAPTERS,
    cases_freshness.CHAPTERS,
    cases_vary.CHAPTERS,
    cases_requests.CHAPTERS,
    cases_validation.CHAPTERS,
    cases_invalidation.CHAPTERS,
    cases_ranges.CHAPTERS,
    cases_stale.CHAPTERS,
    cases_targeted.CHAPTERS,
    cases_status.CHAPTERS,
    cases_forwarding.CHAPTERS,
)

CASES: Final[tuple[Case, ...]] = tuple(
    case for chapters in _CHAPTERS for chapter in chapters for case in chapter.cases
)
PENDING: Final = Path(__file__).with_name("pending.txt")


def select(only: str) -> list[Case]:
    """Rows whose id has `only` in it, or whose RFC or "RFC section" is that."""
    return [
        case
        for case in CASES
        if only in case.id or only == case.rfc or f"{case.rfc} {case.section}".startswith(only)
    ]


def pending() -> set[str]:
    """The ids of rows that are known not to hold yet."""
    lines = PENDING.read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}
