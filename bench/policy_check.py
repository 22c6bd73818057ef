"""The model check of the anycast policy as a table: `python -m bench.policy_check`; under a minute."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Final

from atoll.anycast.model_check import check
from atoll.anycast.model_world import Setup

NETWORKS: Final = (
    Setup(sites=2, events=1),
    Setup(sites=2, events=2),
    Setup(sites=3, events=1),
    Setup(sites=3, events=1, soft=(0,)),
    Setup(sites=3, events=2),
    Setup(sites=4, events=1),
    Setup(sites=4, events=1, soft=(0, 1)),
)
"""Small enough: one event more makes about a hundred times as many worlds."""


def main() -> int:
    """Print a row per network; 1 if anything was found."""
    findings = 0
    print("sites  soft  events   worlds   rounds  shedding  loops  shortest loop     time  findings")
    for setup in NETWORKS:
        start_s = perf_counter()
        outcome = check(setup)
        took_s = perf_counter() - start_s
        loop = "none" if outcome.shortest_loop_s is None else f"{outcome.shortest_loop_s:.0f} s"
        print(
            f"{setup.sites:5}  {len(setup.soft):4}  {setup.events:6}  {outcome.worlds:7}  "
            f"{outcome.rounds:7}  {outcome.shedding:8}  {outcome.loops:5}  "
            f"{loop:>13}  {took_s:5.1f} s  {len(outcome.findings):8}",
            flush=True,
        )
        for finding in outcome.findings:
            print(f"  {finding.kind}: {finding.what}", *finding.way, sep="\n    ")
        findings += len(outcome.findings)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
