from __future__ import annotations

import errno
import subprocess
import sys

import click
import pytest

from atoll.cli import main
from atoll.errors import AtollError


def fail(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


def run_failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    monkeypatch.setattr(main.LazyGroup, "get_command", lambda _self, _ctx, _name: fail(error))
    return main.run(["up"])


def test_an_error_is_a_sentence_with_a_place_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = AtollError("the port is taken", hint="choose another", where="wrangler.toml:3")
    assert run_failing(monkeypatch, error) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: the port is taken\n  at    wrangler.toml:3\n  hint  choose another\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AtollError("no"), 1),
        (click.UsageError("wrong"), 2),
        (click.exceptions.Exit(3), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    assert run_failing(monkeypatch, error) == code


def test_a_file_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "/home/else/lock")
    assert run_failing(monkeypatch, error) == 1
    written = capsys.readouterr().err
    assert "Permission denied" in written
    assert "/home/else/lock" in written


def test_wrong_use_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["no-such-command"]) == 2
    assert main.run(["status", "--no-such-option"]) == 2
    assert "no-such-command" in capsys.readouterr().err


def test_help_lists_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in main.COMMANDS)
    script = (
        "import sys; from atoll.cli import main; main.run(['--help'])\n"
        "print([name for name in sys.modules if name.startswith(('atoll.cli.', 'rich', 'httpx'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['atoll.cli.output', 'atoll.cli.main']"


def leaves(command: click.Command) -> list[click.Command]:
    """The commands below a group, at any depth; a command by itself."""
    if not isinstance(command, click.Group):
        return [command]
    return [leaf for below in command.commands.values() for leaf in leaves(below)]


@pytest.mark.parametrize("name", list(main.COMMANDS))
def test_every_command_exists_and_takes_json(name: str) -> None:
    command = main.cli.get_command(click.Context(main.cli), name)
    assert command is not None
    for leaf in leaves(command):
        assert any("--json" in parameter.opts for parameter in leaf.params), leaf.name
