"""The command `atoll`: finds the noun, runs it, turns an error into a sentence and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 network degraded. Commands are imported when they are used, so
`atoll --help` costs no more than click.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Final

import click

from atoll import __version__
from atoll.cli.output import say_error
from atoll.errors import AtollError

FAILED: Final = 1
INTERRUPTED: Final = 130

# name: (where it is, what it does)
COMMANDS: Final = {
    "up": ("atoll.cli.up:up", "Start the network on this machine."),
    "down": ("atoll.cli.down:down", "Stop the network; nothing of it is left."),
    "restart": ("atoll.cli.restart:restart", "Go on as the code on disk, without losing a request."),
    "status": ("atoll.cli.status:status", "What runs, where traffic goes, what is wrong."),
    "pop": ("atoll.cli.pop:pop", "List, kill, start, stop, drain PoPs."),
    "logs": ("atoll.cli.logs:logs", "What processes and functions have written."),
    "deploy": ("atoll.cli.functions:deploy", "Deploy a function to every PoP."),
    "rollback": ("atoll.cli.functions:rollback", "Bring an earlier version of a function back."),
    "versions": ("atoll.cli.functions:versions", "The versions of a function, or all functions."),
    "delete": ("atoll.cli.functions:delete", "Take a function out of the network."),
    "purge": ("atoll.cli.purge:purge", "Forget what is stored, on every PoP."),
    "certs": ("atoll.cli.certs:certs", "Certificates for your own names: order, list, renew, import."),
    "apply": ("atoll.cli.apply:apply", "Put a policy file's sites, pools and origins into the network."),
    "sites": ("atoll.cli.apply:sites", "Sites, their routes, and where those lead."),
    "adopt-store": ("atoll.cli.store:adopt_store", "Have every PoP follow a store made anew."),
    "sign-url": ("atoll.cli.sign_url:sign_url", "Sign a URL for a route that asks for it."),
    "anycast": ("atoll.cli.anycast:anycast", "Announce prefixes for any service, by its health."),
    "serve": ("atoll.cli.serve:serve", "A caching proxy before your own servers, without a network."),
    "lab": ("atoll.cli.lab:lab", "Experiments on the running network."),
    "bench": ("atoll.cli.bench:bench", "Side-by-side benchmarks."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table as it stands: nothing is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="atoll")
def cli() -> None:
    """Your own edge network: one address, five PoPs, functions at each.

    \b
    Examples:
      atoll up                            start it, deploy the examples, say what to open
      curl -sD- http://tokyo.localhost:8080/ -o /dev/null
      atoll deploy examples/smart-routing
      atoll pop kill lhr                  see who takes over
      atoll down

    Exit codes: 0 done, 1 failed, 2 wrong use, 3 done but the network is degraded. ATOLL_HOME selects another
    network than the user's default one. `atoll COMMAND --help` says more about each.
    """


def run(arguments: list[str]) -> int:
    """Run one command; its exit code."""
    try:
        result = cli.main(arguments, prog_name="atoll", standalone_mode=False)
    except AtollError as error:
        say_error(error)
        return FAILED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has gone; the interpreter would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise  # a mistake of ours
        say_error(AtollError(error.strerror or type(error).__name__, where=str(error.filename)))
        return FAILED
    return result if isinstance(result, int) else 0


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
