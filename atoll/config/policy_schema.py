"""How specs are written in a policy file: their fields' names there, and what each takes. Pure.

Nothing here knows a spec by heart: names, types and defaults are the structs' own, so a field that is added
to one is understood as soon as it is there. What a person writes differs from a struct in two ways:

1. An array of tables is named in the singular: `[[site.route]]` for `SiteSpec.routes`.
2. A duration leaves its unit to its value: `response_timeout = "10s"` for `response_timeout_s`. A number of
   seconds will do, and so will the struct's own name.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

import msgspec
from msgspec import inspect

from atoll.config.policy_units import DURATION, SIZE
from atoll.config.spec import ANYWHERE

SECRETS: Final = frozenset(("secret",))
SIZES: Final = frozenset((("AdmissionSpec", "max_body"), ("RetrySpec", "body")))
"""Fields that are bytes, beside those that say so at their end."""

FILES: Final = frozenset(
    (
        ("TlsSpec", "client_ca"),
        ("OriginTlsSpec", "ca"),
        ("OriginTlsSpec", "certificate"),
        ("OriginTlsSpec", "key"),
        ("GeoDatabaseSpec", "country"),
        ("GeoDatabaseSpec", "asn"),
    )
)
"""Fields that are paths: relative ones begin at the policy file's folder."""

ALIASES: Final = {("OriginSpec", "name"): "host"}
"""Other names of fields, where the struct's own is not what people look for first."""


class Field(NamedTuple):
    """A field of a spec as files have it."""

    key: str  # its name in a file
    name: str  # in the struct
    type: inspect.Type  # without None
    optional: bool  # None is what it is without
    required: bool
    duration: bool = False
    size: bool = False


@cache
def fields_of(kind: type[msgspec.Struct]) -> tuple[Field, ...]:
    """Every field of a spec, in the struct's order."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    taken = {field.name for field in info.fields}
    return tuple(_field(kind.__name__, field, taken) for field in info.fields)


def _field(struct: str, field: inspect.Field, taken: set[str]) -> Field:
    found, optional = field.type, False
    if isinstance(found, inspect.UnionType):
        others = tuple(each for each in found.types if not isinstance(each, inspect.NoneType))
        optional = len(others) < len(found.types)
        found = others[0] if len(others) == 1 else inspect.UnionType(others)
    number = isinstance(found, inspect.IntType | inspect.FloatType)
    # `floor_per_s` is a rate; `per_s` alone is a duration.
    duration = number and field.name.endswith("_s") and not field.name.endswith("_per_s")
    size = isinstance(found, inspect.IntType) and (
        field.name.endswith("_bytes") or (struct, field.name) in SIZES
    )
    key = field.name
    if duration:
        key = key.removesuffix("_s")
    elif structs_of(found) is not None:
        key = key.removesuffix("s")
    if key != field.name and key in taken:
        key = field.name
    return Field(key, field.name, found, optional, field.required, duration, size)


def structs_of(found: inspect.Type) -> inspect.StructType | None:
    """What an array of tables holds; None if it is none."""
    if isinstance(found, inspect.VarTupleType) and isinstance(found.item_type, inspect.StructType):
        return found.item_type
    return None


def expected_of(field: Field) -> str:
    """What a field takes, in words."""
    if field.duration:
        return DURATION
    if field.size:
        return SIZE
    match field.type:
        case inspect.StructType():
            return "a table"
        case inspect.VarTupleType():
            return "an array of tables" if structs_of(field.type) else "a list"
        case inspect.TupleType():
            return f"a list of {len(field.type.item_types)}"
        case inspect.LiteralType():
            return " or ".join(str(value) for value in field.type.values if value != "")
        case inspect.StrType():
            return "text"
        case inspect.BoolType():
            return "true or false"
        case inspect.DictType():
            return "a table of names and texts"
        case inspect.IntType():
            return "a whole number"
        case _:
            return "a number"


def site_name(host: str) -> str:
    """The name of a site that has none of its own: `www-example-com`."""
    return "anywhere" if host == ANYWHERE else host.replace(".", "-")[:63].strip("-")
