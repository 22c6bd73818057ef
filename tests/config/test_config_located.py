"""TOML and JSONC as values with lines: tables of both, and that nothing but an AtollError ever comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.config.located import Document, parse_jsonc, parse_toml
from atoll.config.plain import MAX_DEPTH, first_mistake
from atoll.errors import AtollError

TOML = """\
# comment
name = "a"
list = [
  1,
  [2, 3],
]
inline = { x = 1, "quoted key" = 2 }
dotted.key = true

[table]
field = "b"
[table.sub]
"odd.key" = 1

[[rows]]
id = 1
[[rows]]
id = 2
[rows.more]
deep = 3
"""

JSONC = """\
// comment
{
  "name": "a", /* and
  more */ "list": [
    1,
    [2, 3],
  ],
  "inline": {"x": 1, "quoted key": 2.5e1},
  "none": null, "yes": true,
}
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2),
        (("list",), 3),
        (("list", 0), 4),
        (("list", 1), 5),
        (("list", 1, 1), 5),
        (("inline", "quoted key"), 7),
        (("dotted", "key"), 8),
        (("table",), 10),
        (("table", "field"), 11),
        (("table", "sub", "odd.key"), 13),
        (("rows", 0, "id"), 16),
        (("rows", 1), 17),
        (("rows", 1, "id"), 18),
        (("rows", 1, "more", "deep"), 20),
        (("name", "nothing", "below"), 2),
        (("nothing",), 1),
        ((), 1),
    ],
)
def test_toml_lines(path: tuple[str | int, ...], line: int) -> None:
    assert parse_toml("w.toml", TOML).where(path) == f"w.toml:{line}"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 3),
        (("list",), 4),
        (("list", 0), 5),
        (("list", 1, 1), 6),
        (("inline", "x"), 8),
        (("yes",), 9),
        (("nothing",), 1),
    ],
)
def test_jsonc_lines(path: tuple[str | int, ...], line: int) -> None:
    assert parse_jsonc("w.jsonc", JSONC).where(path) == f"w.jsonc:{line}"


def test_values_are_the_formats_own() -> None:
    assert parse_toml("w.toml", TOML).fields["rows"] == [{"id": 1}, {"id": 2, "more": {"deep": 3}}]
    assert parse_jsonc("w.jsonc", JSONC).fields == {
        "name": "a",
        "list": [1, [2, 3]],
        "inline": {"x": 1, "quoted key": 25.0},
        "none": None,
        "yes": True,
    }


DEEP = MAX_DEPTH + 1


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a = ", 1, "not TOML"),
        ("a = 1\nb = x\n", 2, "not TOML"),
        ("a = 1\n\n[t\n", 3, "not TOML"),
        ("a = 1\na = 2\n", 2, "not TOML"),
        ('a = "\\ud800"', 1, "not TOML"),
        ('x = 1\na = "\ud800"', 1, "not Unicode text"),
        (f"x = 1\na = {2**53 + 1}", 2, "an integer too large"),
        (f"x = 1\na = [1,\n-{2**64}]", 3, "an integer too large"),
        (f"x = 1\na = {'9' * 5000}", 2, "an integer too large"),
        (f"x = 1\na = {'[' * DEEP}{']' * DEEP}", 2, "nested too deeply"),
        (f"x = 1\na = {'[' * 2000}{']' * 2000}", 2, "nested too deeply"),
        (f"x = 1\na = {'{a=' * DEEP}1{'}' * DEEP}", 2, "nested too deeply"),
        (f"x = 1\n{'.'.join('a' * 2000)} = 1", 2, "nested too deeply"),
        (f"x = 1\n[{'.'.join('a' * 2000)}]\nb = 1", 2, "nested too deeply"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_toml_mistakes(text: str, line: int, message: str) -> None:
    with pytest.raises(AtollError, match=message) as raised:
        parse_toml("w.toml", text)
    assert raised.value.where == f"w.toml:{line}"
    assert raised.value.hint


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "begins with {"),
        ("[]", 1, "begins with {"),
        ("{} {}", 1, "something follows"),
        ('{"a": 1\n"b": 2}', 2, "a comma or }"),
        ('{"a"\n1}', 2, "a colon"),
        ("{a: 1}", 1, "double quotes"),
        ('{"a": 1,\n"a": 2}', 2, "given twice"),
        ('{"a": \n', 2, "a value"),
        ('{"a": "x\ny"}', 1, "not JSON"),
        ("{/* open", 1, "double quotes"),
        ('{"x": 1,\n"a": "\\ud800"}', 2, "not Unicode text"),
        ('{"x": 1,\n"\\udfff": 1}', 1, "a name that is not Unicode"),
        ('{"a": "\ud800"}', 1, "not Unicode text"),
        (f'{{"x": 1,\n"a": {2**53 + 1}}}', 2, "an integer too large"),
        (f'{{"x": 1,\n"a": {"9" * 5000}}}', 2, "a number too long"),
        (f'{{"x": 1,\n"a": {"[" * DEEP}{"]" * DEEP}}}', 2, "nested too deeply"),
        ('{"x": 1,\n"a": ' + '{"a":' * 1500, 2, "nested too deeply"),
        ('{"x": 1,\n"a": ' + "[" * 2000, 2, "nested too deeply"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_jsonc_mistakes(text: str, line: int, message: str) -> None:
    with pytest.raises(AtollError, match=message) as raised:
        parse_jsonc("w.jsonc", text)
    assert raised.value.where == f"w.jsonc:{line}"
    assert raised.value.hint


def test_what_is_just_within_bounds() -> None:
    deep = MAX_DEPTH - 1
    for value in (f"{'[' * deep}{']' * deep}", f"{2**53}", f"-{2**53}", '"\U0001f40b"'):
        parse_toml("w.toml", f"a = {value}")
    assert parse_jsonc("w.json", '{"a": "\\ud83d\\udc0b"}').fields == {"a": "\U0001f40b"}
    parse_jsonc("w.json", f'{{"a": {"[" * deep}{"]" * deep}}}')


Parse = Callable[[str, str], Document]


def outcome(parse: Parse, text: str) -> Document | AtollError:
    try:
        return parse("w", text)
    except AtollError as error:
        return error


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text(), _json, max_size=4), st.sampled_from([None, 0, 2]))
def test_json_is_jsonc(value: dict[str, object], indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    document = parse_jsonc("w.json", text)
    assert document.fields == value
    assert first_mistake(document.fields) is None
    if indent is not None:
        lines = text.splitlines()
        for name in value:
            assert json.dumps(name) in lines[int(document.where((name,)).rpartition(":")[2]) - 1]


_pieces = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", '"', "'", ":", ",", "=", ".", "\n", "\r\n", " ", "//", "/*", "*/", "#", "\\u",
         "\\", "d800", "true", "null", "nan", "inf", "1", "-", "1e999", "0x1", "2026-01-01", "a", "é", "\x00",
         "\ud800", '"""', "[[", "]]", "9" * 30]
    ) | st.text(max_size=3),
    max_size=40,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("parse", [parse_toml, parse_jsonc])
@given(text=_pieces)
def test_any_text_is_a_document_or_a_mistake_with_a_line(parse: Parse, text: str) -> None:
    found = outcome(parse, text)
    if isinstance(found, AtollError):
        line = re.fullmatch(r"w:(\d+)", found.where)
        assert line
        assert 1 <= int(line.group(1)) <= text.count("\n") + 1
    else:
        assert first_mistake(found.fields) is None
