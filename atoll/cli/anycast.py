"""`atoll anycast`: announce prefixes for any service, by its health."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from atoll.cli.output import DEGRADED, json_option, print_json, print_table, say
from atoll.errors import AtollError

if TYPE_CHECKING:
    from atoll.wire.messages import AnycastStatus, Message

TIMEOUT_S: Final = 10.0
_EVENTS: Final = 10
_FOLDER: Final = click.Path(file_okay=False, path_type=Path)


def default_state() -> Path:
    """Where what has to outlive the process is kept."""
    if os.geteuid() == 0:
        return Path("/var/lib/atoll-anycast")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(base) / "atoll-anycast"


@click.group(invoke_without_command=True)
@click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="What to announce."
)
@click.option("--check", "only_check", is_flag=True, help="Read the file, say what it says, and end.")
@click.option(
    "--state", type=_FOLDER, metavar="DIR", help="What is kept, and the socket.  [default: by user]"
)
@click.pass_context
def anycast(context: click.Context, config: Path | None, only_check: bool, state: Path | None) -> None:
    """Announce prefixes over BGP while a service answers; withdraw them when it does not.

    For any service on this machine: nginx, a DNS server, an edge of Atoll's. Needs no network of Atoll's and
    no control plane. Speaks BGP itself (ExaBGP), or has a BIRD that runs here speak; docs/anycast.md has the
    file. SIGTERM withdraws, waits for the proof and ends.

    \b
    Examples:
      atoll anycast --config anycast.toml --check
      atoll anycast --config anycast.toml
      atoll anycast status
      atoll anycast drain
    """
    folder = state or default_state()
    context.obj = folder
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise click.UsageError("Name a --config FILE, or one of: status, drain, undrain.")
    from atoll.anycast.config_file import read_anycast_file

    try:
        text = config.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise AtollError(f"the file cannot be read: {error}", where=str(config)) from error
    file = read_anycast_file(str(config), text)
    if only_check:
        names = ", ".join(f"{each.name} (AS{each.asn})" for each in file.speaking.neighbors)
        say(f"ok: AS{file.speaking.asn} announces {', '.join(file.prefixes)} to {names}")
        return
    import uvloop

    from atoll.node.anycast_alone import run

    uvloop.run(run(file, folder))


@anycast.command()
@json_option
@click.pass_obj
def status(folder: Path, as_json: bool) -> None:
    """What is announced to whom, and why. Exit code 3: not everything is as it should be.

    \b
    Example:
      atoll anycast status
    """
    from atoll.wire.messages import GetAnycast

    found = _ask(folder, GetAnycast())
    if as_json:
        print_json(found)
    else:
        _print(found)
    if not found.announced or not all(each.up for each in found.neighbors):
        raise SystemExit(DEGRADED)


@anycast.command()
@json_option
@click.pass_obj
def drain(folder: Path, as_json: bool) -> None:
    """Send users elsewhere: GRACEFUL_SHUTDOWN and prepending, then withdrawn. Kept over a restart.

    \b
    Example:
      atoll anycast drain
    """
    _intend(folder, as_json, drain=True)


@anycast.command()
@json_option
@click.pass_obj
def undrain(folder: Path, as_json: bool) -> None:
    """Announce again.

    \b
    Example:
      atoll anycast undrain
    """
    _intend(folder, as_json, drain=False)


def _intend(folder: Path, as_json: bool, *, drain: bool) -> None:
    from atoll.wire.messages import GetAnycast, SetIntent

    _ask_any(folder, SetIntent(drain=drain))
    if as_json:
        print_json(_ask(folder, GetAnycast()))
    elif drain:
        say("draining: GRACEFUL_SHUTDOWN (RFC 8326) and prepending, then withdrawn")
    else:
        say("announced again, once the service answers")


def _ask(folder: Path, message: Message) -> AnycastStatus:
    from atoll.wire.messages import AnycastStatus

    answer = _ask_any(folder, message)
    assert isinstance(answer, AnycastStatus)
    return answer


def _ask_any(folder: Path, message: Message) -> Message:
    import asyncio

    from atoll.node.anycast_alone import SOCKET
    from atoll.wire import frames

    try:
        return asyncio.run(frames.ask(folder / SOCKET, message, TIMEOUT_S))
    except OSError as error:
        raise AtollError(
            "no `atoll anycast` runs here", "start one with --config, or name its --state folder", str(folder)
        ) from error


def _print(found: AnycastStatus) -> None:
    print_table(
        ["neighbor", "address", "AS", "session", ">for s", "BFD", "why"],
        [
            [
                each.name,
                each.address,
                str(each.asn),
                "up" if each.up else "down",
                f"{each.for_s:.0f}",
                each.bfd or "-",
                each.reason,
            ]
            for each in found.neighbors
        ],
    )
    extra = f" prepend {found.prepend}" if found.prepend else ""
    said = f"{', '.join(found.announced)}{extra} {' '.join(found.communities)}".strip()
    say(f"announced: {said or 'nothing'} ({found.reason})")
    for line in found.events[-_EVENTS:]:
        say(line)
