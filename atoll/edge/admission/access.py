"""Who may ask at all: lists by prefix, autonomous system and country. Pure.

The most specific knowledge decides: the longest prefix on either list; if none holds the client, its AS; then
its country; then `otherwise`. A client whose address is not known is on no list.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from typing import Final

from atoll.config.admission import AccessSpec
from atoll.edge.admission.addresses import PrefixTable, Range, prefix_of
from atoll.edge.admission.facts import Admitted, Facts, Refuse
from atoll.errors import AtollError

MAX_ENTRIES: Final = 100_000  # of one list: larger ones belong into a database
_COUNTRY: Final = re.compile(r"[A-Z]{2}")


class Access:
    """An `AccessSpec` compiled.

    Raises:
        AtollError: an entry is none, stands on both lists, or the lists refuse nobody.
    """

    __slots__ = ("_asns", "_countries", "_otherwise", "_prefixes", "_trial", "name")

    def __init__(self, spec: AccessSpec, where: str) -> None:
        self.name = "access"
        if len(spec.allow) + len(spec.deny) > MAX_ENTRIES:
            raise AtollError(f"more than {MAX_ENTRIES} prefixes", "use a country or AS", where)
        lists = [(True, spec.allow, "allow"), (False, spec.deny, "deny")]
        found = {
            prefix_of(text, f"{where}.{field}"): allowed for allowed, texts, field in lists for text in texts
        }
        self._prefixes: PrefixTable[bool] = PrefixTable(_flat(found))
        _disjoint([prefix_of(t, where) for t in spec.allow], [prefix_of(t, where) for t in spec.deny], where)
        _disjoint(spec.allow_asns, spec.deny_asns, where)
        _disjoint(spec.allow_countries, spec.deny_countries, where)
        for country in (*spec.allow_countries, *spec.deny_countries):
            if _COUNTRY.fullmatch(country) is None:
                raise AtollError(f"{country!r} is no country", "two capital letters, such as DE", where)
        self._asns = {**dict.fromkeys(spec.allow_asns, True), **dict.fromkeys(spec.deny_asns, False)}
        self._countries = {
            **dict.fromkeys(spec.allow_countries, True),
            **dict.fromkeys(spec.deny_countries, False),
        }
        self._otherwise = spec.otherwise == "allow"
        if self._otherwise and not (spec.deny or spec.deny_asns or spec.deny_countries):
            raise AtollError("nobody is refused", 'add a deny list, or otherwise = "deny"', where)
        self._trial = spec.dry_run

    def allows(self, facts: Facts) -> bool:
        """Whether the client may ask."""
        verdict = self._prefixes.find(facts.client) if facts.client is not None else None
        if verdict is None:
            verdict = self._asns.get(facts.asn)
        if verdict is None:
            verdict = self._countries.get(facts.country)
        return self._otherwise if verdict is None else verdict

    def judge(self, facts: Facts, so_far: Admitted, now_s: float) -> Refuse | None:
        """See `Rule`."""
        if self.allows(facts):
            return None
        if self._trial:
            so_far.would_refuse.append(self.name)
            return None
        return Refuse(self.name, 403, "Requests from this address are not accepted here.")


def _flat(found: dict[tuple[int, Range], bool]) -> Iterable[tuple[int, Range, bool]]:
    return ((version, ends, allowed) for (version, ends), allowed in found.items())


def _disjoint(allowed: Iterable[Hashable], denied: Iterable[Hashable], where: str) -> None:
    both = set(allowed) & set(denied)
    if both:
        raise AtollError("an entry is on both lists", "allow it or deny it", where)
