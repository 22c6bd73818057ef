"""`atoll bench`: Atoll beside its peers, in one run on this machine.

The benchmarks are at the top of the checkout, not in the package: they start compilers' and distributions'
programs that a server has no use for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import click

import atoll
from atoll.cli.bench_evict import evict
from atoll.cli.output import json_option, print_json, print_table, say
from atoll.errors import AtollError

CHECKOUT: Final = Path(atoll.__file__).resolve().parent.parent
PEERS: Final = ("nginx", "varnish", "ats", "haproxy")
SECONDS: Final = click.FloatRange(1, 600)


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
    """Side-by-side benchmarks: Atoll and its peers in turns, on one core.

    They run from a checkout, on Linux with two cores or more. Peers and load generators that the machine
    lacks are taken from Debian's archive into a folder of their own, without being root.

    \b
    Examples:
      atoll bench hit --rounds 1 --metrics h1
      atoll bench function --json
    """


def side_by_side(name: str, what: str, example: str) -> click.Command:
    """`atoll bench <name>`: Atoll and its peers in turns."""

    @click.option("--peers", default="nginx", show_default=True, help=f"Of {', '.join(PEERS)}; or `none`.")
    @click.option(
        "--rounds", default=3, show_default=True, type=click.IntRange(1, 100), help="Of each metric."
    )
    @click.option("--seconds", default=4.0, show_default=True, type=SECONDS, help="Of a round.")
    @click.option("--metrics", default="", help="Only these, separated by commas.")
    @click.option("--bare/--no-bare", default=True, help="Also the bare loop, the upper bound.")
    @json_option
    def command(peers: str, rounds: int, seconds: float, metrics: str, bare: bool, as_json: bool) -> None:
        module = load("turns")
        options = module.Options(
            command=name,
            peers=_names("" if peers == "none" else peers),
            bare=bare,
            rounds=rounds,
            seconds=seconds,
            metrics=_names(metrics),
        )
        _show(module.run(options, say), as_json)

    text = f"{what}\n\n\b\nExamples:\n  atoll bench {name}\n  atoll bench {name} {example}"
    return click.command(name, help=text)(command)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in text.split(","))))


for _name, _what, _example in (
    (
        "hit",
        "Cached hits: one object, and 100,000 of them by Zipf's law and all alike.",
        "--rounds 1 --seconds 2 --metrics h1,h2-tls",
    ),
    ("miss", "Misses: a new object each time, fetched and stored.", "--peers nginx,varnish,ats,haproxy"),
    ("h2", "Cached hits over HTTP/2, clear and with TLS.", "--peers nginx,haproxy"),
    (
        "tls",
        "TLS: hits over h1 and h2, and new connections, with full handshakes and resumed ones.",
        "--metrics connect-tls,resume-tls",
    ),
    ("big", "Large bodies: 100 KiB, 10 MiB, and a range out of it; in MB/s.", "--metrics range-1m"),
    ("mix", "A million objects of all sizes by Zipf's law, in a cache that holds few of them.", "--rounds 1"),
):
    bench.add_command(side_by_side(_name, _what, _example))
bench.add_command(evict(load))


@bench.command()
@click.option(
    "--seconds", default=0.5, show_default=True, type=click.FloatRange(0.01, 60), help="Of a decision."
)
@json_option
def admission(seconds: float, as_json: bool) -> None:
    """What a request's rules cost, in microseconds: limits, lists, tokens, signed URLs. No peers, no sockets.

    \b
    Example:
      atoll bench admission --seconds 0.2
    """
    module = load("admission")
    costs = module.run(seconds, say)
    if as_json:
        print_json(costs)
    else:
        print_table(*module.table(costs))


@bench.command()
@click.option("--objects", default=100_000, show_default=True, type=click.IntRange(1000, 10_000_000))
@click.option("--folder", type=click.Path(path_type=Path), help="Where; the temporary folder by default.")
@json_option
def disk(objects: int, folder: Path | None, as_json: bool) -> None:
    """The store on disk: what its calls cost, full or not, and how long it takes to open. No peers.

    \b
    Examples:
      atoll bench disk
      atoll bench disk --objects 300000 --folder /var/tmp
    """
    module = load("disk")
    costs = module.run(module.Options(objects=objects, folder=folder), say)
    if as_json:
        print_json(costs)
    else:
        print_table(*module.table(costs))


@bench.command("open")
@click.option("--objects", default=1_000_000, show_default=True, type=click.IntRange(1000, 10_000_000))
@click.option(
    "--load", "share", default=0.6, show_default=True, type=click.FloatRange(0.05, 0.95), help="Of the core."
)
@click.option("--seconds", default=60.0, show_default=True, type=SECONDS, help="Of the measurement.")
@click.option(
    "--handshakes", default=500.0, show_default=True, type=click.FloatRange(1, 5000), help="TLS, a second."
)
@click.option(
    "--readers", default=10_000, show_default=True, type=click.IntRange(1, 19_000), help="Slow ones."
)
@json_option
def open_loop(
    objects: int, share: float, seconds: float, handshakes: float, readers: int, as_json: bool
) -> None:
    """Latency at a load that does not wait for answers, with TLS handshakes, slow readers and purges.

    \b
    Example:
      atoll bench open --objects 100000 --readers 1000 --seconds 20
    """
    module = load("open")
    options = module.Options(
        objects=objects, load=share, seconds=seconds, handshakes=handshakes, readers=readers
    )
    outcome = module.run(options, say)
    if as_json:
        print_json(outcome)
    else:
        print_table(*module.table(outcome))


@bench.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 100), help="Of each metric.")
@click.option("--seconds", default=2.0, show_default=True, type=SECONDS, help="Of a round.")
@json_option
def h3(rounds: int, seconds: float, as_json: bool) -> None:
    """What HTTP/3 costs the edge worker that speaks it: per hit, per MB, per handshake. No peers.

    \b
    Example:
      atoll bench h3 --rounds 1
    """
    module = load("h3")
    costs = module.run(rounds, seconds, say)
    if as_json:
        print_json(costs)
    else:
        print_table(*module.table(costs))


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


@bench.command()
@click.option(
    "--peers", default="nginx,varnish", show_default=True, help=f"Of {', '.join(PEERS)}; or `none`."
)
@click.option("--only", default="", help="An RFC, `9111 4.2`, or a part of a row's id.")
@json_option
def conformance(peers: str, only: str, as_json: bool) -> None:
    """The conformance table: what each cache does in every case, by RFC section.

    Nothing is measured here but behaviour. Exit code 1: Atoll does not pass every row.

    \b
    Examples:
      atoll bench conformance --peers nginx,varnish,haproxy,ats
      atoll bench conformance --only 9213 --json
    """
    module = load("conformance")
    options = module.Options(peers=_names("" if peers == "none" else peers), only=only)
    report = module.run(options, say)
    if as_json:
        print_json(report)
    else:
        print_table(*module.table(report))
        for name, text in {**module.versions(report), **report.left_out}.items():
            say(f"{name}: {text}")
    if report.outcomes[module.ATOLL].failed:
        raise SystemExit(1)


@bench.command()
@click.option(
    "--as-rel",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="CAIDA's as-rel or as-rel2, plain, gz or bz2; else a synthetic graph.",
)
@click.option("--ases", default=78_000, show_default=True, type=click.IntRange(100, 500_000), help="Of that.")
@click.option("--rounds", default=50, show_default=True, type=click.IntRange(3, 10_000), help="Of each plan.")
@click.option("--seed", default=1, show_default=True, help="Of the graph and the origins.")
@click.option("--peers", default="bgpy", show_default=True, help="`bgpy` or `none`.")
@json_option
def catchment(as_rel: Path | None, ases: int, rounds: int, seed: int, peers: str, as_json: bool) -> None:
    """The model of the Internet: ms a run, beside BGPy on the same graph, and whether both choose alike.

    Exit code 1: they do not.

    \b
    Examples:
      atoll bench catchment
      atoll bench catchment --as-rel 20260101.as-rel2.txt.bz2 --json
    """
    if peers not in ("bgpy", "none"):
        raise AtollError(f"no peer {peers!r}", "bgpy or none", "--peers")
    module = load("catchment")
    options = module.Options(as_rel=as_rel, ases=ases, rounds=rounds, seed=seed, peers=peers == "bgpy")
    report = module.run(options, say)
    if as_json:
        print_json(report)
    else:
        print_table(*module.table(report))
        built = "" if report.bgpy_build_s is None else f"; BGPy built it in {report.bgpy_build_s:.1f} s"
        say(f"{report.ases:,} ASes, {report.links:,} links ({report.graph}), {report.load_s:.1f} s{built}")
        for name, text in report.left_out.items():
            say(f"{name}: {text}")
    if not report.ok:
        raise SystemExit(1)


@bench.command()
@click.option("--minutes", default=10.0, show_default=True, type=click.FloatRange(0, 600), help="Under load.")
@click.option("--trials", default=20, show_default=True, type=click.IntRange(1, 1000), help="Silences.")
@json_option
def bfd(minutes: float, trials: int, as_json: bool) -> None:
    """BFD sessions with BIRD and FRR: steady under load, quick to notice silence.

    Routers run in network namespaces; no rights are needed where the kernel gives them to users. Exit code 1:
    a session changed under load, or a silence was missed.

    \b
    Examples:
      atoll bench bfd --minutes 1
      atoll bench bfd --trials 100 --json
    """
    module = load("bfd")
    held = module.run(module.Options(minutes=minutes, trials=trials), say)
    if as_json:
        print_json(held)
    else:
        print_table(*module.table(held))
    if any(each.changes_under_load or each.missed for each in held):
        raise SystemExit(1)


def _show(outcome: tuple[Any, Any], as_json: bool) -> None:
    """A report, and exit code 1 when there was something that Atoll did not do right."""
    report, rounds = outcome
    if as_json:
        print_json(report)
    else:
        print_table(*load("report").table(rounds))
        for metric, values in report.other(rounds).items():
            say(f"{metric}: {values}")
        for name, text in {**report.notes, **report.left_out}.items():
            say(f"{name}: {text}")
    if not report.ok:
        raise SystemExit(1)
