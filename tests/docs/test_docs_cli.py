"""docs/cli.md mentions every command and option, and every --help has an example."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from atoll.cli import main

PAGE = Path(__file__).parents[2] / "docs/cli.md"


def commands() -> Iterator[tuple[str, click.Command]]:
    """`pop kill` and its command, for every command that does something."""
    context = click.Context(main.cli)
    for name in main.COMMANDS:
        command = main.cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {leaf}", found) for leaf, found in command.commands.items())
        else:
            yield name, command


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_on_the_page(name: str) -> None:
    assert re.search(rf"`atoll {name}\b", PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_on_the_page(name: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    options = [parameter for parameter in COMMANDS[name].params if isinstance(parameter, click.Option)]
    missing = [option.opts[-1] for option in options if not re.search(rf"{option.opts[-1]}\b", text)]
    assert not missing


def test_the_page_names_no_command_that_is_gone() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^## `atoll ([\w-]+)`", text, re.MULTILINE) == list(main.COMMANDS)
    groups = {name.partition(" ")[0] for name in COMMANDS if " " in name}
    named = re.findall(rf"^(?:\| )?`atoll ((?:{'|'.join(groups)}) [a-z0-9]+)", text, re.MULTILINE)
    assert sorted(set(named)) == sorted(name for name in COMMANDS if " " in name)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example" in shown
    assert f"    atoll {name}".rstrip() in shown
