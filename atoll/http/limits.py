"""Bounds that a server connection enforces before it allocates anything for a request.

Every number has a reason to be finite: an unbounded one is a way to take the worker down.
"""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds, counts per connection unless said otherwise."""

    head: int = 32 * 1024  # request line and fields together: 431 beyond
    target: int = 8 * 1024  # 414 beyond
    fields: int = 100  # header fields: 431 beyond
    body: int = 100 * 1024 * 1024  # a request's body: 413 beyond
    buffered: int = 256 * 1024  # of a body that nobody has taken yet, or of a response not yet sent
    pipeline: int = 16  # pipelined h1 requests parsed ahead; then reading pauses
    h1_requests: int = 100_000  # on one h1 connection; then `Connection: close`
    h2_requests: int = 3_900  # on one h2 connection; then GOAWAY (the engine dies at 4,096)
    h2_streams: int = 128  # open at once, announced in SETTINGS by the engine
    h2_uploads: int = 1024 * 1024  # of bodies on one h2 connection that nobody has taken: then no more room
    h2_parked: int = 4 * 1024 * 1024  # of responses that the client makes no room for: then no new streams
    h2_resets: int = 200  # streams the client may cancel (rapid reset, CVE-2023-44487)
    h3_streams: int = 128  # open at once, announced by the transport
    h2_control: int = 10_000  # frames that bring nothing, beyond what requests and answers explain
    quic_arriving: int = 64  # connections in their handshake; beyond, addresses have to be proven (Retry)
    tunnels: int = 10_000  # WebSockets and the like, per worker
    connections: int = 20_000  # per worker
    address_connections: int = 1_000  # of one address (IPv6: one /64) in a worker; 0: as many as there are
    address_requests_s: int = 10_000  # of one address in a worker, averaged over a second; 0: no limit
    address_slowed_s: float = 10.0  # how long it gets 429 when it has asked more
    memory: int = 512 * 1024 * 1024  # held for all clients of a worker together: then the newest are given up
    retry_after_s: int = 2  # what is said with 429 and 503
    head_timeout_s: float = 10.0  # from a request's first byte to its last field
    idle_timeout_s: float = 75.0  # between requests
    body_timeout_s: float = 30.0  # between two chunks of a body
    tls_handshake_s: float = 10.0
