"""`atoll apply` and `atoll sites`: what a policy file says, in the running network."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
import msgspec

from atoll.cli.client import Client
from atoll.cli.output import DEGRADED, json_option, print_json, print_table, say
from atoll.config.policy import PolicyFile, Surroundings
from atoll.control.answers import Applied, ApplyOrder, Site, Sites
from atoll.control.policy_changes import FieldChange, SpecChange
from atoll.control.rollout import ACTIVE
from atoll.errors import AtollError, RemoteError
from atoll.node.policy_file import read_policy

_SIGNS: Final = {"add": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red")}
_BY_ITSELF: Final = "(unsaid)"


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--prune", is_flag=True, help="What was applied before and is not in FILE goes.")
@json_option
@click.pass_context
def apply(ctx: click.Context, file: Path, dry_run: bool, prune: bool, as_json: bool) -> None:
    """Put the sites, pools and origins of a policy FILE into the running network.

    What the file does not name stays as it is: the network's own sites, functions' routes, what other files
    have brought. Nothing changes anywhere unless all of it can be served. Exits 3 when a PoP has not taken it
    yet; it catches up.

    \b
    Examples:
      atoll apply policy.toml --dry-run
      atoll apply policy.toml
      atoll apply policy.toml --prune
    """
    with Client() as client:
        read = _read(file, client.get("/v1/sites", Sites))
        order = ApplyOrder(policy=read.policy, prune=prune, dry_run=dry_run)
        try:
            applied = client.post("/v1/sites/apply", Applied, msgspec.to_builtins(order))
        except RemoteError as error:
            raise _located(error, read) from None
    if as_json:
        print_json(applied)
    else:
        _show(applied, dry_run=dry_run)
    if any(receipt.state != ACTIVE for receipt in applied.pops.values()):
        ctx.exit(DEGRADED)


@click.command()
@json_option
def sites(as_json: bool) -> None:
    """Sites and their routes: what hosts there are, and where requests go.

    \b
    Example:
      atoll sites
    """
    with Client() as client:
        found = client.get("/v1/sites", Sites)
    if as_json:
        print_json(found)
        return
    print_table(
        ("site", "from", "hosts", "route", "leads to", "cache", "rules"),
        [row for site in found.sites for row in _rows(site)],
    )


def _read(file: Path, there: Sites) -> PolicyFile:
    return read_policy(file, Surroundings(pools=there.pools, origins=there.origins, anywhere=False))


def _located(error: RemoteError, read: PolicyFile) -> AtollError:
    """What workers would refuse, by the file's line where it is the file's doing."""
    if error.where.startswith("sites."):
        return read.located(error)
    return error


def _show(applied: Applied, *, dry_run: bool) -> None:
    for change in applied.changes:
        _show_change(change)
    if not applied.changes:
        say("the network is that way already")
    elif dry_run:
        say("nothing has been changed: --dry-run")
    if applied.seq is not None:
        columns = ("pop", "state", ">ms")
        rows = applied.pops.items()
        print_table(
            columns, [(pop, r.state, f"{r.activate_ms:.1f}" if r.activate_ms else "") for pop, r in rows]
        )
        say(f"applied in {applied.total_ms:.0f} ms (seq {applied.seq})")


def _show_change(change: SpecChange) -> None:
    sign, colour = _SIGNS[change.action]
    click.secho(f"{sign} {change.kind} {change.name}", fg=colour)
    width = max((len(field.field) for field in change.fields), default=0)
    for field in change.fields:
        click.echo(f"    {field.field:<{width}}  {_words(field, change)}")


def _words(field: FieldChange, change: SpecChange) -> str:
    after = field.after or _BY_ITSELF
    return after if change.action == "add" else f"{field.before or _BY_ITSELF} → {after}"


def _rows(site: Site) -> list[tuple[str, ...]]:
    hosts = " ".join((site.host, *site.aliases))
    rows: list[tuple[str, ...]] = []
    for at, route in enumerate(site.routes):
        function = f"function {route.function}" if route.function else ""
        pool = f"pool {route.pool}" if route.pool else ""
        leads = ", then ".join(filter(None, (function, pool)))
        head = (site.name, site.source, hosts) if at == 0 else ("", "", "")
        rows.append((*head, route.path, leads, "yes" if route.cache else "no", ", ".join(route.rules)))
    return rows or [(site.name, site.source, hosts, "", "", "", "")]
