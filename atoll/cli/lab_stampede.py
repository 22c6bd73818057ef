"""`atoll lab stampede`: how often is the origin asked for what everybody wants at once?"""

from __future__ import annotations

from time import time
from typing import Final, Literal

import click
import uvloop

from atoll.cli.client import Client
from atoll.cli.lab_network import bar, scene_of, until_whole
from atoll.cli.output import json_option, print_json, print_table, say
from atoll.control.answers import PopAction, ProcessKill
from atoll.lab import stampede as stampedes

_COLUMNS: Final = (
    ">trial",
    ">origin requests",
    ">p50 ms",
    ">p99 ms",
    ">retried",
    ">thrice",
    ">unanswered",
    ">wrong",
)


@click.command()
@click.option(
    "--requests", default=1000, show_default=True, type=click.IntRange(1, 4000), help="Users at a time."
)
@click.option("--trials", default=10, show_default=True, type=click.IntRange(1, 1000), help="How often.")
@click.option(
    "--kill-shield",
    "kill",
    is_flag=False,
    flag_value="pop",
    default="",
    type=click.Choice(["", "worker", "pop"]),
    help="Kill the shield while the origin works: all of the PoP, or its worker.",
)
@json_option
def stampede(requests: int, trials: int, kill: Literal["", "worker", "pop"], as_json: bool) -> int:
    """Have everybody ask for the same cold object, and count what the origin is asked.

    The origin takes 200 ms for its answer. It should be asked once; with the shield killed meanwhile, once
    more for each PoP at most, and everybody should be answered.

    Exit code 1 when it was asked more often, or an answer was missing or wrong.

    \b
    Examples:
      atoll lab stampede --requests 1000 --trials 10
      atoll lab stampede --kill-shield --json
    """
    with Client() as client:
        scene = scene_of(client)

        def hurt() -> None:
            if kill == "pop":
                client.post(f"/v1/pops/{scene.shield}/kill", PopAction)
            else:
                client.post(f"/v1/processes/{scene.shield}/edge-0/kill", ProcessKill)

        def heal() -> None:
            client.post(f"/v1/pops/{scene.shield}/start", PopAction)  # its falls are forgiven, they were ours
            until_whole(client)

        plan = stampedes.Plan(requests=requests, trials=trials, name=str(int(time())), kill=kill)
        with bar(quiet=as_json) as progress:
            task = progress.add_task(f"{requests} users, {len(scene.cities)} PoPs", total=trials)
            network = stampedes.Network(hurt, heal)
            outcome = uvloop.run(
                stampedes.run(scene, network, plan, lambda trial: progress.update(task, advance=1))
            )
    if as_json:
        print_json(outcome)
    else:
        _show(outcome)
    return 0 if outcome.ok else 1


def _show(outcome: stampedes.Result) -> None:
    rows = (
        (
            str(number),
            str(trial.origin_requests),
            f"{trial.latency_ms.p50:.0f}",
            f"{trial.latency_ms.p99:.0f}",
            str(trial.retried),
            str(trial.thrice),
            str(trial.unanswered),
            str(trial.wrong),
        )
        for number, trial in enumerate(outcome.trials, start=1)
    )
    print_table(_COLUMNS, rows)
    asked = outcome.origin_requests
    say(
        f"{'ok' if outcome.ok else 'not ok'}: the origin was asked {asked.p50:.0f} times (at most "
        f"{asked.max:.0f}, {outcome.most_origin_requests} allowed) for {outcome.requests} requests; p50 "
        f"{outcome.latency_ms.p50:.0f} ms, p99 {outcome.latency_ms.p99:.0f} ms, {outcome.delay_ms} ms of it "
        f"the origin's; {outcome.unanswered} unanswered, {outcome.wrong} wrong",
        colour="green" if outcome.ok else "red",
    )
