"""What every command prints: one table printer, one JSON printer, one way to say an error.

Results go to stdout, everything about the doing of it to stderr, so that `--json` is always one JSON value.
Colour only where a person looks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import click
import msgspec

from atoll.errors import AtollError

DEGRADED: Final = 3  # exit code: done, but the network is not as it should be
FILE_WIDTH: Final = 200  # columns, where there is no terminal to ask

_Command = TypeVar("_Command", bound=Callable[..., Any])


def json_option(command: _Command) -> _Command:
    """The option that every command has."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")(command)


def print_json(value: object) -> None:
    """One JSON value on stdout."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under their columns. A column whose name starts with `>` is set to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_coloured(cell) for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH).print(table)


_COLOURS: Final = {"up": "green", "ready": "green", "starting": "yellow", "backoff": "red", "down": "red"}


def _coloured(cell: str) -> str:
    from rich.markup import escape

    colour = _COLOURS.get(cell)
    return f"[{colour}]{cell}[/]" if colour else escape(cell)


def say(text: str, *, colour: str | None = None) -> None:
    """A line for the person who waits, on stderr."""
    click.secho(text, err=True, fg=colour)


def say_error(error: AtollError) -> None:
    """What is wrong, where, and what to do."""
    click.secho("error: ", err=True, fg="red", bold=True, nl=False)
    click.secho(error.message, err=True, fg="red")
    if error.where:
        click.echo(f"  at    {error.where}", err=True)
    if error.hint:
        click.echo(f"  hint  {error.hint}", err=True)


def megabytes(size: int) -> str:
    """`12.3 MB`, empty for nothing."""
    return f"{size / 1e6:.1f} MB" if size else ""


def kilobytes(size: int) -> str:
    """`1.2 kB`."""
    return f"{size / 1e3:.1f} kB"


def seconds(duration_s: float) -> str:
    """`0.4 s`, `3 min`, `5 h`."""
    if duration_s < 120:
        return f"{duration_s:.1f} s"
    return f"{duration_s / 60:.0f} min" if duration_s < 7200 else f"{duration_s / 3600:.0f} h"
