"""`atoll down`: stop the whole network and make sure that nothing of it is left."""

from __future__ import annotations

import os
from time import monotonic

import click

from atoll.cli import daemon
from atoll.cli.output import json_option, print_json, say
from atoll.config.paths import Paths, resolve
from atoll.errors import AtollError
from atoll.node import lock
from atoll.node.folders import remove_run
from atoll.node.leftovers import leftovers, sweep


@click.command()
@json_option
def down(as_json: bool) -> None:
    """Stop the network; nothing of it is left.

    PoPs withdraw their routes and answer what they have; then everything else stops. What should still run
    after that is killed and named. Specs, bundles and logs stay on disk: the next `up` has the same
    functions.

    \b
    Example:
      atoll down
    """
    paths = resolve(os.environ, os.getuid())
    began_s = monotonic()
    holder = lock.holder(paths.lock_file)
    orderly = daemon.stop(holder, paths) if holder is not None else True
    killed = sweep(paths)
    _clear(paths)
    took_s = monotonic() - began_s
    if as_json:
        print_json({"was_running": holder is not None, "killed": killed, "seconds": round(took_s, 3)})
    else:
        _tell(holder is not None, orderly, killed, took_s)


def _clear(paths: Paths) -> None:
    """Remove the sockets; fails if a process still listens for the network.

    Raises:
        AtollError: something is left after all.
    """
    left = [f"{process.name()} (pid {process.pid})" for process in leftovers(paths)]
    if left:
        raise AtollError(
            f"still running: {', '.join(left)}", hint="they ignore SIGKILL; look at the kernel's log"
        )
    remove_run(paths)
    paths.endpoints_file.unlink(missing_ok=True)


def _tell(was_running: bool, orderly: bool, killed: list[str], took_s: float) -> None:
    if not was_running and not killed:
        say("No network was running.")
        return
    if not orderly:
        say(f"The network daemon did not end within {daemon.STOP_TIMEOUT_S:.0f} s.", colour="yellow")
    if killed:
        say(f"Killed what was left: {', '.join(killed)}.", colour="yellow")
    say(f"The network is down ({took_s:.1f} s).", colour="green")
