"""Every message that one role sends another, by conversation. Tagged structs, one sentence each.

The tag is the class name. New fields get defaults; a field is never given a new meaning.
"""

from __future__ import annotations

from typing import Final

import msgspec

from atoll.config.purge import Selector
from atoll.config.spec import Snapshot

SANDBOX_DETAIL: Final = "sandbox: "  # begins the detail of a function host; then `full`, or `reduced` and why


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


# --- any conversation


class Ok(_Message, frozen=True, kw_only=True):
    """Done."""

    seq: int = 0


class Failed(_Message, frozen=True, kw_only=True):
    """Not done, and why: `AtollError`'s three parts."""

    message: str
    hint: str = ""
    where: str = ""


# --- agent -> edge worker (edge-<i>.sock)


class ApplySnapshot(_Message, frozen=True, kw_only=True):
    """Serve this from now on; answered `Ok(seq)` once every new request is routed by it.

    One that is older than what is served is not taken, unless `anew`: another store counts from the start.
    """

    snapshot: Snapshot
    anew: bool = False


class GetEdgeStats(_Message, frozen=True, kw_only=True):
    """Answered `EdgeStats`."""


class EdgeStats(_Message, frozen=True, kw_only=True):
    """An edge worker's counters since it started."""

    seq: int
    requests: int
    hits: int
    misses: int
    stale: int
    bypass: int
    errors: int
    connections: int
    cache_bytes: int
    cache_objects: int
    origins_up: dict[str, bool] = {}
    refused: dict[str, int] = {}  # "<host><route path> <rule>" to requests; "(dry run)" behind it on trial
    handshakes: int = 0  # of TLS, done
    handshakes_resumed: int = 0  # of those
    handshakes_failed: int = 0
    handshakes_timed_out: int = 0
    certificate_faults: dict[str, str] = {}  # file: why what it holds is not used
    gc_runs: int = 0  # garbage collections
    gc_s: float = 0.0  # that they took together; nothing else ran meanwhile
    gc_longest_s: float = 0.0


class NumberedPurge(msgspec.Struct, frozen=True, kw_only=True):
    """A purge and its number, which grows through the whole network."""

    seq: int
    selector: Selector


class PurgeUpdate(_Message, frozen=True, kw_only=True):
    """What the network has purged, in order; answered `PurgeState` once all of it is applied.

    `behind` says that purges up to that number are not known one by one. `lease_until_s`, on the machine's
    monotonic clock, is until when the worker may take it that there are no others. All may be empty.
    """

    purges: tuple[NumberedPurge, ...] = ()
    behind: int = 0
    lease_until_s: float = 0.0


class PurgeState(_Message, frozen=True, kw_only=True):
    """The number of the last purge that a worker has applied, or that `PurgeRequest` was given.

    `pops` is what each PoP made of what was requested, where there are PoPs.
    """

    applied: int
    pops: dict[str, str] = {}


class PurgeRequest(_Message, frozen=True, kw_only=True):
    """An edge worker has something purged everywhere; answered `PurgeState` when everybody has."""

    selectors: tuple[Selector, ...]


class DrainEdge(_Message, frozen=True, kw_only=True):
    """Finish what is open, ask clients to go (`Connection: close`, GOAWAY); answered `Ok` when idle."""

    grace_s: float = 5.0


# --- agent, network daemon, command line -> PoP supervisor (supervisor.sock)


class EnsureHost(_Message, frozen=True, kw_only=True):
    """Run a function host; answered `HostReady` when it answers its ping, `Failed` with its own words.

    Asking twice for the same `id` answers for the one that runs.
    """

    id: str  # "<tenant>.<function>.<version>"
    bundle_dir: str  # unpacked bundle with manifest.json in it
    memory_mb: int = 128


class HostReady(_Message, frozen=True, kw_only=True):
    """The host answers on `socket`; the supervisor holds that socket, so the path outlives restarts."""

    id: str
    socket: str
    pid: int
    start_ms: float


class StopHost(_Message, frozen=True, kw_only=True):
    """Stop a host after `grace_s` for what it still answers; answered `Ok`."""

    id: str
    grace_s: float = 2.0


class GetProcesses(_Message, frozen=True, kw_only=True):
    """Answered `Processes`."""


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One supervised process."""

    name: str  # "edge-0", "agent", "anycast", "fn:default.smart-routing.1f..."
    pid: int
    state: str  # starting | ready | stopped | backoff | leaving (replaced, and ends what it has begun)
    restarts: int = 0
    uptime_s: float = 0.0
    rss: int = 0  # bytes, private where the kernel says
    cpu_s: float = 0.0
    detail: str = ""


class Processes(_Message, frozen=True, kw_only=True):
    """Everything a supervisor looks after, itself first."""

    processes: tuple[ProcessInfo, ...]
    draining: bool = False
    version: str = ""  # of the code that the supervisor runs


class RestartRole(_Message, frozen=True, kw_only=True):
    """Restart one role by name, with the code on disk; answered `Ok` when the new one is ready.

    A predecessor that lives on to end what it has begun gets `grace_s` for it; nobody waits for that.
    """

    name: str
    grace_s: float | None = None  # None: as its launch says


class Upgrade(_Message, frozen=True, kw_only=True):
    """Go on as the code on disk, with the same process, sockets and children; also the network daemon.

    Answered `Ok` just before it happens, or `Failed` when that code does not start. Whoever asks again is
    answered by the new code, whose uptime begins anew.
    """


class Stop(_Message, frozen=True, kw_only=True):
    """Stop everything below and leave; answered `Ok` just before."""


# --- network daemon (network.sock), asked by the API


class GetNetwork(_Message, frozen=True, kw_only=True):
    """Answered `NetworkStatus`."""


class PopState(msgspec.Struct, frozen=True, kw_only=True):
    """A PoP as the daemon sees it."""

    code: str
    state: str  # up | down | draining | starting
    processes: tuple[ProcessInfo, ...] = ()


class NetworkStatus(_Message, frozen=True, kw_only=True):
    """Every process of the network."""

    pops: tuple[PopState, ...]
    processes: tuple[ProcessInfo, ...]  # nats, api, gateway, origins, the daemon itself
    latency: str = "off"  # off | real
    started_s: float = 0.0  # seconds since the epoch
    version: str = ""  # of the code that the daemon runs


class PopCommand(_Message, frozen=True, kw_only=True):
    """`kill` (SIGKILL, all of the PoP's processes at once), `start`, `stop`; answered `Ok`.

    Drain and undrain are intents for the PoP's anycast role: see `SetIntent`.
    """

    pop: str
    action: str


class ProcessSignal(_Message, frozen=True, kw_only=True):
    """Kill one process by name (`nats`, `lhr/agent`, `lhr/edge-0`), for fault drills; answered `Ok`."""

    name: str


# --- anycast role: its own socket (anycast.sock)


class SetIntent(_Message, frozen=True, kw_only=True):
    """What the operator wants of this PoP; kept on disk. Answered `Ok` when policy has acted on it."""

    drain: bool


class ForgiveFalls(_Message, frozen=True, kw_only=True):
    """The operator has started the PoP: what it fell before counts no more. Answered `Ok`."""


class GetAnycast(_Message, frozen=True, kw_only=True):
    """Answered `AnycastStatus`."""


class NeighborStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The BGP session with one neighbour."""

    name: str
    address: str
    asn: int
    up: bool
    for_s: float  # how long it has been so
    reason: str = ""  # why it is not up
    bfd: str = ""  # the state of its BFD session, where there is one


class AnycastStatus(_Message, frozen=True, kw_only=True):
    """What a PoP announces and why."""

    pop: str
    healthy: bool
    drain: bool
    announced: tuple[str, ...]  # prefixes
    session_up: bool
    prepend: int = 0
    communities: tuple[str, ...] = ()
    reason: str = ""
    events: tuple[str, ...] = ()  # newest last, "2026-01-01T00:00:00.000Z text"
    neighbors: tuple[NeighborStatus, ...] = ()


# --- emulated Internet (internet.sock): a speaker's session


class SpeakerOpen(_Message, frozen=True, kw_only=True):
    """A speaker's first message; the session is the connection: when it drops, the routes go.

    A speaker that promises keepalives is gone, too, when `multiplier` intervals pass without any word of it.
    """

    pop: str
    asn: int
    keepalive_s: float = 0.0  # the interval; 0 promises none
    multiplier: int = 10


class Keepalive(_Message, frozen=True, kw_only=True):
    """An event: the speaker lives."""


class SpeakerRestart(_Message, frozen=True, kw_only=True):
    """The speaker's session is about to end because its successor takes over: keep its routes meanwhile.

    As a restarting speaker's neighbours do (RFC 4724): until the successor has announced them again, or
    `patience_s` after the session's end. Answered `Ok`.
    """

    patience_s: float


class RouteAnnounce(_Message, frozen=True, kw_only=True):
    """Announce `prefix` (implicitly replaces what was announced). Answered `Ok` when propagated."""

    prefix: str
    prepend: int = 0
    med: int = 0
    communities: tuple[str, ...] = ()


class RouteWithdraw(_Message, frozen=True, kw_only=True):
    """Withdraw `prefix`. Answered `Ok` when propagated."""

    prefix: str


class GetCatchment(_Message, frozen=True, kw_only=True):
    """Answered `CatchmentTable`; `without` leaves PoPs out (a what-if, nothing changes)."""

    without: tuple[str, ...] = ()


class CatchmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """Where one city's network goes."""

    city: str
    asn: int
    pop: str  # "" when there is no route
    as_path: tuple[int, ...]  # from the eyeball's AS to the origin AS, both included
    rtt_ms: float


class CatchmentTable(_Message, frozen=True, kw_only=True):
    """Every city, in the order of the network's eyeballs."""

    rows: tuple[CatchmentRow, ...]
    latency: str = "off"  # off | real
    events: tuple[str, ...] = ()  # what changed last in the Internet, newest last


Message = (
    Ok
    | Failed
    | ApplySnapshot
    | GetEdgeStats
    | EdgeStats
    | PurgeUpdate
    | PurgeState
    | PurgeRequest
    | DrainEdge
    | EnsureHost
    | HostReady
    | StopHost
    | GetProcesses
    | Processes
    | RestartRole
    | Upgrade
    | Stop
    | GetNetwork
    | NetworkStatus
    | PopCommand
    | ProcessSignal
    | SetIntent
    | ForgiveFalls
    | GetAnycast
    | AnycastStatus
    | SpeakerOpen
    | Keepalive
    | SpeakerRestart
    | RouteAnnounce
    | RouteWithdraw
    | GetCatchment
    | CatchmentTable
)
