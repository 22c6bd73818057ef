"""`atoll bench evict`: which objects stay, on traces."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from atoll.cli.output import json_option, print_json, print_table, say
from atoll.errors import AtollError

_TENTH: Final = 0.1
Progress = Callable[[str, float], None]


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """A bar on a terminal; elsewhere a line for each tenth. Nothing when `quiet`."""
    if quiet:
        yield lambda _what, _share: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import (
            Progress as Bar,
        )

        columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=1.0)
            yield lambda what, share: bar.update(task, description=what, completed=share)
    else:
        said = [0.0]

        def line(what: str, share: float) -> None:
            if share >= said[0]:
                said[0] = share + _TENTH
                say(f"{share:4.0%}  {what}")

        yield line


def shares(text: str) -> tuple[float, ...]:
    """`0.1%,1%,10%` as shares.

    Raises:
        AtollError: one is no percentage above 0 and up to 100.
    """
    found = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        try:
            share = float(word.removesuffix("%")) / 100
        except ValueError:
            share = -1.0
        if not (word.endswith("%") and 0 < share <= 1):
            raise AtollError(f"{word!r} is no size of a cache", hint="for example 0.1%,1%,10%")
        found.append(share)
    return tuple(found)


def evict(load: Callable[[str], Any]) -> click.Command:
    """The command; `load` gives a module of `bench`."""

    @click.command()
    @click.option("--trace", type=click.Path(path_type=Path), help="A file; made-up traces without one.")
    @click.option(
        "--format",
        "trace_format",
        default="",
        help="oracleGeneral or csv; the file's name says it otherwise.",
    )
    @click.option("--families", default="", help="Only these made-up traces, separated by commas.")
    @click.option("--requests", default=200_000, show_default=True, type=click.IntRange(1000, 20_000_000))
    @click.option("--seed", default=1, show_default=True, help="Of made-up traces.")
    @click.option("--sizes", default="0.1%,1%,10%", show_default=True, help="Of the trace's bytes.")
    @click.option("--peers/--no-peers", default=True, help="Also libCacheSim's policies.")
    @json_option
    def command(
        trace: Path | None,
        trace_format: str,
        families: str,
        requests: int,
        seed: int,
        sizes: str,
        peers: bool,
        as_json: bool,
    ) -> None:
        """Eviction: Atoll's policy beside LRU, SIEVE, S3-FIFO, GDSF and Belady's rule.

        Object hits / byte hits, on traces that are made up from a seed, or on one in a file.

        \b
        Examples:
          atoll bench evict
          atoll bench evict --trace requests.csv --sizes 1%,10% --json
        """
        module = load("evict")
        chosen = tuple(filter(None, (name.strip() for name in families.split(","))))
        options = module.Options(
            trace=trace,
            trace_format=trace_format,
            families=chosen or tuple(module.FAMILIES),
            requests=requests,
            seed=seed,
            shares=shares(sizes),
            peers=peers,
        )
        with progress_bar(quiet=as_json) as progress:
            report = module.run(options, say, progress)
        if as_json:
            print_json(report)
            return
        print_table(*module.table(report))
        for name, why in report.left_out.items():
            say(f"{name}: left out: {why}")

    command.name = "evict"
    return command
