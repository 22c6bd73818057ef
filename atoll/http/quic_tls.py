"""What a QUIC handshake needs of TLS 1.3: the certificate for the name in the hello, tickets to resume by.

Certificates come from the files that TCP's listeners use; QUIC has no library here that takes OpenSSL's
contexts, so keys are parsed once a file and stay in memory. Tickets are kept where they were made and are
good once: what was sent early in a resumed connection cannot be replayed to this process, and no other one
knows the ticket (RFC 8446 §8.1). They end with the process.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import msgspec
from aioquic import tls
from aioquic._buffer import Buffer
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from atoll.errors import AtollError
from atoll.http.certificates import Certificates, Stamp, read_bounded, stamp_of
from atoll.http.client_hello import hello_name

_KEY: Final = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----.+?-----END (?:[A-Z]+ )?PRIVATE KEY-----", re.S
)
_CHAIN: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.S)
_KEYS: Final = (
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
)
_MAX_LEAVES: Final = 4096
MAX_TICKETS: Final = 10_000  # each takes about 1 KB


class QuicLeaf(msgspec.Struct, frozen=True):
    """A certificate with what belongs to it."""

    chain: list[x509.Certificate]  # its own first
    key: object


class QuicLeaves:
    """Certificates by server name, fresh from disk when their files change."""

    def __init__(self, certificates: Certificates, default: Path) -> None:
        self._certificates = certificates
        self._default_file = default
        self._read: dict[Path, tuple[Stamp | None, QuicLeaf]] = {}
        self._refused: dict[Path, Stamp | None] = {}
        self.default = read_quic_leaf(default)

    def find(self, name: str) -> QuicLeaf:
        """The certificate for `name`, or the default."""
        path = self._certificates.find(name) if name else None
        found = self._current(path) if path is not None else None
        return found or self._current(self._default_file) or self.default

    def _current(self, path: Path) -> QuicLeaf | None:
        stamp = stamp_of(path)
        known = self._read.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        if stamp is not None and self._refused.get(path) != stamp:
            try:
                return self._take(path, stamp)
            except AtollError as error:
                self._refused[path] = stamp
                self._certificates.fault(path, error.message)
        return known[1] if known is not None else None

    def _take(self, path: Path, stamp: Stamp) -> QuicLeaf:
        leaf = read_quic_leaf(path)
        if len(self._read) >= _MAX_LEAVES:
            self._read.clear()
            self._refused.clear()
        self._read[path] = (stamp, leaf)
        self._refused.pop(path, None)
        self._certificates.sound(path)
        return leaf


def read_quic_leaf(path: Path) -> QuicLeaf:
    """The key and the chain in a PEM file, in either order.

    Raises:
        AtollError: it cannot be read, or its parts do not belong together.
    """
    try:
        data = read_bounded(path)
        found = _KEY.search(data)
        if found is None:
            raise ValueError("it has no private key")
        key = load_pem_private_key(found.group(), password=None)
        chain = [x509.load_pem_x509_certificate(pem) for pem in _CHAIN.findall(data)]
    except (OSError, ValueError, TypeError) as error:
        raise AtollError(f"no usable certificate: {error}", where=str(path)) from error
    if not chain or not isinstance(key, _KEYS):
        raise AtollError("no usable certificate: a key and a certificate are needed", where=str(path))
    if chain[0].public_key() != key.public_key():
        raise AtollError("no usable certificate: its key is another one's", where=str(path))
    return QuicLeaf(chain, key)


class Tickets:
    """Sessions that may be resumed, the oldest forgotten first."""

    def __init__(self, most: int = MAX_TICKETS) -> None:
        self._most = most
        self._kept: OrderedDict[bytes, tuple[str, tls.SessionTicket]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, name: str, ticket: tls.SessionTicket) -> None:
        """Remember a session of `name`."""
        while len(self._kept) >= self._most:
            self._kept.popitem(last=False)
        self._kept[ticket.ticket] = (name, ticket)

    def take(self, name: str, identity: bytes) -> tls.SessionTicket | None:
        """The session, once, and for the name alone that it was made for."""
        found = self._kept.pop(identity, None)
        return found[1] if found is not None and found[0] == name else None


class ServerTls(tls.Context):
    """A handshake whose certificate is chosen when its hello has been read."""

    on_name: Callable[[str], QuicLeaf]

    def _server_handle_hello(self, input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer) -> None:
        hello = input_buf.data_slice(4, input_buf.capacity)  # behind the message's own header
        leaf = self.on_name(hello_name(hello))
        self.certificate = leaf.chain[0]
        self.certificate_chain = leaf.chain[1:]
        self.certificate_private_key = cast("rsa.RSAPrivateKey", leaf.key)
        super()._server_handle_hello(input_buf, initial_buf, handshake_buf)
