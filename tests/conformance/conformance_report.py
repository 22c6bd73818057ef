"""What came of playing the table: what failed and why, and how many rows of each section hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conformance_play import Result


def complaints(results: Iterable[Result]) -> list[str]:
    """Lines about every row that does not hold: what was expected, what was seen."""
    lines: list[str] = []
    for result in results:
        if result.good:
            continue
        case = result.case
        lines.append(f"{case.id}  [{case.level}, RFC {case.rfc} §{case.section}] {case.title}")
        for failure in result.failures:
            about = " (preparing)" if failure.setup else ""
            lines.append(
                f"    step {failure.step}{about}: {failure.what}: expected {failure.expected}, "
                f"seen {failure.seen}"
            )
    return lines


def counts(result: Result) -> bool:
    """Whether a row says something about the cache: see `sections`."""
    return result.case.level != "required" or result.outcome != "unmet"


def sections(results: Iterable[Result]) -> dict[tuple[str, str], tuple[int, int]]:
    """`(rfc, section)` (its first two numbers) to rows that hold and all rows; choices are left out.

    So is a row that must hold and could not be tried: a cache that does not do a thing does not do it wrong.
    """
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for result in results:
        if result.case.level == "check" or not counts(result):
            continue
        key = (result.case.rfc, ".".join(result.case.section.split(".")[:2]))
        good, total = found.get(key, (0, 0))
        found[key] = (good + result.good, total + 1)
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def totals(results: Sequence[Result]) -> dict[str, tuple[int, int]]:
    """Level to rows that hold (or are answered with yes) and all rows."""
    found: dict[str, tuple[int, int]] = {}
    for level in ("required", "optimal", "check"):
        rows = [result for result in results if result.case.level == level and counts(result)]
        found[level] = (sum(result.outcome in ("pass", "yes") for result in rows), len(rows))
    return found


def _order(key: tuple[str, str]) -> tuple[int, list[int]]:
    rfc, section = key
    return int(rfc), [int(part) for part in section.split(".") if part.isdigit()]
