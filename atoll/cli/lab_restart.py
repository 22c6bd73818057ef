"""`atoll lab restart`: does anybody notice when processes are restarted?"""

from __future__ import annotations

import os
from time import monotonic
from typing import Final

import click
import msgspec
import uvloop

from atoll.cli.lab_network import bar
from atoll.cli.output import json_option, print_json, print_table, say
from atoll.cli.restart import GRACE_S, POP_ROLES, ask_network, plan, take
from atoll.config.paths import Paths, resolve
from atoll.config.spec import NetworkSpec
from atoll.errors import AtollError
from atoll.lab import restart as restarts

HOST: Final = "lab.example.com"
_COLUMNS: Final = (
    ">trial",
    ">restart ms",
    ">requests",
    ">failed",
    ">downloads broken",
    ">event streams broken",
    ">WebSockets broken",
    ">routes moved",
    ">longest gap ms",
    ">slowest ms",
)


@click.command()
@click.option(
    "--pop", "code", default="lhr", show_default=True, help="The PoP whose processes are restarted."
)
@click.option("--trials", default=20, show_default=True, type=click.IntRange(1, 1000), help="How often.")
@click.option("--rate", default=500.0, show_default=True, type=click.FloatRange(4, 20000), help="Requests/s.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(POP_ROLES),
    help="Restart only this role; may be repeated [supervisor and edge].",
)
@click.option("--hold", "held_s", default=6.0, show_default=True, help="Seconds that a download takes.")
@json_option
def restart(code: str, trials: int, rate: float, roles: tuple[str, ...], held_s: float, as_json: bool) -> int:
    """Restart a PoP's supervisor and edge workers under load, count what users notice, repeat.

    Half of the requests are asked on kept HTTP/1.1 connections, a quarter on new ones, a quarter over HTTP/2.
    Four downloads, four event streams and four WebSockets are open from before each restart until after it
    (where a restart takes longer than a download, one download after the other). Nothing is asked twice.

    Exit code 1 when a request failed, one of those broke, or the PoP's routes moved.

    \b
    Example:
      atoll lab restart --trials 20 --json
    """
    paths = resolve(os.environ, os.getuid())
    target = _target(paths, code, rate, held_s)
    done: list[restarts.Trial] = []
    chosen = roles or ("supervisor", "edge")

    async def act() -> float:
        began_s = monotonic()
        for step in plan(await ask_network(paths), [code], chosen, whole=False):
            await take(paths, step, GRACE_S)
        return (monotonic() - began_s) * 1000

    with bar(quiet=as_json) as progress:
        task = progress.add_task(f"restart {code}", total=trials)
        for _ in range(trials):
            done.append(uvloop.run(restarts.run_trial(target, act)))
            progress.update(task, advance=1)
    outcome = restarts.result(target, done)
    if as_json:
        print_json(outcome)
    else:
        _show(outcome)
    return 0 if outcome.ok else 1


def _target(paths: Paths, code: str, rate: float, held_s: float) -> restarts.Target:
    try:
        network = msgspec.json.decode(paths.network_file.read_bytes(), type=NetworkSpec)
    except OSError:
        raise AtollError("no network is running", "start one with `atoll up`") from None
    except msgspec.MsgspecError as error:
        raise AtollError(f"not a network: {error}", where=str(paths.network_file)) from error
    pop = next((pop for pop in network.pops if pop.code == code), None)
    if pop is None:
        raise AtollError(f"no PoP {code}", hint=f"there are {', '.join(pop.code for pop in network.pops)}")
    return restarts.Target(
        pop=code,
        http=(pop.address, pop.http_port),
        https=(pop.address, pop.https_port),
        host=HOST,
        path="/restart",
        rate=rate,
        held_s=held_s,
        internet=paths.internet_socket,
    )


def _show(outcome: restarts.Result) -> None:
    rows = (
        (
            str(number),
            f"{trial.restart_ms:.0f}",
            str(trial.requests),
            str(trial.failed_requests),
            f"{trial.broken_downloads} of {trial.downloads}",
            f"{trial.broken_events} of {trial.events}",
            f"{trial.broken_websockets} of {trial.websockets}",
            str(trial.routes_moved),
            f"{trial.longest_gap_ms:.1f}",
            f"{trial.slowest_ms:.1f}",
        )
        for number, trial in enumerate(outcome.trials, start=1)
    )
    print_table(_COLUMNS, rows)
    for trial in outcome.trials:
        for error, count in trial.errors.items():
            say(f"{count} × {error}", colour="red")
        for fault in trial.faults:
            say(fault, colour="red")
    broken = outcome.broken_downloads + outcome.broken_events + outcome.broken_websockets
    say(
        f"{'ok' if outcome.ok else 'not ok'}: {outcome.failed_requests} of {outcome.requests} requests "
        f"failed, {broken} of what was open broke, routes moved {outcome.routes_moved} times; longest gap "
        f"{outcome.longest_gap_ms:.1f} ms, slowest answer {outcome.slowest_ms:.1f} ms, longest restart "
        f"{outcome.restart_ms:.0f} ms",
        colour="green" if outcome.ok else "red",
    )
