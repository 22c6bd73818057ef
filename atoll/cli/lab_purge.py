"""`atoll lab purge`: is anybody served what has been purged?"""

from __future__ import annotations

from time import monotonic, sleep
from typing import Final

import click
import uvloop

from atoll.cli.client import Client
from atoll.cli.lab_network import bar, pop_of, scene_of, until_whole
from atoll.cli.output import json_option, print_json, print_table, say
from atoll.config.purge import Kind
from atoll.control.answers import PopAction, ProcessKill, Purge
from atoll.errors import AtollError
from atoll.lab import purge as purges
from atoll.wire.messages import ProcessInfo

MIXED: Final = "mixed"
_COLUMNS: Final = (">trial", "purged", "partition", ">ack ms", ">requests", ">checked", ">stale", ">failed")


@click.command()
@click.option("--trials", default=50, show_default=True, type=click.IntRange(1, 1000), help="How often.")
@click.option(
    "--rate", default=200.0, show_default=True, type=click.FloatRange(1, 5000), help="Requests/s per PoP."
)
@click.option(
    "--partition", default="", metavar="POP", help="Freeze this PoP's agent for some of the trials."
)
@click.option("--restart", is_flag=True, help="Kill the worker of the PoP that is cut off, too.")
@click.option(
    "--kind",
    default=MIXED,
    show_default=True,
    type=click.Choice([*purges.KINDS, MIXED]),
    help="What is purged by.",
)
@click.option("--soft", is_flag=True, help="Soft purges: what is selected is validated, not forgotten.")
@click.option("--seed", default=1, show_default=True, help="Of what users ask for.")
@json_option
def purge(
    trials: int,
    rate: float,
    partition: str,
    restart: bool,
    kind: str,
    soft: bool,
    seed: int,
    as_json: bool,
) -> int:
    """Change what the origin says, purge it under load, look for answers that are older.

    Users at every PoP ask for objects whose bodies name their version. After the acknowledgement of a purge
    nobody may be answered with what it selects. With a partition, a PoP hears of nothing for two of ten
    trials: its strict routes have to stay current all the same.

    Exit code 1 when an answer was stale or wrong, a request failed, or an acknowledgement took too long.

    \b
    Examples:
      atoll lab purge --trials 50
      atoll lab purge --trials 20 --partition nrt --kind tag --json
    """
    with Client() as client:
        scene = scene_of(client)
        if partition and partition not in scene.cities:
            raise AtollError(f"no PoP {partition} is up", f"there are {', '.join(scene.cities)}")
        if restart and not partition:
            raise click.UsageError("--restart takes a --partition.")

        def order(what: Kind, value: str, softly: bool) -> dict[str, str]:
            done = client.post("/v1/purge", Purge, {"kind": what, "value": value, "soft": softly})
            return {pop: receipt.state for pop, receipt in done.pops.items()}

        def agent_pid(pop: str) -> int:
            return next(process.pid for process in pop_of(client, pop).processes if process.name == "agent")

        def heard_s(pop: str) -> float:
            silent_s = pop_of(client, pop).heard_s
            return silent_s if silent_s is not None else float("inf")

        def worker(pop: str) -> ProcessInfo:
            return next(process for process in pop_of(client, pop).processes if process.name == "edge-0")

        def replace_worker(pop: str) -> None:
            before = worker(pop)
            client.post(f"/v1/processes/{pop}/edge-0/kill", ProcessKill)
            deadline_s = monotonic() + purges.LONGEST_RESTART_S
            while (now := worker(pop)).pid == before.pid or now.state != "ready":
                if monotonic() > deadline_s:
                    raise AtollError(f"{pop}'s worker does not come back", f"see `atoll logs {pop}-edge-0`")
                sleep(0.01)

        def forgive(pop: str) -> None:
            client.post(f"/v1/pops/{pop}/start", PopAction)
            until_whole(client)

        network = purges.Network(order, agent_pid, heard_s, replace_worker, forgive)
        chosen = purges.KINDS if kind == MIXED else tuple(name for name in purges.KINDS if name == kind)
        plan = purges.Plan(
            trials=trials, rate=rate, kinds=chosen, soft=soft, partition=partition, restart=restart, seed=seed
        )
        with bar(quiet=as_json) as progress:
            task = progress.add_task(f"purge, seen from {', '.join(scene.cities.values())}", total=trials)
            outcome = uvloop.run(
                purges.run(scene, network, plan, lambda trial: progress.update(task, advance=1))
            )
    if as_json:
        print_json(outcome)
    else:
        _show(outcome)
    return 0 if outcome.ok else 1


def _show(outcome: purges.Result) -> None:
    rows = (
        (
            str(number),
            trial.kind,
            trial.partition,
            f"{max(trial.ack_ms):.1f}",
            str(trial.requests),
            str(trial.checked),
            str(trial.stale),
            str(trial.failed_requests),
        )
        for number, trial in enumerate(outcome.trials, start=1)
    )
    print_table(_COLUMNS, rows)
    for each in outcome.evidence:
        say(
            f"{each.what}: {each.path} at {each.pop}, version {each.version} instead of {each.wanted}, asked "
            f"{each.since_ack_ms:.1f} ms after the acknowledgement ({each.cache_status})",
            colour="red",
        )
    spreads = (
        ("acknowledged", outcome.ack_ms),
        ("in a partition, when the lease had run out", outcome.ack_lapsed_ms),
        ("in a partition, later", outcome.ack_gone_ms),
        ("caught up after a partition", outcome.catch_up_ms),
    )
    for what, found in spreads:
        if found is not None:
            say(f"{what}: p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms, longest {found.max:.1f} ms")
    say(
        f"{'ok' if outcome.ok else 'not ok'}: {outcome.stale} of {outcome.checked} answers after an "
        f"acknowledgement were stale, {outcome.wrong} wrong; {outcome.failed_requests} of {outcome.requests} "
        f"requests failed",
        colour="green" if outcome.ok else "red",
    )
