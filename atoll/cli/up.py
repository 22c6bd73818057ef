"""`atoll up`: start the network, or find that it runs; deploy the examples; say what to open.

Every step looks first and acts only on what is missing, so a second `up` is quick and changes nothing.
"""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import click
import msgspec

from atoll.cli import daemon
from atoll.cli.client import Client
from atoll.cli.output import DEGRADED, json_option, print_json, say
from atoll.cli.progress import Progress
from atoll.cli.stages import STAGES, waiting_for
from atoll.config.paths import Endpoints, Paths, resolve
from atoll.control.answers import Status
from atoll.errors import AtollError
from atoll.node import lock
from atoll.node.code import code_version
from atoll.wire import frames
from atoll.wire.messages import GetNetwork, NetworkStatus

START_TIMEOUT_S: Final = 90.0
POLL_S: Final = 0.1
EXAMPLES: Final = ("smart-routing", "ab-test")
_CITIES: Final = ("new-york", "london", "tokyo")


@click.command()
@click.option(
    "--latency",
    type=click.Choice(["off", "real"]),
    help="Delay users by their path's round trip [off].",
)
@click.option("--http-port", type=click.IntRange(0, 65535), help="The gateway's port for http [8080].")
@click.option("--https-port", type=click.IntRange(0, 65535), help="The gateway's port for https [8443].")
@click.option("--api-port", type=click.IntRange(0, 65535), help="The control API's port [9440].")
@click.option("--no-deploy", is_flag=True, help="Do not deploy the examples.")
@json_option
@click.pass_context
def up(
    ctx: click.Context,
    latency: str | None,
    http_port: int | None,
    https_port: int | None,
    api_port: int | None,
    no_deploy: bool,
    as_json: bool,
) -> None:
    """Start the network on this machine and leave it running.

    A second `up` finds the network running and changes nothing. A port of 0 lets the system choose. Exits 3
    when the network runs but is not as it should be.

    \b
    Examples:
      atoll up
      atoll up --latency real
      atoll up --http-port 8081 --https-port 8444 --api-port 9540
      ATOLL_HOME=/tmp/second atoll up --http-port 0 --https-port 0 --api-port 0
    """
    asked = {"latency": latency, "http": http_port, "https": https_port, "api": api_port}
    options = {name: str(value) for name, value in asked.items() if value is not None}
    paths = resolve(os.environ, os.getuid())
    progress = Progress(quiet=as_json)
    try:
        running = _start(paths, options, progress, as_json)
        _follow(paths, progress)
        behind = "" if no_deploy else _deploy(paths, progress)
        with Client(paths) as client:
            status = client.get("/v1/status", Status)
    finally:
        progress.close()
    _report(paths, status, progress, running, as_json)
    if status.degraded or behind:
        ctx.exit(DEGRADED)


def _start(paths: Paths, options: dict[str, str], progress: Progress, as_json: bool) -> bool:
    """Start the daemon unless one runs; whether one ran.

    Raises:
        AtollError: it cannot start, or one runs with other options.
    """
    holder = lock.holder(paths.lock_file)
    if holder is None:
        progress.doing("starting the network daemon")
        try:
            daemon.start(paths, options)
        except AtollError:
            holder = lock.holder(paths.lock_file)  # two at once: the other one was quicker
            if holder is None:
                raise
        else:
            progress.done("daemon")
            return False
    _compare(holder, _running(paths, holder), options)
    if not as_json:
        started = datetime.fromtimestamp(holder.started_s).strftime("%Y-%m-%d %H:%M:%S")
        say(f"A network is already running (pid {holder.pid}, started {started}).")
        if outdated := _outdated(paths):
            say(outdated, colour="yellow")
    return True


def _outdated(paths: Paths) -> str:
    """What to do when the network runs other code than there is on disk; empty when it does not."""
    try:
        reply = asyncio.run(frames.ask(paths.network_socket, GetNetwork()))
    except (OSError, AtollError):
        return ""  # it has only just begun, or is about to say itself what is wrong
    here = code_version()
    if not isinstance(reply, NetworkStatus) or reply.version in ("", here):
        return ""
    return f"It runs {reply.version}, this is {here}: `atoll restart --all` has it go on as this one."


def _running(paths: Paths, holder: lock.Holder) -> dict[str, str]:
    """The options of the network that runs, its ports as they really are."""
    options = {"latency": "off", **holder.options}
    try:
        ports = msgspec.structs.asdict(read_endpoints(paths))
    except (OSError, msgspec.MsgspecError):
        return options  # it has only just begun
    return {**options, **{name: str(port) for name, port in ports.items()}}


def _compare(holder: lock.Holder, running: dict[str, str], options: dict[str, str]) -> None:
    """What was asked for must be what runs; a port of 0 is any."""
    for name, value in options.items():
        before = running.get(name, value)
        if value not in ("0", before):
            message = f"a network is already running (pid {holder.pid}) with {name} {before}, not {value}"
            raise AtollError(message, hint="stop it first: `atoll down`")


def _follow(paths: Paths, progress: Progress) -> None:
    """Wait through the stages until the network is whole."""
    deadline_s = monotonic() + START_TIMEOUT_S
    for stage in STAGES:
        progress.doing(f"waiting for {stage}")
        while (missing := waiting_for(paths, stage)) and monotonic() < deadline_s:
            sleep(POLL_S)
        if missing:
            hint = f"look at `atoll logs {missing[0].split(' ')[0]}`"
            raise AtollError(f"{stage} not ready after {START_TIMEOUT_S:.0f} s: {', '.join(missing)}", hint)
        progress.done(stage)


def examples_folder() -> Path | None:
    """The examples of the checkout; None for an installation without them."""
    folder = Path(__file__).resolve().parents[2] / "examples"
    return folder if folder.is_dir() else None


def _deploy(paths: Paths, progress: Progress) -> str:
    """Deploy the examples that are missing; on which PoPs one is not active, by its receipts."""
    from atoll.cli.functions import deploy_if_new, not_active

    folder, behind = examples_folder(), ""
    for name in EXAMPLES if folder else ():
        assert folder is not None
        progress.doing(f"deploying {name}")
        with Client(paths) as client:
            change = deploy_if_new(client, folder / name)
        missing = not_active(change) if change else ""
        deployed = f"not yet on {missing}" if missing else "deployed to every PoP"
        progress.done(name, deployed if change else "already deployed")
        behind = behind or missing
    return behind


def read_endpoints(paths: Paths) -> Endpoints:
    """Where the running network listens."""
    return msgspec.json.decode(paths.endpoints_file.read_bytes(), type=Endpoints)


def addresses(endpoints: Endpoints) -> dict[str, str]:
    """What to open, by what it is."""
    http = f"localhost:{endpoints.http}"
    return {
        **{f"the shop from {city}": f"http://{city}.{http}/" for city in _CITIES},
        "the same over TLS": f"https://tokyo.localhost:{endpoints.https}/",
        "the A/B test": f"http://ab.london.{http}/",
        "the API": f"http://localhost:{endpoints.api}/openapi.json",
    }


def _report(paths: Paths, status: Status, progress: Progress, running: bool, as_json: bool) -> None:
    endpoints = read_endpoints(paths)
    if as_json:
        report = {
            "already_running": running,
            "seconds": {**progress.seconds, "total": round(progress.total_s, 3)},
            "endpoints": endpoints,
            "addresses": addresses(endpoints),
            "status": status,
        }
        print_json(report)
        return
    from atoll.cli import status as status_command

    say(f"The network is up ({progress.total_s:.1f} s).\n", colour="green")
    status_command.show(status)
    click.echo("\nOpen")
    for what, address in addresses(endpoints).items():
        click.echo(f"  {what:<24} {address}")
    click.echo("\nKill a PoP and reload: atoll pop kill lhr. Stop everything: atoll down.")
