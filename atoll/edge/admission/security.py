"""Response fields that tell browsers to be careful. Pure; made once for each scheme.

HSTS (RFC 6797) is said on https only: §7.2 forbids it elsewhere.
"""

from __future__ import annotations

from typing import Final

from atoll.config.admission import SecurityHeadersSpec
from atoll.edge.admission.facts import Amendment
from atoll.errors import AtollError
from atoll.http.fields import Headers, valid_field_value

STRICT: Final = {
    "strict-transport-security": "max-age=63072000; includeSubDomains",
    "x-content-type-options": "nosniff",
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "referrer-policy": "strict-origin-when-cross-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
}
"""What the preset `strict` says, field by field, unless the spec says otherwise."""


def security_fields(spec: SecurityHeadersSpec, where: str, scheme: bytes) -> Headers:
    """The fields of a spec on `scheme`.

    Raises:
        AtollError: a value may not stand in a field.
    """
    fields = dict(STRICT) if spec.preset == "strict" else {}
    chosen = {
        "strict-transport-security": _hsts(spec),
        "x-content-type-options": "nosniff" if spec.nosniff else "",
        "content-security-policy": spec.content_security_policy,
        "referrer-policy": spec.referrer_policy,
        "permissions-policy": spec.permissions_policy,
        "x-frame-options": spec.frame_options,
    }
    fields.update({name: value for name, value in chosen.items() if value})
    if scheme != b"https":
        fields.pop("strict-transport-security", None)
    for name, value in fields.items():
        if not value.isascii() or not valid_field_value(value.encode()):
            raise AtollError(f"the value of {name} cannot stand in a field", "one line of ASCII", where)
    return [(name.encode(), value.encode()) for name, value in fields.items()]


def security_amendment(spec: SecurityHeadersSpec, where: str, scheme: bytes) -> Amendment:
    """The same as what it does to a response."""
    fields = security_fields(spec, where, scheme)
    return Amendment(frozenset(), [], fields) if spec.override else Amendment(frozenset(), fields, [])


def _hsts(spec: SecurityHeadersSpec) -> str:
    if not spec.hsts_s:
        return ""
    subdomains = "; includeSubDomains" if spec.hsts_subdomains else ""
    return f"max-age={spec.hsts_s}{subdomains}{'; preload' if spec.hsts_preload else ''}"
