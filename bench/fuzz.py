"""Fuzzing: arbitrary bytes for all that reads from a network, beside other readers of the same bytes.

    python -m bench.fuzz [--inputs 1000000] [--seed 1] [--targets h1,h2] [--json]
    python -m bench.fuzz --replay h1 'GET / HTTP/1.1\\r\\n\\r\\n'

What is compared is said by each target (`bench/fuzzing`). The same seed makes the same inputs, and an input
alone makes its finding: everything that a check draws comes from the input's own bytes. Memory is measured
once a target has warmed up, and at its end.

Exit code 0 when nothing was found and memory stayed flat, else 1.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import contextlib
import ctypes
import gc
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final, Protocol

import msgspec

from bench.fuzzing.fields import H3Target, RulesTarget
from bench.fuzzing.h1 import H1Target
from bench.fuzzing.h2 import H2Target, H2UpstreamTarget
from bench.fuzzing.prefixes import PrefixTarget
from bench.fuzzing.upstream import UpstreamTarget

FLAT_MB: Final = 32.0  # that a process may grow by in a target's measured part
_TURN: Final = 128  # inputs between two turns of the event loop, which runs what engines have put off
_WARM: Final = 0.2  # of a target's inputs fill its caches before memory is measured
_SHOWN: Final = 400  # bytes of an input in the report


class Target(Protocol):
    """Something that is fed, and what must hold."""

    name: str
    counts: Counter[str]  # what became of the inputs, so that a target that is never reached shows

    def seeds(self) -> list[bytes]:
        """What is tried as it is, first."""

    def make(self, rng: Random) -> bytes:
        """An input."""

    def check(self, data: bytes) -> list[str]:
        """What is wrong with how `data` is treated, in a few words each; any exception is a finding too."""


SHARES: Final[dict[type[Target], int]] = {
    H1Target: 40, UpstreamTarget: 15, H2Target: 12, H2UpstreamTarget: 8, H3Target: 5, RulesTarget: 15,
    PrefixTarget: 5,
}  # fmt: skip
"""Percent of all inputs. Where requests are told apart most is tried."""


class Finding(msgspec.Struct):
    """A kind of finding with its shortest input, as a Python literal."""

    target: str
    what: str
    count: int
    input: str


class TargetReport(msgspec.Struct, frozen=True):
    """One target's run; memory of the whole process in MB."""

    target: str
    inputs: int
    per_s: float
    grown_mb: float
    counts: dict[str, int]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    name: str = "fuzz"
    seed: int
    inputs: int
    duration_s: float
    targets: tuple[TargetReport, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


class Hunt:
    """A target's inputs, one after the other, and what they found."""

    def __init__(self, target: Target, seed: int) -> None:
        self.target = target
        self.findings: dict[str, Finding] = {}
        self._rng = Random(f"{seed} {target.name}")

    async def run(self, inputs: int) -> TargetReport:
        """Feed it `inputs` times."""
        seeds = self.target.seeds()
        warm, base_mb, began_s = int(inputs * _WARM), 0.0, time.process_time()
        for number in range(inputs):
            self.feed(seeds[number] if number < len(seeds) else self.target.make(self._rng))
            if number % _TURN == 0:
                await asyncio.sleep(0)
            if number == warm:
                base_mb = resident_mb()
        took_s = time.process_time() - began_s
        grown_mb = resident_mb() - base_mb
        if grown_mb > FLAT_MB:
            self._note("memory grows", f"{grown_mb:.0f} MB".encode())
        per_s = inputs / max(took_s, 1e-9)
        return TargetReport(
            self.target.name, inputs, round(per_s), round(grown_mb, 1), dict(self.target.counts)
        )

    def feed(self, data: bytes) -> None:
        """One input."""
        try:
            wrong = self.target.check(data)
        except Exception:  # noqa: BLE001 - that nothing escapes is what is tried
            wrong = [traceback.format_exc(limit=-3)]
        for what in wrong:
            self._note(what, data)

    def _note(self, what: str, data: bytes) -> None:
        text = repr(data)
        found = self.findings.get(what)
        if found is None:
            self.findings[what] = Finding(self.target.name, what, 1, text)
            return
        found.count += 1
        if len(text) < len(found.input):
            found.input = text


def resident_mb() -> float:
    """What the process holds, garbage and what the allocator keeps for later aside."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another libc than GNU's
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


async def hunt(inputs: int, seed: int, names: frozenset[str] = frozenset()) -> Report:
    """Every target of `names` (all, if there are none) with its share of `inputs`."""
    began_s = time.monotonic()
    chosen = {make: share for make, share in SHARES.items() if not names or _name(make) in names}
    whole = sum(chosen.values())
    reports: list[TargetReport] = []
    findings: list[Finding] = []
    for make, share in chosen.items():
        run = Hunt(make(), seed)
        reports.append(await run.run(max(1, inputs * share // whole)))
        findings += run.findings.values()
    return Report(
        seed=seed,
        inputs=sum(each.inputs for each in reports),
        duration_s=round(time.monotonic() - began_s, 1),
        targets=tuple(reports),
        findings=tuple(findings),
    )


def _name(make: type[Target]) -> str:
    return make.name


async def replay(name: str, data: bytes) -> Report:
    """One input again."""
    (make,) = [make for make in SHARES if _name(make) == name]
    run = Hunt(make(), 0)
    run.feed(data)
    return Report(seed=0, inputs=1, duration_s=0.0, targets=(), findings=tuple(run.findings.values()))


def show(report: Report) -> None:
    """For people."""
    for each in report.targets:
        counts = ", ".join(f"{count:,} {what}" for what, count in sorted(each.counts.items()))
        speed = f"{each.inputs:>9,} inputs {each.per_s:>7,.0f}/s {each.grown_mb:>+6.1f} MB"
        print(f"{each.target:12} {speed}   {counts}")
    for found in report.findings:
        print(f"\n{found.target}: {found.what} ({found.count} times), e.g.\n  {found.input[:_SHOWN]}")
    said = f"{len(report.findings)} findings" if report.findings else "nothing found"
    print(f"\n{report.inputs:,} inputs in {report.duration_s} s: {said}")


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    names = sorted(_name(make) for make in SHARES)
    parser = argparse.ArgumentParser(
        prog="python -m bench.fuzz", description="Arbitrary bytes for every parser."
    )
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same inputs")
    parser.add_argument("--targets", default="", help=f"of {', '.join(names)}, with commas; all without it")
    parser.add_argument("--replay", nargs=2, metavar=("TARGET", "INPUT"), help="one input of a report again")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    wanted = frozenset(filter(None, options.targets.split(",")))
    if not wanted <= {*names} or (options.replay and options.replay[0] not in names):
        parser.error(f"targets are {', '.join(names)}")
    if options.inputs < 1:
        parser.error("--inputs is at least 1")
    if options.replay:
        report = asyncio.run(replay(options.replay[0], _literal(options.replay[1])))
    else:
        report = asyncio.run(hunt(options.inputs, options.seed, wanted))
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        show(report)
    return 0 if report.ok else 1


def _literal(text: str) -> bytes:
    """An input as a report shows it; quotes and their `b` may be left out."""
    value = ast.literal_eval(text) if text[:2] in ("b'", 'b"') else ast.literal_eval(f"b'''{text}'''")
    return bytes(value)


if __name__ == "__main__":
    sys.exit(main())
