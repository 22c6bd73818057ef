"""What is not as it should be, in sentences. Pure: `atoll status` exits 3 when there is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from atoll.control.answers import Pop
from atoll.control.presence import SILENT_AFTER_S
from atoll.control.specs import FUNCTION_PREFIX, Specs
from atoll.wire.messages import AnycastStatus, CatchmentRow, CatchmentTable, ProcessInfo

_WELL = ("ready", "up", "leaving")
_NAMED_CITIES = 3


def degraded(
    specs: Specs | None,
    daemon: bool,
    internet: CatchmentTable | None,
    pops: Iterable[Pop],
    processes: Iterable[ProcessInfo],
) -> tuple[str, ...]:
    """Every complaint about the network, the widest first. `specs` are the store's, None without one."""
    return tuple(_complaints(specs, daemon, internet, tuple(pops), processes))


def _complaints(
    specs: Specs | None,
    daemon: bool,
    internet: CatchmentTable | None,
    pops: tuple[Pop, ...],
    processes: Iterable[ProcessInfo],
) -> Iterator[str]:
    if not daemon:
        yield "the network daemon does not answer"
    if internet is None:
        yield "the emulated Internet does not answer"
    if specs is None:
        yield "NATS is not reachable: PoPs serve from disk, nothing can be deployed"
    else:
        for key in specs.unreadable:
            yield f"{key} in the store cannot be read by this version: PoPs serve what they knew before"
    for process in processes:
        if process.state not in _WELL:
            yield f"{process.name} is {process.state}"
    yield from _unreached(internet.rows if internet else ())
    for pop in pops:
        yield from _about_pop(pop, specs)
    yield from _about_certificates(pops)


def _about_certificates(pops: tuple[Pop, ...]) -> Iterator[str]:
    """Files that hold something else than they should; PoPs that share a disk have the same to say."""
    faults = {fault for pop in pops for edge in pop.edges for fault in edge.certificate_faults.items()}
    for file, reason in sorted(faults):
        yield f"certificate {file} is not used, what was there before serves: {reason}"


def _about_pop(pop: Pop, specs: Specs | None) -> Iterator[str]:
    if pop.state not in ("up", "unknown"):
        yield f"{pop.code} is {pop.state}"
        return
    for process in pop.processes:
        if process.state not in _WELL:
            yield f"{pop.code}/{process.name} is {process.state}"
    if specs is not None:
        yield from _about_agent(pop, specs)
    if pop.anycast is None:
        yield f"{pop.code}'s anycast role does not answer"
    elif not pop.anycast.session_up:
        yield f"{pop.code} is not announced: no session with the Internet"
    elif not pop.anycast.healthy:
        yield f"{pop.code} is not announced: {pop.anycast.reason}"
    elif not pop.anycast.drain and not pop.anycast.announced:
        yield f"{pop.code} announces nothing: {pop.anycast.reason}"


def announces(anycast: AnycastStatus | None) -> bool:
    """Whether a PoP attracts users and is to go on doing so."""
    return anycast is not None and bool(anycast.announced) and not anycast.drain


def _unreached(rows: Iterable[CatchmentRow]) -> Iterator[str]:
    """Cities whose packets go nowhere."""
    cities = [row.city for row in rows if not row.pop]
    if len(cities) <= _NAMED_CITIES:
        yield from (f"{city} has no route" for city in cities)
    else:
        named = ", ".join(cities[:_NAMED_CITIES])
        yield f"{len(cities)} cities have no route: {named}, …"


def _about_agent(pop: Pop, specs: Specs) -> Iterator[str]:
    if pop.heard_s is None or pop.heard_s > SILENT_AFTER_S:
        yield f"{pop.code}'s agent is silent"
    elif any(process.name == "agent" and process.uptime_s < pop.heard_s for process in pop.processes):
        yield f"{pop.code}'s agent has said nothing since it started"  # it was the one before
    elif pop.seq is None:
        return
    elif pop.store not in ("", specs.store):
        yield f"{pop.code} follows another store and serves on what it has; `atoll adopt-store` ends that"
    elif pop.seq < specs.seq:
        yield f"{pop.code} catches up: it serves seq {pop.seq} of {specs.seq}"
    elif pop.seq > specs.seq:
        yield f"{pop.code} serves seq {pop.seq}, the store is at {specs.seq}: was the store replaced?"
    else:
        yield from _about_functions(pop, specs)


def _about_functions(pop: Pop, specs: Specs) -> Iterator[str]:
    """What serves is compared with what should: a PoP may know of a version that does not start there."""
    wanted = {f"{f.tenant}.{f.name}": f.active for f in specs.functions if f.active}
    for name in sorted(wanted.keys() | pop.functions.keys()):
        should, does = wanted.get(name, ""), pop.functions.get(name, "")
        if name in wanted and not does:
            yield f"{pop.code} does not serve {name}"
        elif does != should and f"{FUNCTION_PREFIX}{name}" not in specs.unreadable:
            yield f"{pop.code} serves {name} {does}, {f'not {should}' if should else 'which was removed'}"
