"""What a purge selects, as it travels from an operator to every cache."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from atoll.config.spec import DEFAULT_TENANT

Kind = Literal["url", "tag", "host", "prefix", "all"]

MAX_VALUE: Final = 8 * 1024
"""Bytes of a selector's value."""


class Selector(msgspec.Struct, frozen=True, kw_only=True):
    """What to purge. `value` has no scheme: both are meant, and every variant.

    url: `host/path?query`; prefix: `host/path…`; host: `host`; tag: a `Cache-Tag` or `Surrogate-Key` of
    `tenant`; all: empty. `soft` keeps what is selected as stale: it is validated again, and may stand in.
    """

    kind: Kind
    value: str = ""
    soft: bool = False
    tenant: str = DEFAULT_TENANT
