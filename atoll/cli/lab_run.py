"""`atoll lab run`: experiments on an Internet of real routers, in network namespaces."""

from __future__ import annotations

import asyncio
from typing import Final

import click

from atoll.cli.bench_evict import progress_bar
from atoll.cli.output import json_option, print_json, print_table, say
from atoll.errors import AtollError
from atoll.lab import bgp_failover
from atoll.lab.bgp_failover import EVENTS, Driver, Event, Options

_COLUMNS: Final = (
    "driver",
    "event",
    ">trials",
    ">outage p50 ms",
    ">max ms",
    ">answered elsewhere p50 ms",
    ">max ms",
    ">probes lost",
    ">of",
    ">nobody took over",
)


@click.group()
def run() -> None:
    """Experiments on real BGP: a BIRD for each network, PoPs that announce, users who probe.

    Each raises a network of its own in network namespaces, as root or in a user namespace, and leaves
    nothing.

    \b
    Example:
      atoll lab run failover --trials 3
    """


@run.command()
@click.option("--pop", default="lhr", show_default=True, help="Which PoP leaves.")
@click.option("--trials", default=10, show_default=True, type=click.IntRange(1, 1000), help="Of each event.")
@click.option("--events", default=",".join(EVENTS), show_default=True, help="How it leaves.")
@click.option(
    "--driver",
    default="exabgp",
    show_default=True,
    type=click.Choice(["exabgp", "bird"]),
    help="Who speaks BGP.",
)
@json_option
def failover(pop: str, trials: int, events: str, driver: Driver, as_json: bool) -> int:
    """A PoP leaves in each of several ways: how long are its users without an answer?

    Exit code 1: users were left without a PoP.

    \b
    Examples:
      atoll lab run failover
      atoll lab run failover --driver bird --trials 3 --events withdraw,silent --json
    """
    options = Options(pop=pop, trials=trials, events=_events(events), driver=driver)
    with progress_bar(quiet=as_json) as progress:
        found = asyncio.run(bgp_failover.run(options, (lambda _: None) if as_json else say, progress))
    if as_json:
        print_json(found)
    else:
        say(
            f"{found.routers} routers, {found.links} links, all up after {found.up_s:g} s; "
            f"{found.as_the_model_says} choose the path that the model says"
        )
        print_table(
            _COLUMNS,
            [
                [
                    each.driver,
                    each.event,
                    str(each.trials),
                    f"{each.outage_p50_ms:.1f}",
                    f"{each.outage_max_ms:.1f}",
                    f"{each.switched_p50_ms:.1f}",
                    f"{each.switched_max_ms:.1f}",
                    str(each.lost),
                    str(each.sent),
                    str(each.unserved),
                ]
                for each in found.summaries
            ],
        )
    return 1 if any(each.unserved for each in found.summaries) else 0


def _events(text: str) -> tuple[Event, ...]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in EVENTS]
    if unknown or not words:
        raise AtollError(f"no event {', '.join(unknown) or text!r}", f"of {', '.join(EVENTS)}", "--events")
    return tuple(event for event in EVENTS if event in words)
