"""`atoll logs`: what processes and functions have written, merged by the files' order or followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Final

import click

from atoll.cli.output import json_option, print_json
from atoll.config.paths import resolve
from atoll.errors import AtollError

POLL_S: Final = 0.2


@click.command()
@click.argument("process", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("-n", "--lines", default=20, show_default=True, help="How many lines of each log.")
@click.option("--pop", help="Only this PoP's processes.")
@click.option("--function", "function", help="Only this function's hosts.")
@json_option
def logs(
    process: str | None, follow: bool, lines: int, pop: str | None, function: str | None, as_json: bool
) -> None:
    """What processes have written.

    PROCESS is a name as in `atoll status` (nats, api, gateway, lhr-edge-0, lhr/agent), or a PoP's access log
    (lhr-access). Without it, every log that the options choose, access logs left out.

    \b
    Examples:
      atoll logs nats
      atoll logs lhr-access -f
      atoll logs --pop nrt -n 5
      atoll logs --function smart-routing -f
    """
    folder = resolve(os.environ, os.getuid()).logs
    chosen = choose(folder, process, pop, function)
    tails = {path: tail(path, lines) for path in chosen}
    if as_json:
        print_json({path.stem: written for path, written in tails.items()})
        return
    for path, written in tails.items():
        for line in written:
            click.echo(_prefixed(path, line, chosen))
    if follow:
        _follow(folder, process, pop, function, {path: _size(path) for path in chosen})


def choose(folder: Path, process: str | None, pop: str | None, function: str | None) -> list[Path]:
    """The log files that were asked for.

    Raises:
        AtollError: there is none.
    """
    name = process.replace("/", "-").replace(":", "-") if process else None
    found = sorted(path for path in folder.glob("*.log") if _matches(path.stem, name, pop, function))
    if not found:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none yet"
        raise AtollError("no such log", hint=f"there are: {known}", where=str(folder))
    return found


def _matches(stem: str, name: str | None, pop: str | None, function: str | None) -> bool:
    if name is not None and stem != name:
        return False
    if pop is not None and not stem.startswith(f"{pop}-"):
        return False
    if function is not None and f"-fn-{function}-" not in stem:
        return False
    return name is not None or not stem.endswith("-access")


def tail(path: Path, lines: int) -> list[str]:
    """The last `lines` lines."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return text.splitlines()[-lines:] if lines > 0 else []


def _follow(
    folder: Path, process: str | None, pop: str | None, function: str | None, seen: dict[Path, int]
) -> None:
    """Print what is added until interrupted; logs that appear are followed too."""
    while True:
        sleep(POLL_S)
        chosen = choose(folder, process, pop, function)
        for path in chosen:
            for line in added(path, seen):
                click.echo(_prefixed(path, line, chosen))


def added(path: Path, seen: dict[Path, int]) -> Iterator[str]:
    """Whole lines written since last time; a log that shrank was set aside and starts again."""
    size, start = _size(path), seen.get(path, 0)
    if size < start:
        start = 0
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(size - start)
    whole = data[: data.rfind(b"\n") + 1]
    seen[path] = start + len(whole)
    yield from whole.decode(errors="replace").splitlines()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _prefixed(path: Path, line: str, chosen: list[Path]) -> str:
    return line if len(chosen) == 1 else f"{click.style(path.stem, fg='cyan')}  {line}"
