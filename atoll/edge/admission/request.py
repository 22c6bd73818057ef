"""Rules about the request alone: its method, the length of its body, the client's certificate. Pure."""

from __future__ import annotations

import re
from typing import Final

from atoll.config.admission import ClientCertificateSpec
from atoll.edge.admission.facts import Admitted, Facts, Refuse
from atoll.errors import AtollError
from atoll.http.fields import is_token

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Methods:
    """The methods that a route has; others are 405 with `Allow` (RFC 9110 §15.5.6). GET brings HEAD."""

    __slots__ = ("_allow", "_methods", "name")

    def __init__(self, methods: tuple[str, ...], where: str) -> None:
        self.name = "methods"
        for method in methods:
            if not is_token(method.encode()) or method != method.upper():
                raise AtollError(f"{method!r} is no method", "in capitals, such as GET", where)
        named = [*methods, "HEAD"] if "GET" in methods else list(methods)
        self._methods = {method.encode() for method in named}
        self._allow = ", ".join(dict.fromkeys(named)).encode()

    def judge(self, facts: Facts, so_far: Admitted, now_s: float) -> Refuse | None:
        """See `Rule`."""
        if facts.method in self._methods:
            return None
        return Refuse(self.name, 405, "This method is not allowed here.", [(b"allow", self._allow)])


class MaxBody:
    """The longest body that is taken. One without a length is counted as it arrives, by the shell."""

    __slots__ = ("limit", "name")

    def __init__(self, limit: int, where: str) -> None:
        self.name = "body"
        if limit < 0:
            raise AtollError(f"{limit} bytes is no length", "0 or more", where)
        self.limit = limit

    def judge(self, facts: Facts, so_far: Admitted, now_s: float) -> Refuse | None:
        """See `Rule`."""
        if facts.length is not None and facts.length > self.limit:
            return Refuse(self.name, 413, f"A body may have {self.limit} bytes here.")
        return None


class ClientCertificate:
    """Which verified certificates may ask."""

    __slots__ = ("_fingerprints", "_subjects", "name")

    def __init__(self, spec: ClientCertificateSpec, where: str) -> None:
        self.name = "client-certificate"
        self._fingerprints = frozenset(text.replace(":", "").lower() for text in spec.fingerprints)
        for fingerprint in self._fingerprints:
            if _SHA256.fullmatch(fingerprint) is None:
                raise AtollError(f"{fingerprint!r} is no SHA-256", "64 hexadecimal digits", where)
        self._subjects = frozenset(spec.subjects)

    def judge(self, facts: Facts, so_far: Admitted, now_s: float) -> Refuse | None:
        """See `Rule`."""
        shown = facts.certificate
        if shown is None:
            return Refuse(self.name, 403, "A client certificate is required.")
        anyone = not self._fingerprints and not self._subjects
        if anyone or shown.fingerprint in self._fingerprints or shown.subject in self._subjects:
            return None
        return Refuse(self.name, 403, "This client certificate is not accepted here.")
