"""`atoll lab kills`: does a cache that is killed serve wrong bytes?"""

from __future__ import annotations

from time import monotonic, sleep
from typing import Final

import click
import uvloop

from atoll.cli.client import Client
from atoll.cli.lab_network import WHOLE_S, bar, scene_of
from atoll.cli.output import json_option, print_json, print_table, say
from atoll.control.answers import PopAction, ProcessKill, Purge, Status
from atoll.errors import AtollError
from atoll.lab import kills as killing
from atoll.wire.messages import ProcessInfo

_COLUMNS: Final = (
    ">kill",
    "what",
    ">whole ms",
    ">requests",
    ">wrong",
    ">stale",
    *(f">{cause}" for cause in killing.CAUSES),
    ">unanswered",
)
_LOOK_S: Final = 0.1


@click.command()
@click.option("--trials", default=100, show_default=True, type=click.IntRange(1, 10_000), help="How often.")
@click.option(
    "--rate", default=40.0, show_default=True, type=click.FloatRange(1, 1000), help="Requests/s per PoP."
)
@click.option("--seed", default=1, show_default=True, help="Of the order, and of what users ask for.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(killing.SHARES)),
    help="Kill only these [all: writers and workers most often].",
)
@json_option
def kills(trials: int, rate: float, seed: int, only: tuple[killing.Kind, ...], as_json: bool) -> int:
    """Kill parts of the network under load, and check every byte that is served.

    Edge workers, some in the middle of storing something large, agents, supervisors with their PoP, and NATS
    are killed one after the other, in an order that the seed decides. After each, the network has to become
    whole again.

    Exit code 1 when a byte was wrong, an answer stale, a user without an answer, or a failure unexplained.

    \b
    Examples:
      atoll lab kills --trials 20
      atoll lab kills --only writer --seed 7 --json
    """
    with Client() as client:
        scene = scene_of(client)

        def kill(name: str) -> int:
            pid = _process(client.get("/v1/status", Status), name).pid
            client.post(f"/v1/processes/{name}/kill", ProcessKill)
            return pid

        def purge_tag(tag: str) -> None:
            client.post("/v1/purge", Purge, {"kind": "tag", "value": tag})

        network = killing.Network(kill, lambda target, pid: _until_whole(client, target, pid), purge_tag)
        plan = killing.Plan(kills=trials, rate=rate, seed=seed, kinds=only or tuple(killing.SHARES))
        with bar(quiet=as_json) as progress:
            task = progress.add_task("kill", total=trials)
            outcome = uvloop.run(
                killing.run(
                    scene,
                    network,
                    plan,
                    lambda done: progress.update(task, advance=1, description=f"killed {done.process}"),
                )
            )
    if as_json:
        print_json(outcome)
    else:
        _show(outcome)
    return 0 if outcome.ok else 1


def _process(status: Status, name: str) -> ProcessInfo:
    """A process by its name: `nats`, `lhr/agent`. One without an id where it is not known just now."""
    code, slash, own = name.rpartition("/")
    found = (
        next((pop.processes for pop in status.pops if pop.code == code), ()) if slash else status.processes
    )
    nobody = ProcessInfo(name=own, pid=0, state="unknown")
    return next((process for process in found if process.name == own), nobody)


def _until_whole(client: Client, target: killing.Target, pid: int) -> None:
    """Wait until another process is in the place of `pid`, and nothing is wrong.

    A PoP that is kept back for its falls is forgiven: they were ours.
    """
    began_s = monotonic()
    wrong: tuple[str, ...] = ()
    while monotonic() - began_s < WHOLE_S:
        try:
            status = client.get("/v1/status", Status)
            wrong = status.degraded
            if not wrong and _process(status, target.process).pid not in (0, pid):
                return
            if target.pop and any("suppressed" in complaint for complaint in wrong):
                client.post(f"/v1/pops/{target.pop}/start", PopAction)
        except AtollError as error:
            wrong = (error.message,)
        sleep(_LOOK_S)
    complaints = "; ".join(wrong) or f"{target.process} was not replaced"
    raise AtollError(f"the network is not whole again: {complaints}", "look at `atoll status`")


def _show(outcome: killing.Result) -> None:
    rows = (
        (
            str(number),
            kill.process if kill.kind != "writer" else f"{kill.process}, which writes",
            f"{kill.whole_ms:.0f}",
            str(kill.requests),
            str(kill.wrong),
            str(kill.stale),
            *(str(kill.failed.get(cause, 0)) for cause in killing.CAUSES),
            str(kill.unanswered),
        )
        for number, kill in enumerate(outcome.kills, start=1)
    )
    print_table(_COLUMNS, rows)
    for each in outcome.evidence:
        say(f"{each.what}: {each.path} at {each.pop} ({each.cache_status})", colour="red")
    for failure in outcome.unexplained:
        say(f"unexplained: {failure.path} at {failure.pop}: {failure.error}", colour="red")
    for kind, found in outcome.whole_ms.items():
        say(f"whole again after a killed {kind}: p50 {found.p50:.0f} ms, longest {found.max:.0f} ms")
    failed = ", ".join(f"{count} {cause}" for cause, count in outcome.failed.items()) or "none"
    say(
        f"{'ok' if outcome.ok else 'not ok'}: {outcome.wrong} wrong and {outcome.stale} stale of "
        f"{outcome.requests} answers over {len(outcome.kills)} kills and {outcome.purges} purges; first "
        f"tries that failed: {failed}; {outcome.unanswered} users without an answer",
        colour="green" if outcome.ok else "red",
    )
