"""`atoll deploy`, `rollback`, `versions`, `delete`: functions on every PoP, with a receipt from each.

A project is built here, on the author's machine: a mistake in it is told by file and line before anything
is sent. The API does the rest and answers with what each PoP did.
"""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from pathlib import Path

import click

from atoll.cli.client import Client, segment
from atoll.cli.output import DEGRADED, json_option, kilobytes, print_json, print_table, say
from atoll.cli.progress import Progress
from atoll.control.answers import Change, Function, Version
from atoll.control.rollout import ACTIVE, ID_LENGTH, PopReceipt
from atoll.errors import AtollError, RemoteError
from atoll.functions.workers import bundle
from atoll.functions.workers.binaries import esbuild_binary
from atoll.functions.workers.build import build

_RECEIPT_COLUMNS = ("pop", "state", ">prepare ms", ">activate ms")
_VERSION_COLUMNS = (">number", "version", "deployed", ">size", "serves", "routes")
_FUNCTION_COLUMNS = ("function", ">number", "version", ">versions", "routes")
_NOT_FOUND = 404


def pack_project(directory: Path) -> tuple[str, bytes]:
    """The name and the bundle of the project in `directory`.

    Raises:
        AtollError: a mistake in the project; `where` is a path that can be clicked.
    """
    if not directory.is_dir():
        raise AtollError(f"{directory} is no directory", hint="name a directory with a wrangler.toml")
    try:
        project, data = asyncio.run(build(directory, esbuild_binary(os.environ)))
    except AtollError as error:
        where = str(directory / error.where) if error.where else ""
        raise AtollError(error.message, error.hint, where) from error
    return project.name, data


def deploy_if_new(client: Client, directory: Path) -> Change | None:
    """Deploy a project unless its content has been deployed before, in service or not.

    A version that somebody has rolled back from stays out of service.
    """
    name, data = pack_project(directory)
    version_id = bundle.digest(data)[:ID_LENGTH]
    if any(version.id == version_id for version in _versions(client, name)):
        return None
    return _send(client, name, data)


def _versions(client: Client, name: str) -> tuple[Version, ...]:
    try:
        return client.get(f"/v1/functions/{segment(name)}/versions", tuple[Version, ...])
    except RemoteError as error:
        if error.status == _NOT_FOUND:
            return ()
        raise


def _send(client: Client, name: str, data: bytes) -> Change:
    return client.post(f"/v1/functions/{segment(name)}/deploy", Change, content=data)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@json_option
@click.pass_context
def deploy(ctx: click.Context, directory: Path, as_json: bool) -> None:
    """Deploy the Worker in DIRECTORY to every PoP.

    The directory holds a wrangler.toml or wrangler.jsonc. Every PoP starts the version first; only when all
    that answer can run it does it come into service, everywhere at once. If one refuses, what serves stays.
    Exits 3 when a PoP does not serve it yet.

    \b
    Examples:
      atoll deploy examples/smart-routing
      atoll deploy . --json | jq .total_ms
    """
    progress = Progress(quiet=as_json)
    try:
        progress.doing(f"building {directory}")
        name, data = pack_project(directory)
        progress.done("built", kilobytes(len(data)))
        progress.doing(f"deploying {name}")
        with Client() as client:
            change = _send(client, name, data)
        progress.done("deployed")
    finally:
        progress.close()
    _finish(ctx, change, as_json)


@click.command()
@click.argument("name")
@click.option("--to", metavar="VERSION", help="A version's number or id [what served before].")
@json_option
@click.pass_context
def rollback(ctx: click.Context, name: str, to: str | None, as_json: bool) -> None:
    """Bring an earlier version of a function back, on every PoP.

    A PoP that cannot run it does not keep the others from it. Exits 3 when a PoP does not serve it yet.

    \b
    Examples:
      atoll rollback smart-routing
      atoll rollback smart-routing --to 3
    """
    with Client() as client:
        change = client.post(f"/v1/functions/{segment(name)}/rollback", Change, {"to": to})
    _finish(ctx, change, as_json)


@click.command()
@click.argument("name")
@json_option
@click.pass_context
def delete(ctx: click.Context, name: str, as_json: bool) -> None:
    """Take a function and all its versions out of the network.

    Exits 3 when a PoP still serves it.

    \b
    Example:
      atoll delete smart-routing
    """
    with Client() as client:
        change = client.delete(f"/v1/functions/{segment(name)}", Change)
    _finish(ctx, change, as_json)


@click.command()
@click.argument("name", required=False)
@json_option
def versions(name: str | None, as_json: bool) -> None:
    """The versions of a function; without a NAME, every function.

    \b
    Examples:
      atoll versions
      atoll versions smart-routing
    """
    with Client() as client:
        if name is None:
            functions = client.get("/v1/functions", tuple[Function, ...])
            print_json(functions) if as_json else _show_functions(functions)
        else:
            found = client.get(f"/v1/functions/{segment(name)}/versions", tuple[Version, ...])
            print_json(found) if as_json else print_table(_VERSION_COLUMNS, map(_version_row, found))


def _show_functions(functions: tuple[Function, ...]) -> None:
    if not functions:
        say("No function is deployed. Deploy one: atoll deploy DIRECTORY.")
        return
    print_table(_FUNCTION_COLUMNS, map(_function_row, functions))


def _function_row(function: Function) -> tuple[str, ...]:
    routes = ", ".join(function.routes)
    return (function.name, str(function.number), function.version, str(function.versions), routes)


def _version_row(version: Version) -> tuple[str, ...]:
    deployed = datetime.fromtimestamp(version.created_s).strftime("%Y-%m-%d %H:%M:%S")
    serves = "yes" if version.active else "before" if version.previous else ""
    size = kilobytes(version.size)
    return (str(version.number), version.id, deployed, size, serves, ", ".join(version.routes))


def not_active(change: Change) -> str:
    """The PoPs that are not where the change is, each with its state; empty when all are."""
    behind = {pop: r for pop, r in change.pops.items() if r.state != ACTIVE}
    return ", ".join(
        f"{pop} ({r.state}: {r.why})" if r.why else f"{pop} ({r.state})" for pop, r in behind.items()
    )


def _finish(ctx: click.Context, change: Change, as_json: bool) -> None:
    """Show what each PoP did; a change that is not everywhere is degraded."""
    behind = not_active(change)
    if as_json:
        print_json(change)
    else:
        _show(change, behind)
    if behind:
        ctx.exit(DEGRADED)


def _show(change: Change, behind: str) -> None:
    print_table(_RECEIPT_COLUMNS, (_receipt_row(pop, receipt) for pop, receipt in change.pops.items()))
    took = f"{change.total_ms:.0f} ms"
    serves = f"serves version {change.number} ({change.version}), {took}"
    colour = "yellow" if behind else "green"
    say(f"{change.name} {serves if change.version else f'is gone ({took})'}", colour=colour)
    if behind:
        say(f"not yet on {behind}", colour=colour)
    for route in change.routes:
        say(f"  {route}")


def _receipt_row(pop: str, receipt: PopReceipt) -> tuple[str, ...]:
    return (pop, receipt.state, _ms(receipt.prepare_ms), _ms(receipt.activate_ms))


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
