"""Plays the conformance table against Atoll's edge worker, or against any cache whose origin this becomes.

python tests/conformance/run.py                      every row; those that do not hold, and why
python tests/conformance/run.py --only 9110          an RFC, "9111 4.2", or a part of an id
python tests/conformance/run.py --only swr --verbose each row with its outcome
python tests/conformance/run.py --write-pending      note what does not hold in pending.txt
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

from conformance_edge import play_on_atoll
from conformance_report import complaints, sections, totals
from conformance_table import CASES, PENDING, select

_HEADER = "# Rows of the conformance table that Atoll does not pass yet: the list only gets shorter.\n"


def main() -> int:
    """Exit code 1 when a row does not hold."""
    parser = argparse.ArgumentParser(description="Play the conformance table.")
    parser.add_argument("--only", default="", help="an RFC, an RFC and section, or a part of an id")
    parser.add_argument("--verbose", action="store_true", help="each row with its outcome")
    parser.add_argument("--write-pending", action="store_true", help="note what does not hold")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    cases = select(options.only) if options.only else list(CASES)
    began_s = monotonic()
    results = play_on_atoll(cases)
    if options.verbose:
        for result in results:
            print(f"{result.outcome:<6}{result.case.id:<48}{result.case.title}")
    print("\n".join(complaints(results)))
    for (rfc, section), (good, total) in sections(results).items():
        print(f"RFC {rfc} §{section:<6} {good:>4} of {total}")
    summary = ", ".join(f"{level} {good} of {total}" for level, (good, total) in totals(results).items())
    print(f"{summary}; {monotonic() - began_s:.1f} s")
    if options.write_pending and not options.only:
        failed = sorted(result.case.id for result in results if not result.good)
        PENDING.write_text(_HEADER + "".join(f"{name}\n" for name in failed), encoding="utf-8")
    return int(not all(result.good for result in results))


if __name__ == "__main__":
    sys.exit(main())
