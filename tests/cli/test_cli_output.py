from __future__ import annotations

import json

import msgspec
import pytest

from atoll.cli import output


class Row(msgspec.Struct):
    name: str
    size: int


def test_json_is_one_value(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json([Row("a", 1)])
    assert json.loads(capsys.readouterr().out) == [{"name": "a", "size": 1}]


def test_a_table_lines_its_columns_up(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("name", ">size"), [("lhr", "1"), ("[red]", "1000")])
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "name   size",
        "lhr       1",
        "[red]  1000",
    ]


def test_a_file_gets_no_colour(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("state",), [("up",), ("down",)])
    output.say("done", colour="green")
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert err == "done\n"


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [(0.44, "0.4 s"), (119.0, "119.0 s"), (120.0, "2 min"), (7199.0, "120 min"), (7200.0, "2 h")],
)
def test_durations(duration_s: float, text: str) -> None:
    assert output.seconds(duration_s) == text


def test_sizes() -> None:
    assert output.megabytes(12_345_678) == "12.3 MB"
    assert output.megabytes(0) == ""
