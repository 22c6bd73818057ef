"""`atoll status`: what runs, where traffic goes, what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterable

import click

from atoll.cli.client import Client
from atoll.cli.output import DEGRADED, json_option, megabytes, print_json, print_table, say, seconds
from atoll.config.paths import resolve
from atoll.control.answers import Pop, Status
from atoll.errors import AtollError
from atoll.node import lock
from atoll.node.leaving import LEAVING
from atoll.wire.messages import SANDBOX_DETAIL, ProcessInfo

_POP_COLUMNS = ("pop", "state", "city", "announced", "functions", ">processes", ">memory", "catches")
_PROCESS_COLUMNS = ("process", "state", ">pid", ">up", ">restarts", ">memory", ">cpu")


@click.command()
@json_option
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """What runs, where traffic goes, what is wrong.

    Exits 3 when the network runs but is not as it should be, and says why on stderr.

    \b
    Examples:
      atoll status
      atoll status --json | jq '.catchment[] | {city, pop, rtt_ms}'
    """
    found = read_status(ctx)
    if as_json:
        print_json(found)
    else:
        show(found)
    if found.degraded:
        ctx.exit(DEGRADED)


def read_status(ctx: click.Context) -> Status:
    """The API's answer; a network whose API does not answer is degraded."""
    try:
        with Client() as client:
            return client.get("/v1/status", Status)
    except AtollError as error:
        if lock.holder(resolve(os.environ, os.getuid()).lock_file) is None:
            raise
        say(f"degraded: {error}", colour="yellow")
        return ctx.exit(DEGRADED)


def show(found: Status) -> None:
    """The PoPs, then what they share, then the complaints."""
    print_table(_POP_COLUMNS, (_pop_row(pop, found) for pop in found.pops))
    click.echo()
    print_table(_PROCESS_COLUMNS, (_process_row(process) for process in found.processes))
    everything = [*found.processes, *(process for pop in found.pops for process in pop.processes)]
    total = sum(process.rss for process in everything)
    click.echo(f"\n{len(everything)} processes, {megabytes(total)} private memory, latency {found.latency}")
    for reason in _reduced_sandboxes(everything):
        say(f"note: functions run in a reduced sandbox, without namespaces: {reason}", colour="yellow")
    for line in _leaving(found):
        click.echo(line)
    for complaint in found.degraded:
        say(f"degraded: {complaint}", colour="yellow")


def _leaving(found: Status) -> Iterable[str]:
    """Predecessors that live on."""
    for pop in found.pops:
        for process in pop.processes:
            if process.state == LEAVING:
                yield f"leaving: {pop.code}/{process.name} (pid {process.pid}) {process.detail}"


def _reduced_sandboxes(processes: Iterable[ProcessInfo]) -> list[str]:
    """Why hosts of functions have no namespaces: each reason once."""
    reduced = f"{SANDBOX_DETAIL}reduced"
    details = {process.detail for process in processes if process.detail.startswith(reduced)}
    return sorted(detail.removeprefix(reduced).strip(" ()") for detail in details)


def _pop_row(pop: Pop, found: Status) -> tuple[str, ...]:
    present = [process for process in pop.processes if process.state != LEAVING]
    ready = sum(process.state == "ready" for process in present)
    return (
        pop.code,
        pop.state,
        pop.city,
        _announced(pop),
        ", ".join(sorted(name.partition(".")[2] for name in pop.functions)),
        f"{ready}/{len(present)}",
        megabytes(sum(process.rss for process in pop.processes)),
        ", ".join(row.city for row in found.catchment if row.pop == pop.code),
    )


def _announced(pop: Pop) -> str:
    if pop.anycast is None:
        return "?" if pop.state == "up" else ""
    if pop.anycast.drain:
        return "draining" if pop.anycast.announced else "drained"
    return "yes" if pop.anycast.announced else f"no: {pop.anycast.reason}"


def _process_row(process: ProcessInfo) -> tuple[str, ...]:
    return (
        process.name,
        process.state,
        str(process.pid or ""),
        seconds(process.uptime_s),
        str(process.restarts),
        megabytes(process.rss),
        f"{process.cpu_s:.1f} s",
    )
