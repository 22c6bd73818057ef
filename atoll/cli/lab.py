"""`atoll lab`: experiments on the running network."""

from __future__ import annotations

from collections.abc import Iterator

import click
import uvloop

from atoll.cli.client import Client
from atoll.cli.lab_kills import kills
from atoll.cli.lab_network import bar, city_of_each_pop, gateway_port
from atoll.cli.lab_purge import purge
from atoll.cli.lab_restart import restart
from atoll.cli.lab_run import run
from atoll.cli.lab_soak import soak
from atoll.cli.lab_stampede import stampede
from atoll.cli.output import json_option, print_json, print_table, say
from atoll.control.answers import Change, Pop, PopAction
from atoll.errors import AtollError
from atoll.lab import rollout as rollouts
from atoll.lab.failover import Result, Target, Trial, choose_city, result, run_trial
from atoll.wire.messages import CatchmentTable

_COLUMNS = (
    ">trial",
    ">outage ms",
    ">requests",
    ">failed",
    ">after a retry",
    "taken over by",
    ">back ms",
    ">lost on return",
)
_ROLLOUT_COLUMNS = (
    ">trial",
    "change",
    ">served everywhere ms",
    "last PoP",
    ">reported ms",
    ">requests",
    ">failed",
)


@click.group()
def lab() -> None:
    """Experiments on the running network.

    \b
    Example:
      atoll lab failover --trials 5
      atoll lab rollout --trials 20
      atoll lab purge --trials 50 --partition nrt
      atoll lab stampede --requests 1000
      atoll lab kills --trials 100
      atoll lab soak --minutes 60
      atoll lab restart --trials 20
    """


lab.add_command(purge)
lab.add_command(stampede)
lab.add_command(kills)
lab.add_command(soak)
lab.add_command(restart)
lab.add_command(run)


@lab.command()
@click.option("--pop", "code", default="lhr", show_default=True, help="The PoP to kill.")
@click.option("--city", default="", help="Who looks [the PoP's own city, or the nearest it serves].")
@click.option("--trials", default=20, show_default=True, type=click.IntRange(1, 1000), help="How often.")
@click.option(
    "--rate", default=1000.0, show_default=True, type=click.FloatRange(1, 20000), help="Requests/s."
)
@click.option("--path", default="/", show_default=True, help="What to ask for.")
@click.option("--site", default="", help="Of this site, by its name [the default site].")
@click.option("--limit-ms", default=50.0, show_default=True, type=float, help="Longest outage to accept.")
@json_option
def failover(
    code: str, city: str, trials: int, rate: float, path: str, site: str, limit_ms: float, as_json: bool
) -> int:
    """Kill a PoP under load, measure what users notice, repeat.

    Each trial asks at a steady rate from one city, kills the PoP with SIGKILL, starts it again and waits for
    its users to come back. The outage is the longest time without a successful answer.

    Exit code 1 when an outage was longer than the limit, another PoP than the model's second choice took
    over, or the PoP did not come back.

    \b
    Examples:
      atoll lab failover --trials 5
      atoll lab failover --pop nrt --city seoul --rate 500 --json
    """
    with Client() as client:
        target = _target(client, code, city, rate, path, site)
        done: list[Trial] = []
        for trial in _trials(client, target, trials, quiet=as_json):
            done.append(trial)
    outcome = result(target, done, limit_ms)
    if as_json:
        print_json(outcome)
    else:
        _show(outcome)
    return 0 if outcome.ok else 1


def _target(client: Client, code: str, city: str, rate: float, path: str, site: str) -> Target:
    pops = {pop.code: pop for pop in client.get("/v1/pops", tuple[Pop, ...])}
    if code not in pops:
        raise AtollError(f"no PoP {code}", hint=f"there are {', '.join(pops)}")
    table = client.get("/v1/catchment", CatchmentTable)
    city = city or choose_city(table.rows, code, pops[code].city)
    without = client.get("/v1/catchment", CatchmentTable, without=code)
    second = {row.city: row.pop for row in without.rows}
    if city not in second:
        raise AtollError(f"no users in {city}", hint=f"there are some in {', '.join(second)}")
    address = ("127.0.0.1", gateway_port())
    return Target(
        pop=code, city=city, expected=second[city], rate=rate, address=address, path=path, site=site
    )


def _trials(client: Client, target: Target, count: int, *, quiet: bool) -> Iterator[Trial]:
    """Run them, with a bar where somebody looks."""

    def act(pop: str, action: str) -> None:
        client.post(f"/v1/pops/{pop}/{action}", PopAction)

    with bar(quiet=quiet) as progress:
        task = progress.add_task(f"kill {target.pop}, seen from {target.city}", total=count)
        for _ in range(count):
            trial = uvloop.run(run_trial(target, act))
            label = f"kill {target.pop}, seen from {target.city}: last outage {trial.outage_ms:.0f} ms"
            progress.update(task, advance=1, description=label)
            yield trial


def _show(outcome: Result) -> None:
    rows = (
        (
            str(number),
            f"{trial.outage_ms:.1f}",
            str(trial.requests),
            str(trial.failed_requests),
            str(trial.failed_after_one_retry),
            trial.taken_over_by
            + ("" if trial.taken_over_by == trial.expected else f" (not {trial.expected})"),
            f"{trial.back_ms:.0f}" if trial.back_ms is not None else "never",
            str(trial.on_return.failed_after_one_retry),
        )
        for number, trial in enumerate(outcome.trials, start=1)
    )
    print_table(_COLUMNS, rows)
    verdict = "ok" if outcome.ok else "not ok"
    say(
        f"{verdict}: outage p50 {outcome.outage_ms.p50:.1f} ms, longest {outcome.outage_ms.max:.1f} ms "
        f"(limit {outcome.limit_ms:.0f} ms); {outcome.failed_requests} requests failed, "
        f"{outcome.failed_after_one_retry} after one retry",
        colour="green" if outcome.ok else "red",
    )


@lab.command()
@click.option("--trials", default=20, show_default=True, type=click.IntRange(1, 1000), help="How often.")
@click.option(
    "--rate", default=100.0, show_default=True, type=click.FloatRange(1, 5000), help="Requests/s per PoP."
)
@click.option("--limit-ms", default=1000.0, show_default=True, type=float, help="Longest change to accept.")
@json_option
def rollout(trials: int, rate: float, limit_ms: float, as_json: bool) -> int:
    """Deploy a new version under load, roll it back, repeat; measure what users notice.

    A change is over when no user at any PoP is answered by the old version any more; it is timed from the
    order to the control plane. Exit code 1 when a request failed or a change took longer than the limit.

    \b
    Example:
      atoll lab rollout --trials 20 --json
    """
    with Client() as client:
        cities = city_of_each_pop(client)
        try:
            steps = _rollouts(client, cities, trials, rate, quiet=as_json)
        finally:
            client.delete(f"/v1/functions/{rollouts.FUNCTION}", Change)
    outcome = rollouts.result(steps, rate, limit_ms)
    if as_json:
        print_json(outcome)
    else:
        _show_rollout(outcome)
    return 0 if outcome.ok else 1


def _rollouts(
    client: Client, cities: dict[str, str], trials: int, rate: float, *, quiet: bool
) -> list[rollouts.Step]:
    """Run them, with a bar where somebody looks."""
    path = f"/v1/functions/{rollouts.FUNCTION}"

    def change(action: str, data: bytes) -> float:
        if action == "deploy":
            return client.post(f"{path}/deploy", Change, content=data).total_ms
        return client.post(f"{path}/rollback", Change).total_ms

    with bar(quiet=quiet) as progress:
        task = progress.add_task(f"deploy and roll back at {', '.join(cities)}", total=2 * trials)
        address = ("127.0.0.1", gateway_port())

        def advance(step: rollouts.Step) -> None:
            label = f"{step.action}: everywhere after {step.all_served_ms:.0f} ms"
            progress.update(task, advance=1, description=label)

        return uvloop.run(rollouts.run(address, cities, trials, rate, change, advance))


def _show_rollout(outcome: rollouts.Result) -> None:
    rows = (
        (
            str(number // 2 + 1),
            step.action,
            f"{step.all_served_ms:.1f}",
            max(step.served_ms, key=lambda pop: step.served_ms[pop]),
            f"{step.reported_ms:.1f}",
            str(step.requests),
            str(step.failed_requests),
        )
        for number, step in enumerate(outcome.trials)
    )
    print_table(_ROLLOUT_COLUMNS, rows)
    deploy, back = outcome.deploy_ms, outcome.rollback_ms
    say(
        f"{'ok' if outcome.ok else 'not ok'}: deploy p50 {deploy.p50:.0f} ms, p99 {deploy.p99:.0f} ms; "
        f"rollback p50 {back.p50:.0f} ms, p99 {back.p99:.0f} ms (limit {outcome.limit_ms:.0f} ms); "
        f"{outcome.failed_requests} of {outcome.requests} requests failed",
        colour="green" if outcome.ok else "red",
    )
