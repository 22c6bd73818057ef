"""How origins are connected to, balanced, checked and given up on. Values in `OriginSpec` and `PoolSpec`."""

from __future__ import annotations

from typing import Literal

import msgspec

Balance = Literal["nearest", "weighted", "hash"]
"""Which origin is asked first: the nearest; each as often as its weight says (smooth weighted round robin);
or always the same for one URL, so that each origin's own cache sees a part of them."""

OriginProtocol = Literal["auto", "http/1.1", "h2"]
"""`auto`: over TLS what the origin chooses (ALPN), HTTP/1.1 without it. `h2` without TLS is spoken at once
(RFC 9113 §3.3)."""


class OriginTlsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How an `https` origin is believed, and how it may believe us. Paths are PEM files on each PoP."""

    verify: bool = True  # False believes anybody: for an origin that cannot have a certificate, never a habit
    ca: str = ""  # the authorities believed; "": the system's
    server_name: str = ""  # asked for and verified; "": the host of the origin's URL
    certificate: str = ""  # ours, with its chain, for origins that ask for one
    key: str = ""  # its key; "": in the same file
    minimum: Literal["1.2", "1.3"] = "1.2"


class EjectionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """When requests themselves show that an origin is sick. The last one of a pool is never ejected."""

    failures: int = 5  # in a row: no connection, no response, or a status of 5xx; 0: never
    base_s: float = 10.0  # the first time; twice as long each time it happens again
    longest_s: float = 300.0
    most_share: float = 0.5  # of a pool's origins at once, but always one if there is more than one


class RetrySpec(msgspec.Struct, frozen=True, kw_only=True):
    """How often requests go to another origin: a sick pool must not be asked twice as much for being sick."""

    share: float = 0.2  # retries per request, in the long run
    floor_per_s: float = 3.0  # allowed anyway
    most: int = 3  # for one request
    body: int = 64 * 1024  # bytes of a request's body that are kept to be sent again; it must be there whole


class OriginLimitsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What one edge worker keeps open to one origin."""

    connections: int = 256
    pending: int = 1024  # requests that wait for a connection; more are refused with 503
    idle_s: float = 30.0  # an unused connection is kept so long
    age_s: float = 300.0  # and a used one: a changed address is noticed by then at the latest


TLS_USUAL = OriginTlsSpec()
EJECTION_USUAL = EjectionSpec()
RETRY_USUAL = RetrySpec()
LIMITS_USUAL = OriginLimitsSpec()
