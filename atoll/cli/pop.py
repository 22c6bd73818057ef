"""`atoll pop`: points of presence, one at a time."""

from __future__ import annotations

import click

from atoll.cli.client import Client, segment
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
    """List, kill, start, stop, drain PoPs.

    \b
    Examples:
      atoll pop list
      atoll pop kill lhr && atoll pop start lhr
      atoll pop drain nrt
    """


@pop.command("list")
@json_option
def list_pops(as_json: bool) -> None:
    """Every PoP: its network, its own address, what it announces, what it has answered.

    The requests counted include the PoP's own health checks, four a second.

    \b
    Examples:
      atoll pop list
      atoll pop list --json | jq '.[] | {code, announced: .anycast.announced}'
    """
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


def _act(code: str, action: str, as_json: bool, query: str = "") -> None:
    with Client() as client:
        done = client.post(f"/v1/pops/{segment(code)}/{action}{query}", PopAction)
    if as_json:
        print_json(done)
    else:
        say(f"{done.pop} is {_DONE[action]} ({done.ms:.0f} ms)", colour="green")


@pop.command()
@click.argument("pop")
@json_option
def kill(pop: str, as_json: bool) -> None:
    """SIGKILL every process of a PoP at once, as when a machine dies.

    It stays down until it is started.

    \b
    Example:
      atoll pop kill lhr
    """
    _act(pop, "kill", as_json)


@pop.command()
@click.argument("pop")
@json_option
def start(pop: str, as_json: bool) -> None:
    """Start a PoP that was killed or stopped.

    It is announced again once it has passed its health checks.

    \b
    Example:
      atoll pop start lhr
    """
    _act(pop, "start", as_json)


@pop.command()
@click.argument("pop")
@json_option
def stop(pop: str, as_json: bool) -> None:
    """Stop a PoP in order: routes, open requests, the rest.

    \b
    Example:
      atoll pop stop lhr
    """
    _act(pop, "stop", as_json)


@pop.command()
@click.argument("pop")
@click.option("--force", is_flag=True, help="Also when no other PoP announces.")
@json_option
def drain(pop: str, force: bool, as_json: bool) -> None:
    """Send a PoP's users elsewhere until it is undrained.

    For five seconds it announces with GRACEFUL_SHUTDOWN and a prepended path: new users go elsewhere, open
    connections go on. Then its routes are withdrawn. It stays drained over a restart. The last PoP that
    announces is not drained, unless you insist.

    \b
    Example:
      atoll pop drain nrt
    """
    _act(pop, "drain", as_json, "?force=true" if force else "")


@pop.command()
@click.argument("pop")
@json_option
def undrain(pop: str, as_json: bool) -> None:
    """Take a drained PoP back into service.

    \b
    Example:
      atoll pop undrain nrt
    """
    _act(pop, "undrain", as_json)
