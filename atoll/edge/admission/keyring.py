"""The keys of a token rule: those of the configuration, and those that an endpoint publishes. Pure.

It says when to fetch and takes what came; `atoll.edge.admission.jwks` fetches. Keys are used until others
come, however long the endpoint is down. A `kid` that nobody knows is a reason to look again, but not more
often than once in `RETRY_S`: anybody can make one up.
"""

from __future__ import annotations

from typing import Final

from atoll.config.admission import TokenSpec
from atoll.edge.admission.keys import MAX_KEYS, Key, static_key
from atoll.errors import AtollError
from atoll.http.fields import parse_cache_control

RETRY_S: Final = 10.0
DEFAULT_AGE_S: Final = 300.0
MIN_AGE_S: Final = 60.0
MAX_AGE_S: Final = 86_400.0
_LOCAL: Final = ("http://127.0.0.1", "http://[::1]", "http://localhost")


class Keyring:
    """Keys by what a token says of its own.

    Raises:
        AtollError: there are no keys and no endpoint, or one of them will not do.
    """

    __slots__ = ("_fetched", "_fresh_until_s", "_static", "_tried_s", "url", "version")

    def __init__(self, spec: TokenSpec, where: str) -> None:
        if len(spec.keys) > MAX_KEYS:
            raise AtollError(f"{len(spec.keys)} keys", f"{MAX_KEYS} at most", f"{where}.keys")
        if not spec.keys and not spec.jwks_url:
            raise AtollError("there are no keys", "give keys or jwks_url", where)
        if spec.jwks_url and not _trustworthy(spec.jwks_url):
            hint = "https, or http on loopback"
            raise AtollError(f"keys cannot be trusted from {spec.jwks_url!r}", hint, f"{where}.jwks_url")
        self.url = spec.jwks_url
        self._static = tuple(static_key(key, f"{where}.keys[{n}]") for n, key in enumerate(spec.keys))
        self._fetched: tuple[Key, ...] = ()
        self._fresh_until_s = self._tried_s = float("-inf")
        self.version = 0  # grows when keys change: what they have verified is forgotten

    @property
    def empty(self) -> bool:
        """No keys at all: the endpoint has not answered yet."""
        return not (self._static or self._fetched)

    def candidates(self, kid: str, alg: str) -> list[Key]:
        """Keys that may have signed: of this algorithm, and of this id if the token names one."""
        keys = self._static + self._fetched
        return [key for key in keys if key.alg == alg and (not kid or key.kid in (kid, ""))]

    def knows(self, kid: str) -> bool:
        """Whether a key of this id is there."""
        return any(key.kid == kid for key in self._static + self._fetched)

    def may_fetch(self, now_s: float) -> bool:
        """Whether the endpoint may be asked again."""
        return bool(self.url) and not 0 <= now_s - self._tried_s < RETRY_S

    def due(self, now_s: float) -> bool:
        """Whether keys are old enough to be fetched again, and the endpoint may be asked."""
        return now_s >= self._fresh_until_s and self.may_fetch(now_s)

    def tried(self, now_s: float) -> None:
        """The endpoint is being asked."""
        self._tried_s = now_s

    def fetched(self, keys: tuple[Key, ...], cache_control: list[bytes], now_s: float) -> None:
        """It has answered."""
        cc = parse_cache_control(cache_control)
        age_s = DEFAULT_AGE_S if cc.max_age is None else float(cc.max_age)
        self._fresh_until_s = now_s + min(max(age_s, MIN_AGE_S), MAX_AGE_S)
        self._fetched = keys
        self.version += 1


def _trustworthy(url: str) -> bool:
    if url.startswith("https://"):
        return True
    return any(url.startswith((f"{local}/", f"{local}:")) for local in _LOCAL)
