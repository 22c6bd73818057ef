"""From what people write to what caches compare: the selector of a purge. Pure.

Cache keys have a site's canonical host, whatever name a visitor used; so have selectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from atoll.config.purge import MAX_VALUE, Kind, Selector
from atoll.errors import AtollError

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

Canonical = Callable[[str], str | None]
"""The canonical host of the site that answers for a host; None when there is none."""


def selector_of(kind: Kind, value: str, soft: bool, tenant: str, canonical: Canonical) -> Selector:
    """The selector that `value` means.

    Raises:
        AtollError: it means none; `where` names the field.
    """
    if len(value.encode()) > MAX_VALUE:
        raise AtollError(f"longer than {MAX_VALUE} bytes", "purge a prefix or a tag instead", "value")
    if kind == "all":
        if value:
            raise AtollError("everything needs no value", "leave it out, or choose another kind", "value")
        return Selector(kind="all", soft=soft, tenant=tenant)
    if not value or not value.isascii() or any(byte <= " " or byte == "\x7f" for byte in value):
        raise AtollError(f"{value!r} is no {_WORDS[kind]}", _EXAMPLES[kind], "value")
    if kind == "tag":
        return Selector(kind="tag", value=value, soft=soft, tenant=tenant)
    return Selector(kind=kind, value=_location(kind, value, canonical), soft=soft, tenant=tenant)


def _location(kind: Kind, value: str, canonical: Canonical) -> str:
    """`host/path?query` with the host as cache keys have it, or the host alone."""
    text = value if "://" in value else f"https://{value}"
    try:
        parts = urlsplit(text)
        name, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise AtollError(f"{value!r} is no {_WORDS[kind]}: {error}", _EXAMPLES[kind], "value") from error
    if parts.scheme not in _DEFAULT_PORTS or not name:
        raise AtollError(f"{value!r} is no {_WORDS[kind]}", _EXAMPLES[kind], "value")
    host = canonical(name if port in (None, *_DEFAULT_PORTS.values()) else f"{name}:{port}")
    if host is None:
        raise AtollError(f"no site answers for {name}", "`atoll sites` names them", "value")
    if kind == "host":
        if parts.path not in ("", "/") or parts.query:
            raise AtollError(f"{value!r} is more than a host", "purge a prefix to name a path", "value")
        return host
    query = f"?{parts.query}" if parts.query else ""
    return f"{host}{parts.path or '/'}{query}"


_WORDS: Final = {"url": "URL", "prefix": "prefix of a URL", "host": "host", "tag": "tag", "all": "value"}
_EXAMPLES: Final = {
    "url": "for example https://shop.example.com/products/7",
    "prefix": "for example shop.example.com/products/",
    "host": "for example shop.example.com",
    "tag": "one word of what the origin sent in Cache-Tag or Surrogate-Key",
    "all": "leave it out",
}
