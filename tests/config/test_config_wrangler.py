"""A wrangler file as a project: what it may say, and each mistake at its line."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.config.wrangler import Project, parse
from atoll.config.wrangler_fields import SUPPORTED, UNSUPPORTED
from atoll.errors import AtollError

HEAD = 'name = "hello"\nmain = "worker.js"\ncompatibility_date = "2026-11-01"\n'


def test_a_whole_file() -> None:
    text = HEAD + (
        'compatibility_flags = ["nodejs_compat"]\n'
        'routes = ["www.example.com/*", { pattern = "shop.example.com/cart", zone_name = "example.com" }]\n'
        '[vars]\nGREETING = "hi"\nLIMIT = 10\nNESTED = { a = [1, 2.5, true] }\n'
    )
    assert parse("wrangler.toml", text) == Project(
        file="wrangler.toml",
        name="hello",
        main="worker.js",
        compatibility_date="2026-11-01",
        compatibility_flags=("nodejs_compat",),
        routes=("www.example.com/*", "shop.example.com/cart"),
        vars={"GREETING": "hi", "LIMIT": 10, "NESTED": {"a": [1, 2.5, True]}},
    )


def test_both_formats_say_the_same() -> None:
    text = """{
      "$schema": "node_modules/wrangler/config-schema.json", // for editors
      "name": "hello", "main": "./src/index.ts", "compatibility_date": "2026-11-01",
      "route": {"pattern": "WWW.Example.com", "custom_domain": true},
      "vars": {"A": null_, },
    }""".replace("null_", "[null]")
    project = parse("wrangler.jsonc", text)
    assert (project.main, project.routes) == ("src/index.ts", ("www.example.com/*",))
    assert project.vars == {"A": [None]}


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("route = 1", "a pattern"),
        ('route = "*/*"', "host name and a path"),
        ('route = "www.example.com"', "host name and a path"),
        ('route = "www.example.com/a*b"', "only at its end"),
        ('route = "https://www.example.com/*"', "leave the scheme away"),
        ('route = "www.example.com/?q=1"', "host name and a path"),
        ('route = "-bad-.example.com/*"', "host name and a path"),
        ('route = { pattern = "a.b/*", zone = "b" }', "did you mean zone_name"),
        ('route = { pattern = "a.b/*", zone_name = "c" }', "not in the zone"),
        ('route = { pattern = "a.b/*", custom_domain = true }', "a host name alone"),
        ('route = { pattern = "a.b/*", custom_domain = 1 }', "true or false"),
        ('route = { zone_name = "c" }', "a pattern"),
        ('routes = "www.example.com/*"', "a list of patterns"),
        ("routes = [1]", "a pattern"),
        ("compatibility_flags = 1", "a list of names"),
        ("compatibility_flags = [1]", "a flag's name"),
        ("vars = 1", "a table"),
        ('vars = { "a-b" = 1 }', "an identifier"),
        ("vars = { a = 2026-01-01 }", "not a bare date"),
        ("vars = { a = inf }", "a finite number"),
        ("vars = { a = [nan] }", "a finite number"),
        (f"vars = {{ a = {2**64 + 1} }}", "2\\*\\*53"),
        ("kv_namespaces = []", "not offered yet"),
        ("compatability_flags = []", "did you mean compatibility_flags"),
        ("zzz = 1", "known here"),
    ],
)
def test_mistakes_are_told_by_their_line(line: str, hint: str) -> None:
    with pytest.raises(AtollError) as raised:
        parse("wrangler.toml", HEAD + line + "\n")
    assert raised.value.where == "wrangler.toml:4"
    assert re.search(hint, raised.value.hint)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", '"Upper"', "small letters"),
        ("name", '"-a"', "small letters"),
        ("name", '"a\\n"', "small letters"),
        ("name", f'"{"a" * 64}"', "at most 63"),
        ("name", "7", "not a number"),
        ("main", '"/etc/worker.js"', "beside or below"),
        ("main", '"../worker.js"', "beside or below"),
        ("main", '"a\\\\b.js"', "beside or below"),
        ("main", '"a\\u0000.js"', "beside or below"),
        ("main", '"worker.py"', "JavaScript or TypeScript"),
        ("main", '""', "beside or below"),
        ("compatibility_date", "2026-11-01", "in quotes"),
        ("compatibility_date", '"2026-13-01"', "a date in quotes"),
        ("compatibility_date", '"2026-W01-1"', "a date in quotes"),
        ("compatibility_date", '"20261101"', "a date in quotes"),
        ("compatibility_date", '"2026-1-1"', "a date in quotes"),
        ("compatibility_date", '"２０２６-11-01"', "a date in quotes"),
    ],
)
def test_required_fields_are_checked(field: str, value: str, words: str) -> None:
    text = re.sub(rf'{field} = "[^"]*"', lambda _: f"{field} = {value}", HEAD)
    line = text.splitlines().index(f"{field} = {value}") + 1
    with pytest.raises(AtollError) as raised:
        parse("wrangler.toml", text)
    assert raised.value.where == f"wrangler.toml:{line}"
    assert words in raised.value.hint


@pytest.mark.parametrize("field", ["name", "main", "compatibility_date"])
def test_required_fields_are_missed(field: str) -> None:
    text = re.sub(rf'{field} = "[^"]*"\n', "", HEAD)
    with pytest.raises(AtollError, match=f"{field} is missing") as raised:
        parse("wrangler.toml", text)
    assert raised.value.where == "wrangler.toml:1"


def test_route_and_routes_exclude_each_other() -> None:
    with pytest.raises(AtollError, match="route is wrong") as raised:
        parse("wrangler.toml", HEAD + 'routes = []\nroute = "a.b/*"\n')
    assert raised.value.where == "wrangler.toml:5"


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_a_field_without_a_meaning_is_refused_with_its_reason(field: str) -> None:
    with pytest.raises(AtollError, match=f"{field} is not supported") as raised:
        parse("wrangler.toml", HEAD + f"{field} = 1\n")
    assert (raised.value.hint, raised.value.where) == (UNSUPPORTED[field], "wrangler.toml:4")


def outcome(name: str, text: str) -> Project | AtollError:
    try:
        return parse(name, text)
    except AtollError as error:
        return error


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["hello", "worker.js", "2026-11-01", "www.example.com/*", "example.com"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["pattern", "zone_name", "custom_domain", "A"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
_good = {"name": "hello", "main": "worker.js", "compatibility_date": "2026-11-01"}


@given(st.dictionaries(st.sampled_from([*SUPPORTED, "env", "x"]), _values, max_size=4), st.booleans())
def test_any_fields_are_a_project_or_a_mistake_with_a_line(fields: dict[str, object], whole: bool) -> None:
    found = outcome("wrangler.json", json.dumps({**(_good if whole else {}), **fields}, indent=1))
    if isinstance(found, AtollError):
        assert re.fullmatch(r"wrangler\.json:\d+", found.where), found
        assert found.hint
    else:
        project = found
        assert json.loads(json.dumps(project.vars, allow_nan=False)) == project.vars


@given(st.text(max_size=60))
def test_any_text_after_the_head_is_a_project_or_a_mistake_with_a_line(text: str) -> None:
    found = outcome("wrangler.toml", HEAD + text)
    if isinstance(found, AtollError):
        assert re.fullmatch(r"wrangler\.toml:\d+", found.where), found
