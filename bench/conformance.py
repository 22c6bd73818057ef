"""The conformance table of `tests/conformance`, played against Atoll and its peers: who passes what.

Every row sends requests through the cache to a scripted origin, so it says what a cache does and not what it
claims. Atoll's edge worker runs in this process, as in its tests; peers are set up by `bench.conforming`.
Rows about a choice that the standards leave are counted apart, rows about Atoll's own words are not asked of
peers, and a row that must hold is left out where the cache does not do the thing that it is about.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

import msgspec

from atoll.control.certificates import ensure_leaves
from atoll.errors import AtollError
from atoll.lab import tools
from bench import machine, peers
from bench.conforming import ConformingNginx, start_varnish
from bench.haproxy import HAProxy
from bench.objects import HOST
from bench.trafficserver import TrafficServer

sys.path.insert(0, str(machine.ROOT / "tests/support"))
sys.path.insert(0, str(machine.ROOT / "tests/conformance"))

from conformance_case import Case
from conformance_edge import play_on_atoll
from conformance_origin import ScriptedOrigin
from conformance_play import Player, Result
from conformance_report import counts, sections, totals
from conformance_table import CASES, select

PEERS: Final = ("nginx", "varnish", "haproxy", "ats")
ATOLL: Final = "atoll"
_CACHE_BYTES: Final = 256 * 1024 * 1024

Say = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to ask, and which rows; `only` is an RFC, "9111 4.2" or a part of an id."""

    peers: tuple[str, ...] = ("nginx", "varnish")
    only: str = ""


class Score(msgspec.Struct, frozen=True):
    """Rows that hold, and all rows."""

    passed: int
    total: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one cache did."""

    version: str
    required: Score
    optimal: Score
    choices: Score  # answered with yes
    sections: dict[str, Score]  # "9111 4.2" → required and optimal rows
    failed: tuple[str, ...]  # ids of required and optimal rows that do not hold
    untried: (
        int  # rows that could not be tried: `optimal` ones count as not passed, `required` ones not at all
    )


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    name: str
    machine: machine.Machine
    cases: int
    outcomes: dict[str, Outcome]
    left_out: dict[str, str]  # peers that could not be started, and why


class Running(Protocol):
    """A peer that listens."""

    http_port: int

    def stop(self) -> None:
        """End it."""


def run(options: Options, say: Say) -> Report:
    """Play the table on everybody, one after the other.

    Raises:
        AtollError: a peer's name is not known, or there are no such rows.
    """
    cases = select(options.only) if options.only else list(CASES)
    if not cases:
        raise AtollError(f"no row of the table is {options.only!r}", hint="an RFC, or a part of a row's id")
    found = peers.find(options.peers, tools.cache_folder(os.environ), say)
    logging.disable(logging.CRITICAL)  # what the table provokes is not worth a line
    try:
        outcomes = {ATOLL: outcome("", play_on_atoll(cases))}
    finally:
        logging.disable(logging.NOTSET)
    for name in (name for name in options.peers if name not in found.left_out):
        say(f"{name}: {len(cases)} rows")
        program = peers.PROGRAMS[name][0]
        try:
            results = asyncio.run(_play_on_peer(name, found, cases))
        except AtollError as error:
            found.left_out[name] = error.message
            continue
        outcomes[name] = outcome(found.tools[program].version(peers.VERSION_FLAGS[program]), results)
    return Report(
        name="conformance",
        machine=machine.describe(),
        cases=len(cases),
        outcomes=outcomes,
        left_out=found.left_out,
    )


async def _play_on_peer(name: str, found: peers.Found, cases: Sequence[Case]) -> list[Result]:
    asked = [case for case in cases if not case.atoll_only]
    origin = ScriptedOrigin()
    await origin.start()
    with tempfile.TemporaryDirectory(prefix="atoll-conformance-") as folder, ExitStack() as stack:
        stack.callback(origin.stop)
        running = await asyncio.to_thread(_start, name, found, Path(folder), origin.port)
        stack.callback(running.stop)
        return await Player(("127.0.0.1", running.http_port), HOST, origin).play_all(asked)


def _start(name: str, found: peers.Found, folder: Path, origin_port: int) -> Running:
    if name == "nginx":
        return ConformingNginx(found.tools["nginx"], folder / name, origin_port)
    if name == "varnish":
        return start_varnish(found.tools, folder / name, origin_port)
    ensure_leaves(folder / "ca", ["localhost"], dt.datetime.now(dt.UTC))
    pem = folder / "ca/leaf/localhost.pem"
    if name == "haproxy":
        return HAProxy(found.tools["haproxy"], folder / name, origin_port, pem, _CACHE_BYTES)
    return TrafficServer(found.tools["traffic_server"], folder / name, origin_port, pem, _CACHE_BYTES)


def outcome(version: str, results: Sequence[Result]) -> Outcome:
    """Results as numbers."""
    level = {name: Score(*counted) for name, counted in totals(results).items()}
    failed = [result for result in results if not result.good and counts(result)]
    return Outcome(
        version=version,
        required=level["required"],
        optimal=level["optimal"],
        choices=level["check"],
        sections={
            f"{rfc} {section}": Score(*counted) for (rfc, section), counted in sections(results).items()
        },
        failed=tuple(result.case.id for result in failed),
        untried=sum(result.outcome == "unmet" for result in results),
    )


def table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for a person: a section a row, a cache a column."""
    outcomes = report.outcomes
    names = list(outcomes)
    rows = [
        [
            f"RFC {section.replace(' ', ' §')}",
            *(_cell(outcomes[name].sections.get(section)) for name in names),
        ]
        for section in outcomes[ATOLL].sections
    ]
    rows += [
        ["required", *(_cell(outcomes[name].required) for name in names)],
        ["optimal", *(_cell(outcomes[name].optimal) for name in names)],
        ["choices, answered yes", *(_cell(outcomes[name].choices) for name in names)],
    ]
    return ["section", *(f">{name}" for name in names)], rows


def versions(report: Report) -> dict[str, str]:
    """What the peers say they are."""
    return {name: each.version for name, each in report.outcomes.items() if each.version}


def _cell(score: Score | None) -> str:
    return f"{score.passed} / {score.total}" if score is not None and score.total else "–"
