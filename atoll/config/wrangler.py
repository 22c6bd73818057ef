"""wrangler.toml and wrangler.jsonc as a typed `Project`: a function's name, script, routes and variables.

The format is Cloudflare's (https://developers.cloudflare.com/workers/wrangler/configuration/). A field that
Atoll has no meaning for is refused by line, never ignored: a deployed function is what its file says, or it
is not deployed. Pure: the caller reads the file.
"""

from __future__ import annotations

import datetime
import difflib
import re
from pathlib import PurePosixPath
from typing import Final

import msgspec

from atoll.config.located import Document, Path, parse_jsonc, parse_toml
from atoll.config.wrangler_fields import SUPPORTED, UNSUPPORTED
from atoll.errors import AtollError

FILE_NAMES: Final = ("wrangler.toml", "wrangler.jsonc", "wrangler.json")
SCRIPT_ENDINGS: Final = (".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx")

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PATTERN: Final = re.compile(rf"(?P<host>{_LABEL}(?:\.{_LABEL})*)(?P<path>/[^*?#\s]*\*?)\Z")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][\w$]*\Z", re.ASCII)

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)
_KINDS: Final[dict[type, str]] = {
    str: "text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "a table",
    datetime.date: "a bare date",
    datetime.datetime: "a bare date",
    type(None): "null",
}

Variable = str | int | float | bool | list[object] | dict[str, object]


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """What a wrangler file says."""

    file: str  # "wrangler.toml"
    name: str
    main: str  # relative to the file's directory, with forward slashes
    compatibility_date: str  # "2026-11-01"
    compatibility_flags: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()  # "www.example.com/*": host, then a path or a prefix that ends in *
    vars: dict[str, Variable] = {}


def parse(name: str, text: str) -> Project:
    """The project that a file describes; `name` is the file's and its ending says the format.

    Raises:
        AtollError: a mistake, with `where` the file and the line of the field.
    """
    document = parse_toml(name, text) if name.endswith(".toml") else parse_jsonc(name, text)
    _refuse_unknown(document)
    return Project(
        file=name,
        name=_name(document),
        main=_main(document),
        compatibility_date=_compatibility_date(document),
        compatibility_flags=_compatibility_flags(document),
        routes=_routes(document),
        vars=_vars(document),
    )


def _mistake(document: Document, path: Path, expected: str, message: str = "") -> AtollError:
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]
    return AtollError(message or f"{field} is wrong", hint=expected, where=document.where(path))


def _refuse_unknown(document: Document) -> None:
    for field in document.fields:
        if field in SUPPORTED:
            continue
        if field in UNSUPPORTED:
            raise _mistake(document, (field,), UNSUPPORTED[field], f"{field} is not supported")
        raise _unknown(document, (field,), (*SUPPORTED, *UNSUPPORTED))


def _unknown(document: Document, path: Path, known: tuple[str, ...]) -> AtollError:
    field = str(path[-1])
    near = difflib.get_close_matches(field, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known)[:12])}"
    return _mistake(document, path, hint, f"{field} is no field of a wrangler file")


def _string(document: Document, path: Path, value: object, expected: str) -> str:
    if not isinstance(value, str):
        raise _mistake(document, path, f"{expected}, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _required(document: Document, field: str, expected: str) -> str:
    if field not in document.fields:
        raise AtollError(f"{field} is missing", hint=expected, where=document.where(()))
    return _string(document, (field,), document.fields[field], expected)


def _name(document: Document) -> str:
    expected = "small letters, digits and hyphens, at most 63, as in a host name"
    name = _required(document, "name", expected)
    if not _NAME.match(name):
        raise _mistake(document, ("name",), expected)
    return name


def _main(document: Document) -> str:
    expected = "the script's path, beside or below this file, such as worker.js"
    main = _required(document, "main", expected)
    path = PurePosixPath(main)
    if not main or path.is_absolute() or ".." in path.parts or "\\" in main or not main.isprintable():
        raise _mistake(document, ("main",), expected)
    if path.suffix not in SCRIPT_ENDINGS:
        raise _mistake(document, ("main",), f"a JavaScript or TypeScript file ({', '.join(SCRIPT_ENDINGS)})")
    return str(path)


def _compatibility_date(document: Document) -> str:
    expected = 'a date in quotes, such as "2026-11-01"'
    text = _required(document, "compatibility_date", expected)
    if not _DATE.match(text):  # ISO 8601 has other forms, which the runtime does not read
        raise _mistake(document, ("compatibility_date",), expected)
    try:
        date = datetime.date.fromisoformat(text)
    except ValueError:
        raise _mistake(document, ("compatibility_date",), expected) from None
    return date.isoformat()


def _compatibility_flags(document: Document) -> tuple[str, ...]:
    path: Path = ("compatibility_flags",)
    flags = _list(document, path, 'a list of names, such as ["nodejs_compat"]')
    return tuple(_string(document, (*path, i), flag, "a flag's name") for i, flag in enumerate(flags))


def _list(document: Document, path: Path, expected: str) -> list[object]:
    value = document.fields.get(str(path[0]), [])
    if not isinstance(value, list):
        raise _mistake(document, path, f"{expected}, not {_kind(value)}")
    return value


def _routes(document: Document) -> tuple[str, ...]:
    if "route" in document.fields and "routes" in document.fields:
        raise _mistake(document, ("route",), "write route or routes, not both")
    if "route" in document.fields:
        return (_route(document, ("route",), document.fields["route"]),)
    routes = _list(document, ("routes",), 'a list of patterns, such as ["www.example.com/*"]')
    return tuple(_route(document, ("routes", i), route) for i, route in enumerate(routes))


def _route(document: Document, path: Path, value: object) -> str:
    if isinstance(value, dict):
        return _route_table(document, path, value)
    expected = 'a pattern, such as "www.example.com/*", or a table with pattern = "..."'
    return _pattern(document, path, _string(document, path, value, expected))


def _route_table(document: Document, path: Path, table: dict[str, object]) -> str:
    known = ("pattern", "zone_name", "custom_domain")
    for field in table:
        if field not in known:
            raise _unknown(document, (*path, field), known)
    at: Path = (*path, "pattern")
    pattern = _string(document, at, table.get("pattern"), "a pattern, such as www.example.com/*")
    if _flag(document, (*path, "custom_domain"), table.get("custom_domain", False)):
        if "/" in pattern:
            raise _mistake(document, at, "a custom domain is a host name alone")
        pattern = f"{pattern}/*"
    pattern = _pattern(document, at, pattern)
    if "zone_name" in table:
        _check_zone(document, (*path, "zone_name"), pattern, table["zone_name"])
    return pattern


def _flag(document: Document, path: Path, value: object) -> bool:
    if not isinstance(value, bool):
        raise _mistake(document, path, f"true or false, not {_kind(value)}")
    return value


def _check_zone(document: Document, path: Path, pattern: str, value: object) -> None:
    zone = _string(document, path, value, "the domain the pattern's host belongs to")
    host = pattern.partition("/")[0]
    if host != zone and not host.endswith(f".{zone}"):
        raise _mistake(document, path, f"{host} is not in the zone {zone}")


def _pattern(document: Document, path: Path, pattern: str) -> str:
    if "://" in pattern:
        raise _mistake(document, path, "a route serves http and https alike: leave the scheme away")
    host, slash, rest = pattern.partition("/")
    found = _PATTERN.match(host.lower() + slash + rest)
    if found is None:
        raise _mistake(document, path, "a host name and a path, * only at its end: www.example.com/shop/*")
    return found.group()


def _vars(document: Document) -> dict[str, Variable]:
    table = document.fields.get("vars", {})
    if not isinstance(table, dict):
        raise _mistake(document, ("vars",), f"a table of names and values, not {_kind(table)}")
    return {name: _variable(document, name, value) for name, value in table.items()}


def _variable(document: Document, name: str, value: object) -> Variable:
    path: Path = ("vars", name)
    if not _IDENTIFIER.match(name):
        raise _mistake(document, path, "a variable's name is an identifier: letters, digits, _ and $")
    _check_json(document, path, value)
    assert isinstance(value, str | int | float | list | dict)
    return value


def _check_json(document: Document, path: Path, value: object) -> None:
    """A variable reaches the function as text or JSON, so it holds nothing that JSON has no word for."""
    if isinstance(value, dict):
        for name, item in value.items():
            _check_json(document, (*path, name), item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_json(document, (*path, index), item)
    elif isinstance(value, float) and not -1e308 < value < 1e308:
        raise _mistake(document, path, "a finite number")
    elif not isinstance(value, str | int | float) and (value is not None or len(path) == 2):
        raise _mistake(document, path, f"text, a number, a boolean, a list or a table, not {_kind(value)}")
