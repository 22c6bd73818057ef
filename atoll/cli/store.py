"""`atoll adopt-store`: have every PoP follow the control plane's store, whichever it followed before."""

from __future__ import annotations

import click

from atoll.cli.client import Client
from atoll.cli.output import DEGRADED, json_option, print_json, print_table
from atoll.control.answers import FOLLOWS, Adoption


@click.command()
@json_option
@click.pass_context
def adopt_store(ctx: click.Context, as_json: bool) -> None:
    """Have every PoP follow the store there is, whichever it followed before.

    After a store was lost and made anew, PoPs go on with what they know and do not follow it: what it lacks
    would go out of service. First deploy what should serve, then adopt. Exits 3 when a PoP does not follow.

    \b
    Example:
      atoll adopt-store
    """
    with Client() as client:
        adoption = client.post("/v1/store/adopt", Adoption)
    if as_json:
        print_json(adoption)
    else:
        print_table(("pop", f"store {adoption.store}"), adoption.pops.items())
    if set(adoption.pops.values()) != {FOLLOWS}:
        ctx.exit(DEGRADED)
