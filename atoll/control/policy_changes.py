"""What would be another way: a network before and after, in the words of a policy file. Pure.

Secrets are compared, and never shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from atoll.config.policy_schema import SECRETS, Field, fields_of
from atoll.config.policy_units import say_duration, say_size
from atoll.config.spec import NetworkSpec, OriginSpec, PoolSpec, SiteSpec

HIDDEN: Final = "(hidden)"
CHANGED: Final = "(another one)"
UNSAID: Final = ""
"""What a field is that is as it is by itself."""

_NAMES: Final = ("path", "name", "id", "host")
"""By which of its fields an item of an array is told from the others, the first that it has."""

Kind = Literal["site", "pool", "origin", "network"]
Action = Literal["add", "change", "remove"]


class FieldChange(msgspec.Struct, frozen=True):
    """One field: `route[/api/*].cache`, from and to, as a file would say them; "" is what it is by itself."""

    field: str
    before: str
    after: str


class SpecChange(msgspec.Struct, frozen=True, kw_only=True):
    """One site, pool or origin."""

    kind: Kind
    name: str
    action: Action
    fields: tuple[FieldChange, ...] = ()


def changes(before: NetworkSpec, after: NetworkSpec) -> tuple[SpecChange, ...]:
    """Everything that is another way in `after`."""
    found = [
        *_changes("origin", before.origins, after.origins),
        *_changes("pool", before.pools, after.pools),
        *_changes("site", before.sites, after.sites),
    ]
    rest = {
        "resolvers": (" ".join(before.resolvers), " ".join(after.resolvers)),
        "geo": (_text(before.geo), _text(after.geo)),
        "default site": (before.default_site, after.default_site),
    }
    fields = tuple(FieldChange(name, *pair) for name, pair in rest.items() if pair[0] != pair[1])
    if fields:
        found.append(SpecChange(kind="network", name=before.name, action="change", fields=fields))
    return tuple(found)


def _text(spec: msgspec.Struct | None) -> str:
    return (
        "" if spec is None else ", ".join(f"{key} {value}" for key, value in _facts(spec, show=True).items())
    )


def _changes(
    kind: Kind,
    before: Sequence[OriginSpec | PoolSpec | SiteSpec],
    after: Sequence[OriginSpec | PoolSpec | SiteSpec],
) -> Iterator[SpecChange]:
    old = {_name(spec): spec for spec in before}
    new = {_name(spec): spec for spec in after}
    for name, spec in new.items():
        known = old.get(name)
        fields = tuple(
            field for field in _compared(known, spec) if not _names_it(field.field, name, field.after)
        )
        if known is None:
            yield SpecChange(kind=kind, name=name, action="add", fields=fields)
        elif fields:
            yield SpecChange(kind=kind, name=name, action="change", fields=fields)
    for name in old:
        if name not in new:
            yield SpecChange(kind=kind, name=name, action="remove")


def _name(spec: OriginSpec | PoolSpec | SiteSpec) -> str:
    return spec.host if isinstance(spec, OriginSpec) else spec.name


def _compared(before: msgspec.Struct | None, after: msgspec.Struct) -> tuple[FieldChange, ...]:
    was, is_ = (_facts(spec, show=False) if spec is not None else {} for spec in (before, after))
    shown_was, shown_is = (_facts(spec, show=True) if spec is not None else {} for spec in (before, after))
    found = []
    for field in dict.fromkeys((*is_, *was)):
        if was.get(field) != is_.get(field):
            old, new = shown_was.get(field, UNSAID), shown_is.get(field, UNSAID)
            found.append(FieldChange(field, old, CHANGED if old == new == HIDDEN else new))
    return tuple(found)


def _facts(spec: msgspec.Struct, prefix: str = "", *, show: bool) -> dict[str, str]:
    """Every field that is not as it is by itself, by its path; `show`: to be read by people."""
    found: dict[str, str] = {}
    defaults = _defaults(type(spec))
    for field in fields_of(type(spec)):
        value = getattr(spec, field.name)
        path = f"{prefix}{field.key}"
        if field.name in defaults and value == defaults[field.name]:
            continue
        if isinstance(value, msgspec.Struct):
            inside = _facts(value, f"{path}.", show=show)
            found.update(inside or {path: "true"})
        elif isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
            for place, item in zip(_places(value), value, strict=True):
                inside = _facts(item, f"{path}[{place}].", show=show)
                named = {key: said for key, said in inside.items() if not _names_it(key, place, said)}
                found.update(named or {f"{path}[{place}]": "true"})
        else:
            found[path] = _said(field, value, show=show)
    return found


def _defaults(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """By field; those that have none are not there."""
    return {
        field.name: field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        for field in msgspec.structs.fields(kind)
        if not field.required
    }


def _places(items: Sequence[msgspec.Struct]) -> list[str]:
    """What each item is called; its number where names are missing, or the same."""
    names = [
        next((str(getattr(item, name)) for name in _NAMES if getattr(item, name, "")), "") for item in items
    ]
    return names if all(names) and len(set(names)) == len(names) else [str(n) for n in range(len(items))]


def _names_it(path: str, place: str, said: str) -> bool:
    """Whether a field says no more than what the item is called."""
    return said == place and path.rpartition(".")[2] in _NAMES


def _said(field: Field, value: Any, *, show: bool) -> str:
    if field.name in SECRETS:
        return HIDDEN if show else str(value)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if field.duration:
        return say_duration(value)
    if field.size:
        return say_size(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} = {item}" for key, item in value.items())
    return str(value) or '""'
