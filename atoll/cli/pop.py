"""`atoll pop`: points of presence, one at a time."""

from __future__ import annotations

import click

from atoll.cli.client import Client
from atoll.cli.output import json_option, print_json, print_table, say
from atoll.control.answers import Pop, PopAction

_COLUMNS = ("pop", "state", ">asn", "city", "address", "announced", ">requests", ">hits")
_DONE = {
    "kill": "killed",
    "start": "up",
    "stop": "stopped",
    "drain": "draining: new users go elsewhere, open connections end by themselves",
    "undrain": "announced again",
}


@click.group()
def pop() -> None:
    """List, kill, start, stop, drain PoPs."""


@pop.command("list")
@json_option
def list_pops(as_json: bool) -> None:
    """Every PoP."""
    with Client() as client:
        pops = client.get("/v1/pops", tuple[Pop, ...])
    if as_json:
        print_json(pops)
    else:
        print_table(_COLUMNS, (_row(found) for found in pops))


def _row(found: Pop) -> tuple[str, ...]:
    anycast = found.anycast
    announced = ", ".join(anycast.announced) if anycast else ""
    if anycast and anycast.prepend:
        announced += f" (prepended {anycast.prepend}×)"
    return (
        found.code,
        found.state,
        str(found.asn),
        f"{found.city}, {found.country}",
        f"127.0.0.1:{found.http_port}",
        announced,
        str(sum(edge.requests for edge in found.edges)),
        str(sum(edge.hits for edge in found.edges)),
    )


def _act(code: str, action: str, as_json: bool) -> None:
    with Client() as client:
        done = client.post(f"/v1/pops/{code}/{action}", PopAction)
    if as_json:
        print_json(done)
    else:
        say(f"{done.pop} is {_DONE[action]} ({done.ms:.0f} ms)", colour="green")


@pop.command()
@click.argument("pop")
@json_option
def kill(pop: str, as_json: bool) -> None:
    """SIGKILL every process of a PoP at once, as when a machine dies."""
    _act(pop, "kill", as_json)


@pop.command()
@click.argument("pop")
@json_option
def start(pop: str, as_json: bool) -> None:
    """Start a PoP that was killed or stopped."""
    _act(pop, "start", as_json)


@pop.command()
@click.argument("pop")
@json_option
def stop(pop: str, as_json: bool) -> None:
    """Stop a PoP in order: routes first, then what it still answers, then the rest."""
    _act(pop, "stop", as_json)


@pop.command()
@click.argument("pop")
@json_option
def drain(pop: str, as_json: bool) -> None:
    """Send a PoP's users elsewhere; it stays drained until undrained."""
    _act(pop, "drain", as_json)


@pop.command()
@click.argument("pop")
@json_option
def undrain(pop: str, as_json: bool) -> None:
    """Take a PoP back into service."""
    _act(pop, "undrain", as_json)
