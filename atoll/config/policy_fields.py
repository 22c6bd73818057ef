"""From a policy file's tables to specs: every field of every spec, by its type. Pure.

What fields there are and how they are written is `atoll.config.policy_schema`'s. Beside that:

- Where a struct stands that needs nothing, `true` means all of its defaults.
- A secret is said where to find, never written down: `{ env = "NAME" }` or `{ file = "path" }`.
- A field that is not known is refused with the nearest that is, or with what it is called here.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import PurePosixPath
from typing import Any, Final, Literal, TypeVar, cast

import msgspec
from msgspec import inspect

from atoll.config.located import Document, Path
from atoll.config.plain import INTEGER_HINT, is_integer
from atoll.config.policy_schema import ALIASES, FILES, SECRETS, Field, expected_of, fields_of, structs_of
from atoll.config.policy_units import parse_duration_s, parse_size
from atoll.errors import AtollError

Source = Literal["env", "file"]
Lookup = Callable[[Source, str], str]
"""The value that an environment variable has, or a file; raises `AtollError` when there is none."""

Defaults = Mapping[type, Mapping[str, object]]
"""By spec: what a field is that a file leaves out, where that is not the struct's own default."""

# What nginx, Varnish, HAProxy and Caddy call things.
_HABITS: Final = {
    "backend": "[[origin]]",
    "cache_control": "nothing: the origin's Cache-Control is followed",
    "expires": "nothing: the origin's Cache-Control is followed",
    "grace": "stale_while_revalidate",
    "keep": "stale_if_error",
    "location": "[[site.route]]",
    "proxy_cache_use_stale": "stale_if_error",
    "proxy_connect_timeout": "a pool's connect_timeout",
    "proxy_pass": "a route's pool",
    "proxy_read_timeout": "a pool's response_timeout and between_timeout",
    "proxy_set_header": "a pool's host_header",
    "reverse_proxy": "a route's pool",
    "server": "[[site]]",
    "server_name": "a site's host and aliases",
    "ttl": "nothing: the origin's Cache-Control is followed",
    "upstream": "[[pool]]",
}
_KINDS: Final[dict[type, str]] = {
    str: "text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "a table",
}
_SPEC = TypeVar("_SPEC", bound=msgspec.Struct)


class Reader:
    """Reads specs out of one document, and remembers where each of them stands."""

    def __init__(self, document: Document, lookup: Lookup, folder: str, defaults: Defaults) -> None:
        self._document = document
        self._lookup = lookup
        self._folder = PurePosixPath(folder)
        self._defaults = defaults
        # By identity: equal specs may stand in two places. Each is held, so that no other gets its identity.
        self._places: dict[int, tuple[msgspec.Struct, Path]] = {}

    def where(self, path: Path) -> str:
        """`file:line` of a path."""
        return self._document.where(path)

    def remember(self, spec: msgspec.Struct, path: Path) -> None:
        """`spec` stands at `path`."""
        self._places[id(spec)] = (spec, path)

    def mistake(self, path: Path, message: str, hint: str = "") -> AtollError:
        """An error at `path`."""
        return AtollError(message, hint, self._document.where(path))

    def place(self, spec: msgspec.Struct, field: str = "") -> Path:
        """Where a spec that was read here stands, or one of its fields."""
        path = self._places[id(spec)][1] if id(spec) in self._places else ()
        found = next((each for each in fields_of(type(spec)) if each.name == field), None)
        table = self._at(path)
        for key in (field, found.key if found else field):
            if isinstance(table, dict) and key in table:
                return (*path, key)
        return path

    def says(self, spec: msgspec.Struct, field: str) -> bool:
        """Whether the file says this field of a spec, rather than leaving it out."""
        return id(spec) in self._places and self.place(spec, field) != self.place(spec)

    def _at(self, path: Path) -> object:
        value: Any = self._document.fields
        for part in path:
            value = value[part]
        return value

    def descend(self, spec: msgspec.Struct, parts: list[str | int]) -> Path:
        """The path of what a struct's own names lead to from `spec`, as far as it is in the file."""
        path = self.place(spec)
        value: Any = self._at(path)
        for part in parts:
            plain = str(part)
            keys = (
                [part]
                if isinstance(part, int)
                else [plain, plain.removesuffix("_s"), plain.removesuffix("s")]
            )
            for key in keys:
                inside = isinstance(value, dict) and key in value
                if inside or (isinstance(value, list) and isinstance(key, int) and key < len(value)):
                    path, value = (*path, key), value[key]
                    break
            else:
                break
        return path

    def read(self, kind: type[_SPEC], table: object, path: Path) -> _SPEC:
        """The spec that `table` says.

        Raises:
            AtollError: with the line, the field and what would be right.
        """
        if not isinstance(table, dict):
            raise self.mistake(path, f"{say(path)} is {kind_of(table)}", "a table is expected")
        fields = fields_of(kind)
        self._refuse_unknown(kind, fields, table, path)
        values: dict[str, object] = dict(self._defaults.get(kind, {}))
        for field in fields:
            key = self._key_in(kind, field, table, path)
            if key is not None:
                self._set(values, kind, field, table[key], (*path, key))
            elif field.required and field.name not in values:
                message = f"{say((*path, field.key))} is missing"
                raise self.mistake(path, message, f"{expected_of(field)} is expected")
        spec = kind(**values)
        self.remember(spec, path)
        return spec

    def _refuse_unknown(
        self, kind: type[msgspec.Struct], fields: tuple[Field, ...], table: dict[str, object], path: Path
    ) -> None:
        struct = kind.__name__
        known = {name for field in fields for name in (field.key, field.name)}
        known |= {alias for of, alias in ALIASES if of == struct}
        for key in table:
            if key in known:
                continue
            names = [field.key for field in fields]
            near = difflib.get_close_matches(key, names, n=1)
            habit = _HABITS.get(key.lower())
            if near:
                hint = f"did you mean {near[0]}?"
            elif habit is not None:
                hint = f"here that is {habit}"
            else:
                hint = f"known here: {', '.join(names)}"
            raise self.mistake((*path, key), f"{say((*path, key))} is no field of a policy", hint)

    def _key_in(
        self, kind: type[msgspec.Struct], field: Field, table: dict[str, object], path: Path
    ) -> str | None:
        """Which of its names the table has."""
        aliases = [
            alias for (of, alias), name in ALIASES.items() if (of, name) == (kind.__name__, field.name)
        ]
        found = [key for key in dict.fromkeys((field.key, field.name, *aliases)) if key in table]
        if len(found) > 1:
            message = f"{say((*path, found[1]))} says the same as {found[0]}"
            raise self.mistake((*path, found[1]), message, "leave one of them out")
        return found[0] if found else None

    def _set(
        self, values: dict[str, object], kind: type[msgspec.Struct], field: Field, value: object, path: Path
    ) -> None:
        nested = field.type
        if isinstance(value, bool) and isinstance(nested, inspect.StructType):
            if value and not any(each.required for each in nested.fields):
                values[field.name] = self.read(nested.cls, {}, path)
                return
            if not value and field.optional:
                values[field.name] = None
                return
        values[field.name] = self._value(kind.__name__, field, nested, value, path)

    def _value(self, struct: str, field: Field, found: inspect.Type, value: object, path: Path) -> object:
        match found:
            case inspect.StructType():
                return self.read(found.cls, value, path)
            case inspect.VarTupleType():
                items = self._list(value, path, field)
                return tuple(
                    self._value(struct, field, found.item_type, item, (*path, index))
                    for index, item in enumerate(items)
                )
            case inspect.TupleType():
                items = self._list(value, path, field)
                if len(items) != len(found.item_types):
                    raise self._wrong(path, value, expected_of(field))
                return tuple(
                    self._value(struct, field, kind, item, (*path, index))
                    for index, (kind, item) in enumerate(zip(found.item_types, items, strict=True))
                )
            case inspect.DictType():
                return self._text_table(value, path)
            case inspect.LiteralType():
                return self._choice(found, value, path)
            case inspect.StrType():
                return self._text(struct, field, value, path)
            case inspect.UnionType():
                return self._one_of(struct, field, found, value, path)
            case inspect.BoolType():
                if not isinstance(value, bool):
                    raise self._wrong(path, value, "true or false")
                return value
            case _:
                return self._number(field, found, value, path)

    def _one_of(
        self, struct: str, field: Field, found: inspect.UnionType, value: object, path: Path
    ) -> object:
        """The first type that `value` is of."""
        for each in found.types[:-1]:
            with contextlib.suppress(AtollError):
                return self._value(struct, field, each, value, path)
        return self._value(struct, field, found.types[-1], value, path)

    def _list(self, value: object, path: Path, field: Field) -> list[object]:
        if isinstance(value, list):
            return value
        tables = structs_of(field.type) is not None
        expected = f"an array of tables: [[{say(path)}]]" if tables else "a list, in brackets"
        raise self._wrong(path, value, expected)

    def _text_table(self, value: object, path: Path) -> dict[str, str]:
        if not isinstance(value, dict):
            raise self._wrong(path, value, "a table of names and texts")
        for name, item in value.items():
            if not isinstance(item, str):
                raise self._wrong((*path, name), item, "text")
        return value

    def _choice(self, found: inspect.LiteralType, value: object, path: Path) -> object:
        if value in found.values and not isinstance(value, bool):
            return value
        choices = [str(each) for each in found.values if each != ""]
        near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
        hint = f"one of {', '.join(choices)}" + (f"; did you mean {near[0]}?" if near else "")
        if isinstance(value, str):
            raise self.mistake(path, f"{say(path)} cannot be {shown(value)}", hint)
        raise self._wrong(path, value, hint)

    def _text(self, struct: str, field: Field, value: object, path: Path) -> str:
        secret = field.name in SECRETS
        if isinstance(value, dict):
            return self._referred(value, path)
        if secret:
            hint = 'say where it is: { env = "NAME" } or { file = "path" }'
            raise self.mistake(path, f"{say(path)} is a secret, which does not stand in a policy file", hint)
        if not isinstance(value, str):
            raise self._wrong(path, value, "text, in quotes")
        if (struct, field.name) in FILES and value:
            return str(self._folder / value)
        return value

    def _referred(self, value: dict[str, object], path: Path) -> str:
        """`{ env = "NAME" }` or `{ file = "path" }`."""
        [(source, name)] = value.items() if len(value) == 1 else [("", "")]
        if source not in ("env", "file") or not isinstance(name, str) or not name:
            raise self._wrong(path, value, 'text, { env = "NAME" } or { file = "path" }')
        if source == "file":
            name = str(self._folder / name)
        try:
            return self._lookup(cast(Source, source), name)
        except AtollError as error:
            raise self.mistake(path, f"{say(path)}: {error.message}", error.hint) from error

    def _number(self, field: Field, found: inspect.Type, value: object, path: Path) -> int | float:
        expected = expected_of(field)
        if isinstance(value, str) and (field.duration or field.size):
            number: float | None = parse_duration_s(value) if field.duration else parse_size(value)
            if number is None:
                raise self.mistake(path, f"{say(path)} cannot be {shown(value)}", f"{expected} is expected")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(path, value, expected)
        else:
            number = value
        if not isfinite(number):
            raise self.mistake(path, f"{say(path)} is no finite number", f"{expected} is expected")
        whole = isinstance(found, inspect.IntType)
        if whole and number != int(number):
            hint = "whole seconds" if field.duration else "a whole number"
            raise self.mistake(path, f"{say(path)} has a fraction", f"{hint} are expected")
        if number < 0 and (whole or field.duration):
            raise self.mistake(path, f"{say(path)} is below zero", f"{expected} is expected")
        if not is_integer(int(number)):
            raise self.mistake(path, f"{say(path)} is too large", INTEGER_HINT)
        return int(number) if whole else float(number)

    def _wrong(self, path: Path, value: object, expected: str) -> AtollError:
        """A value of the wrong type. What it is is not said: it may be a secret in the wrong place."""
        return self.mistake(path, f"{say(path)} is {kind_of(value)}", f"{expected} is expected")


def say(path: Path) -> str:
    """A path as a header of the file would name it: `site.route.cache`."""
    return ".".join(str(part) for part in path if isinstance(part, str)) or "the file"


def kind_of(value: object) -> str:
    """The kind of a value in words."""
    return _KINDS.get(type(value), "a date or time")


def shown(text: str) -> str:
    """A text from the file as it may be printed: short, in quotes."""
    return repr(text if len(text) <= 60 else text[:57] + "…")
