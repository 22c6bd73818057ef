"""`atoll bench`: Atoll beside its peers, in one run on this machine.

The benchmarks are at the top of the checkout, not in the package: they start compilers' and distributions'
programs that a server has no use for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

import click

import atoll
from atoll.cli.output import json_option, print_json, print_table, say
from atoll.errors import AtollError

CHECKOUT: Final = Path(atoll.__file__).resolve().parent.parent


def load(name: str) -> ModuleType:
    """The module `bench.<name>` of the checkout.

    Raises:
        AtollError: this is not a checkout.
    """
    if not (CHECKOUT / "bench/__init__.py").is_file():
        hint = "clone the repository and run .venv/bin/atoll there"
        raise AtollError("benchmarks run from a checkout", hint=hint)
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))
    return import_module(f"bench.{name}")


@click.group()
def bench() -> None:
    """Side-by-side benchmarks: Atoll and a peer in turns, on one core each.

    They run from a checkout, on Linux with two cores or more.

    \b
    Examples:
      atoll bench hit --rounds 1 --metrics h1
      atoll bench function --json
    """


@bench.command()
@click.option("--peers", default="nginx", show_default=True, help="Peers, separated by commas.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 100), help="Of each metric.")
@click.option("--seconds", default=4.0, show_default=True, type=click.FloatRange(1, 600), help="Of a round.")
@click.option("--metrics", default="", help="Only these, e.g. h1,h2-tls; everything by default.")
@json_option
def hit(peers: str, rounds: int, seconds: float, metrics: str, as_json: bool) -> None:
    """Cached hits beside nginx: one object, and 100,000 by Zipf's law.

    Metrics: h1, h1-tls, h2-tls, zipf-h1, zipf-h2-tls.

    \b
    Examples:
      atoll bench hit
      atoll bench hit --rounds 1 --seconds 2 --metrics h1,h2-tls
    """
    module = load("hit")
    chosen = tuple(metrics.split(",")) if metrics else module.METRICS
    options = module.Options(peers=tuple(peers.split(",")), rounds=rounds, seconds=seconds, metrics=chosen)
    _show(module.run(options, say), as_json)


@bench.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 100), help="Of each metric.")
@click.option("--seconds", default=4.0, show_default=True, type=click.FloatRange(1, 600), help="Of a round.")
@json_option
def function(rounds: int, seconds: float, as_json: bool) -> None:
    """A trivial function through Atoll beside bare workerd on TCP.

    \b
    Example:
      atoll bench function --rounds 1
    """
    module = load("function")
    _show(module.run(module.Options(rounds=rounds, seconds=seconds), say), as_json)


def _show(outcome: tuple[object, object], as_json: bool) -> None:
    report, rounds = outcome
    if as_json:
        print_json(report)
        return
    print_table(*load("report").table(rounds))
    notes = getattr(report, "notes", {})
    for name, text in notes.items():
        say(f"{name}: {text}")
