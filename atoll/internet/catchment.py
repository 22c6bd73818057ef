"""Who lands where: the catchment of each PoP, what would happen without one, and what changed.

Joins the route choice of `atoll.internet.routing` with the round trips of `atoll.internet.geography`. It must
never decide a route itself: a city's PoP is the origin of its network's chosen path, nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from atoll.config.spec import EyeballSpec
from atoll.errors import AtollError
from atoll.internet.geography import path_rtt_ms
from atoll.internet.graph import Graph
from atoll.internet.routing import Announcement, Route, propagate
from atoll.wire.messages import CatchmentRow


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """A city that goes elsewhere after a change. "" is no PoP at all, its round trip 0."""

    city: str
    before: str
    after: str
    before_rtt_ms: float
    after_rtt_ms: float


def catchment(
    graph: Graph,
    announcements: Iterable[Announcement],
    eyeballs: Sequence[EyeballSpec],
    without: Collection[str] = (),
) -> tuple[CatchmentRow, ...]:
    """Where each eyeball network goes, in the order of `eyeballs`.

    Args:
        graph: the Internet.
        announcements: what the PoPs announce.
        eyeballs: networks of users.
        without: codes of PoPs to leave out, a what-if.

    Raises:
        AtollError: an eyeball's AS is not in the graph, or an announcement cannot be made.
    """
    kept = (each for each in announcements if pop_code(graph, each.asn) not in without)
    routes = propagate(graph, kept)
    return tuple(_row(graph, eyeball, routes.get(eyeball.asn)) for eyeball in eyeballs)


def second_choices(
    graph: Graph, announcements: Iterable[Announcement], eyeballs: Sequence[EyeballSpec]
) -> tuple[CatchmentRow, ...]:
    """Where each eyeball network goes when the PoP it uses now is lost, and only that one."""
    every = tuple(announcements)
    first = catchment(graph, every, eyeballs)
    lost = {
        code: catchment(graph, every, eyeballs, without=(code,))
        for code in {row.pop for row in first if row.pop}
    }
    return tuple(lost[row.pop][index] if row.pop else row for index, row in enumerate(first))


def diff(before: Iterable[CatchmentRow], after: Iterable[CatchmentRow]) -> tuple[Shift, ...]:
    """The cities whose PoP differs, in the order of `after`; a city missing on one side had no PoP there."""
    old = {row.city: row for row in before}
    new = {row.city: row for row in after}
    shifts = (_shift(city, old.get(city), new.get(city)) for city in {**new, **old})
    return tuple(shift for shift in shifts if shift.before != shift.after)


def pop_code(graph: Graph, asn: int) -> str:
    """The code of the PoP behind `asn`: the name of its AS; "" for an AS that is no PoP's."""
    found = graph.ases.get(asn)
    return found.name if found is not None and found.kind == "pop" else ""


def route_rtt_ms(graph: Graph, route: Route, start: str) -> float:
    """The round trip from the city `start` along `route`."""
    return path_rtt_ms(start, [graph.ases[asn].cities for asn in route.hops[1:]])


def _row(graph: Graph, eyeball: EyeballSpec, route: Route | None) -> CatchmentRow:
    if eyeball.asn not in graph.ases:
        raise AtollError(
            f"AS{eyeball.asn} is not in the graph", hint="add the eyeball's network", where=eyeball.city
        )
    if route is None:
        return CatchmentRow(city=eyeball.city, asn=eyeball.asn, pop="", as_path=(), rtt_ms=0.0)
    return CatchmentRow(
        city=eyeball.city,
        asn=eyeball.asn,
        pop=pop_code(graph, route.origin),
        as_path=route.as_path,
        rtt_ms=round(route_rtt_ms(graph, route, eyeball.city), 3),
    )


def _shift(city: str, before: CatchmentRow | None, after: CatchmentRow | None) -> Shift:
    return Shift(
        city=city,
        before=before.pop if before else "",
        after=after.pop if after else "",
        before_rtt_ms=before.rtt_ms if before else 0.0,
        after_rtt_ms=after.rtt_ms if after else 0.0,
    )
