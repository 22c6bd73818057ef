"""Which origins' scripts may read a response: the CORS protocol of the Fetch standard (§3.2). Pure.

Preflights are answered here. Other responses get their fields as they leave: what the origin server says
about CORS is dropped, and nothing about it is stored, so one stored response serves every origin. `Vary:
Origin` is said whenever the answer could be another one, to requests without `Origin` too.
"""

from __future__ import annotations

import re
from typing import Final

from atoll.config.admission import CorsSpec
from atoll.edge.admission.facts import Admitted, Amendment, Facts, Refuse
from atoll.errors import AtollError
from atoll.http.fields import Headers, get, is_token

FIELDS: Final = frozenset(
    {
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-origin",
        b"access-control-expose-headers",
        b"access-control-max-age",
    }
)
_ORIGIN: Final = re.compile(r"https?://(?:\*\.)?(?:[a-z0-9-]+\.)*[a-z0-9-]+(?::[0-9]{1,5})?")
_LABELS: Final = re.compile(rb"(?:[a-z0-9_-]+\.)*[a-z0-9_-]+")
_PREFLIGHT_VARY: Final = b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
_MAX_ASKED: Final = 64  # field names in a preflight


class Cors:
    """A `CorsSpec` compiled.

    Raises:
        AtollError: an origin, method or field name is none.
    """

    __slots__ = (
        "_any",
        "_exact",
        "_exposed",
        "_headers",
        "_max_age",
        "_methods",
        "_spec",
        "_suffixes",
        "name",
    )

    def __init__(self, spec: CorsSpec, where: str) -> None:
        self.name = "cors"
        self._spec = spec
        self._any = "*" in spec.origins
        if self._any and (spec.credentials or len(spec.origins) > 1):
            hint = "name the origins" if spec.credentials else "leave the others out"
            raise AtollError('"*" stands alone and without credentials', hint, f"{where}.origins")
        for origin in spec.origins:
            if origin != "*" and _ORIGIN.fullmatch(origin) is None:
                hint = "https://app.example, https://*.app.example or *; no patterns, no path"
                raise AtollError(f"{origin!r} is no origin", hint, f"{where}.origins")
        for name in (*spec.methods, *spec.request_headers, *spec.exposed):
            if not is_token(name.encode()):
                raise AtollError(f"{name!r} is neither method nor field name", where=where)
        self._exact = {origin.encode() for origin in spec.origins if "*" not in origin}
        wild = (origin.encode().split(b"*", 1) for origin in spec.origins if "*." in origin)
        self._suffixes = [(scheme, suffix) for scheme, suffix in wild]
        self._methods = {method.encode() for method in spec.methods}
        self._headers = {name.lower().encode() for name in spec.request_headers}
        self._exposed = ", ".join(spec.exposed).encode()
        self._max_age = b"%d" % min(max(spec.max_age_s, 0), 86_400)

    def allows(self, origin: bytes) -> bool:
        """Whether scripts of `origin` may read."""
        if self._any or origin in self._exact:
            return True
        for scheme, suffix in self._suffixes:
            inner = origin[len(scheme) : -len(suffix)]
            if origin.startswith(scheme) and origin.endswith(suffix) and _LABELS.fullmatch(inner):
                return True
        return False

    def amendment(self, origin: bytes | None) -> Amendment:
        """What a response to a request from `origin` gets."""
        fields: Headers = []
        if origin is not None and self.allows(origin):
            fields = self._granted(origin)
            if self._exposed:
                fields.append((b"access-control-expose-headers", self._exposed))
        return Amendment(FIELDS, [], fields, () if self._any else (b"Origin",))

    def judge(self, facts: Facts, so_far: Admitted, now_s: float) -> Refuse | None:
        """See `Rule`: a preflight ends here, answered."""
        if facts.method != b"OPTIONS":
            return None
        origin = get(facts.headers, b"origin")
        method = get(facts.headers, b"access-control-request-method")
        if origin is None or method is None:
            return None
        vary = (b"vary", _PREFLIGHT_VARY)
        wanted = get(facts.headers, b"access-control-request-headers") or b""
        reason = self._refusal(origin, method, wanted)
        if reason:
            return Refuse(self.name, 403, reason, [vary])
        fields = [
            *self._granted(origin),
            (b"access-control-allow-methods", b", ".join(sorted(self._methods))),
        ]
        if wanted:
            fields.append((b"access-control-allow-headers", wanted))
        fields += [(b"access-control-max-age", self._max_age), vary]
        return Refuse(self.name, 204, "", fields, b"")

    def _refusal(self, origin: bytes, method: bytes, wanted: bytes) -> str:
        if not self.allows(origin):
            return "This origin may not read responses."
        if method not in self._methods:
            return "This method is not allowed from another origin."
        names = [name.strip(b" \t").lower() for name in wanted.split(b",")] if wanted else []
        if len(names) > _MAX_ASKED or not all(map(is_token, names)):
            return "The field names asked for are malformed."
        if b"*" not in self._headers and not self._headers.issuperset(names):
            return "A field asked for is not allowed from another origin."
        return ""

    def _granted(self, origin: bytes) -> Headers:
        fields = [(b"access-control-allow-origin", b"*" if self._any else origin)]
        if self._spec.credentials:
            fields.append((b"access-control-allow-credentials", b"true"))
        return fields
