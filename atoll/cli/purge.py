"""`atoll purge`: have no PoP serve what it has stored, with a receipt from each."""

from __future__ import annotations

from typing import Final

import click

from atoll.cli.client import Client
from atoll.cli.output import DEGRADED, json_option, print_json, print_table, say
from atoll.config.purge import Kind
from atoll.control.answers import Purge

_COLUMNS: Final = ("pop", "state", ">ms")


@click.command()
@click.argument("urls", nargs=-1)
@click.option("--tag", "tags", multiple=True, help="What the origin tagged so (Cache-Tag, Surrogate-Key).")
@click.option("--host", "hosts", multiple=True, help="Everything of a host.")
@click.option("--prefix", "prefixes", multiple=True, help="Everything that begins so: host/path.")
@click.option("--all", "everything", is_flag=True, help="Everything.")
@click.option("--soft", is_flag=True, help="Validate what is selected instead of forgetting it.")
@json_option
@click.pass_context
def purge(
    ctx: click.Context,
    urls: tuple[str, ...],
    tags: tuple[str, ...],
    hosts: tuple[str, ...],
    prefixes: tuple[str, ...],
    everything: bool,
    soft: bool,
    as_json: bool,
) -> None:
    """Purge URLS (each with all its variants) on every PoP, or what the options select.

    Returns when no PoP serves it any more. A PoP that has lost touch is waited for until its lease has run
    out, five seconds at most; a fetch that was under way meanwhile brings nothing back. Exits 3 when a PoP
    has not answered.

    \b
    Examples:
      atoll purge https://shop.example.com/products/7
      atoll purge --tag product-7 --tag prices
      atoll purge --prefix shop.example.com/products/ --soft
      atoll purge --all
    """
    chosen: list[tuple[Kind, str]] = [("url", url) for url in urls]
    chosen += [("tag", tag) for tag in tags] + [("host", host) for host in hosts]
    chosen += [("prefix", prefix) for prefix in prefixes] + ([("all", "")] if everything else [])
    if not chosen:
        raise click.UsageError("Name what to purge: a URL, --tag, --host, --prefix or --all.")
    with Client() as client:
        done = [
            client.post("/v1/purge", Purge, {"kind": kind, "value": value, "soft": soft})
            for kind, value in chosen
        ]
    if as_json:
        print_json(done)
    else:
        for each in done:
            _print(each)
    if any(pop.state == "lapsed" for each in done for pop in each.pops.values()):
        ctx.exit(DEGRADED)


def _print(done: Purge) -> None:
    what = " ".join(filter(None, (done.selector.kind, done.selector.value)))
    say(f"purged {what} in {done.total_ms:.0f} ms (number {done.seq})")
    print_table(
        _COLUMNS,
        [(pop, r.state, "" if r.ms is None else f"{r.ms:.1f}") for pop, r in done.pops.items()],
    )
