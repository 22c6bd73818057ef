"""TLS for listeners: a context for each name and policy, made when first asked for, again when files change.

Versions and cipher suites are those of Mozilla's "intermediate" profile without its finite-field suites.
Handshakes begin on one context, `default`, which hands over to the name's own by SNI: connections that are
open keep what they began with, and session tickets, which belong to the context a handshake begins on, go on
resuming over a change of certificates. OpenSSL takes only the certificate over in that moment, so a site with
a policy of its own (TLS 1.3 alone, client certificates) has to be known before the handshake begins: the
listener then reads the name from the ClientHello (`begin`).

What Python's `ssl` does not offer, and so is not here: ticket keys shared by processes (a session resumes in
the worker that began it, until that worker's end), OCSP stapling, early data over TCP.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, cast

import msgspec

from atoll.config.tls import USUAL, TlsSpec
from atoll.errors import AtollError
from atoll.http.certificates import Certificates, Stamp, stamp_of, valid_name

# TLS 1.2 only: OpenSSL's three suites of TLS 1.3 are all good.
CIPHERS: Final = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)
_MAX_CONTEXTS: Final = 4096  # each takes some 50 KB
_MAX_SUBJECT: Final = 1024

Policies = Callable[[str], TlsSpec]


class TlsCounts(msgspec.Struct):
    """Handshakes of one listener since it began."""

    done: int = 0
    resumed: int = 0  # of those
    failed: int = 0
    timed_out: int = 0


class ClientCertificate(msgspec.Struct, frozen=True):
    """A client's certificate that the handshake has verified."""

    subject: str  # "CN=alice,O=Example", most specific first
    serial: str  # hexadecimal
    fingerprint: str  # SHA-256 of the certificate, hexadecimal
    der: bytes


def server_context(pem: Path, policy: TlsSpec = USUAL) -> ssl.SSLContext:
    """A context for the certificate and key in `pem`: h2 and http/1.1 by ALPN.

    Raises:
        AtollError: a file cannot be read or does not hold what it should.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if policy.minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Every suite is good, so the client chooses: it knows whether its machine has AES.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        context.load_cert_chain(pem)
    except (OSError, ssl.SSLError) as error:
        raise AtollError(f"no usable certificate: {error}", where=str(pem)) from error
    if policy.clients != "off":
        _ask_for_certificates(context, policy)
    return context


def _ask_for_certificates(context: ssl.SSLContext, policy: TlsSpec) -> None:
    context.verify_mode = ssl.CERT_REQUIRED if policy.clients == "require" else ssl.CERT_OPTIONAL
    # A resumed session would carry an old verdict past a change of authorities: none are given out.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    try:
        context.load_verify_locations(policy.client_ca)
    except (OSError, ssl.SSLError) as error:
        hint = "`client_ca` is a PEM file of the authorities whose clients are believed"
        raise AtollError(f"no usable client authorities: {error}", hint, policy.client_ca) from error


def client_certificate(tls: ssl.SSLObject) -> ClientCertificate | None:
    """Whom the handshake on `tls` has verified; None without a client's certificate."""
    fields = tls.getpeercert()
    der = tls.getpeercert(binary_form=True)
    if not fields or not der:
        return None
    parts = cast(tuple[tuple[tuple[str, str], ...], ...], fields["subject"])
    named = [f"{_SHORT.get(kind, kind)}={value}" for part in parts for kind, value in part]
    subject = ",".join(reversed(named))[:_MAX_SUBJECT]
    return ClientCertificate(subject, str(fields["serialNumber"]).lower(), sha256(der).hexdigest(), der)


_SHORT: Final = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
}


class _Made(msgspec.Struct, frozen=True):
    stamps: tuple[Stamp | None, ...]  # of the certificate's file and the client authorities'
    context: ssl.SSLContext


class CertificateStore:
    """Contexts by server name: `leaves/<name>.pem`, files of `issued`, and `default` when none fits.

    `policies` says what a name's site wants; without it all is usual.
    """

    def __init__(self, leaves: Path, default: str, issued: Path | None = None) -> None:
        self.certificates = Certificates(leaves, issued)
        self._default_file = leaves / f"{default}.pem"
        self._made: dict[tuple[Path, TlsSpec], _Made] = {}
        self._refused: dict[tuple[Path, TlsSpec], tuple[Stamp | None, ...]] = {}
        self._policies: Policies | None = None
        self.default = server_context(self._default_file)
        self.default.sni_callback = self._choose

    def apply(self, policies: Policies | None) -> None:
        """From now on names have these policies; None: all are usual."""
        self._policies = policies

    @property
    def strict(self) -> bool:
        """Whether the name must be known before a handshake begins."""
        return self._policies is not None

    def begin(self, name: str) -> ssl.SSLContext:
        """The context to begin a handshake for `name` on.

        Raises:
            AtollError: what the name's policy needs is not there. Nobody is served on less.
        """
        policy = self._policy(name)
        if policy.usual:
            return self.default
        found = self._context(self.certificates.find(name) or self._default_file, policy)
        if found is None:
            raise AtollError("no context for its policy", where=name)
        return found

    def lookup(self, name: str) -> ssl.SSLContext | None:
        """The usual context for `name`, fresh from disk when its file has changed; None if it has none."""
        path = self.certificates.find(name)
        return self._context(path, USUAL) if path is not None else None

    def _choose(
        self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        """OpenSSL's question in the middle of a handshake; an answer is the alert to fail it with."""
        if name and not self._policy(name).usual:
            return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE  # a hello that `begin` was not asked about
        found = self.lookup(name) if name else None
        tls.context = found or self._context(self._default_file, USUAL) or self.default
        return None

    def _policy(self, name: str) -> TlsSpec:
        name = name.lower().rstrip(".")
        return self._policies(name) if self._policies is not None and valid_name(name) else USUAL

    def _context(self, path: Path, policy: TlsSpec) -> ssl.SSLContext | None:
        """From memory while the files are as they were, and as long as those that replaced them are bad."""
        key = (path, policy)
        stamps = (stamp_of(path), stamp_of(Path(policy.client_ca)) if policy.clients != "off" else None)
        made = self._made.get(key)
        if made is not None and made.stamps == stamps:
            return made.context
        if self._refused.get(key) != stamps:
            try:
                return self._make(key, stamps)
            except AtollError as error:
                self._refused[key] = stamps
                self.certificates.fault(Path(error.where), error.message)
        return made.context if made is not None else None

    def _make(self, key: tuple[Path, TlsSpec], stamps: tuple[Stamp | None, ...]) -> ssl.SSLContext:
        context = server_context(*key)
        if len(self._made) >= _MAX_CONTEXTS:
            self._made.clear()
            self._refused.clear()
        self._made[key] = _Made(stamps, context)
        self._refused.pop(key, None)
        self.certificates.sound(key[0])
        return context
