"""Certificates that others have issued: a PEM file each for the edge, and a record of where it came from.

`certificates/<id>.pem` holds key and chain, readable by its owner alone, and appears by rename: every edge
worker serves it at its next handshake. `acme/records/<id>.json` says how to get the next one. Whoever keeps
certificates elsewhere one day writes the same two files on each PoP.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from atoll.config.paths import Paths
from atoll.errors import AtollError
from atoll.http.certificates import MAX_FILE, read_leaf, valid_name

MAX_NAMES: Final = 100  # what public authorities take in one certificate
_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,200}")
_KEY: Final = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----.+?-----END (?:[A-Z]+ )?PRIVATE KEY-----", re.S
)
_CHAIN: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.S)
_LOCK_WAIT_S: Final = 10.0
_LOCK_LOOK_S: Final = 0.1

Source = Literal["acme", "imported"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate as it is, and how to get the next one. Times are seconds since the epoch."""

    id: str
    names: tuple[str, ...]
    source: Source
    issuer: str = ""
    serial: str = ""
    not_before_s: float = 0.0
    not_after_s: float = 0.0
    directory: str = ""  # of the ACME server
    ca: str = ""  # PEM file that the ACME server's own certificate is verified with; "": the usual ones
    email: str = ""
    renew_s: float = 0.0  # when it is due
    look_s: float = 0.0  # when to ask the authority what it suggests
    failures: int = 0  # in a row
    retry_s: float = 0.0  # not before
    trouble: str = ""  # of the last try


class CertificateStore:
    """The files of one network."""

    def __init__(self, paths: Paths) -> None:
        self.folder = paths.certificates
        self.acme = paths.acme
        self.challenges = paths.acme / "challenges"
        self._records = paths.acme / "records"

    def records(self) -> tuple[Record, ...]:
        """All of them, by id.

        Raises:
            AtollError: one cannot be read.
        """
        found, troubles = self.readable()
        if troubles:
            raise troubles[0]
        return found

    def readable(self) -> tuple[tuple[Record, ...], tuple[AtollError, ...]]:
        """All that can be read, by id, and what is wrong with the others."""
        found: list[Record] = []
        troubles: list[AtollError] = []
        for path in sorted(self._records.glob("*.json")):
            try:
                record = self._read(path)
            except AtollError as error:
                troubles.append(error)
            else:
                found += [record] if record is not None else []
        return tuple(found), tuple(troubles)

    def get(self, id: str) -> Record:
        """The record of that id.

        Raises:
            AtollError: there is none.
        """
        record = self._read(self._record_file(id))
        if record is None:
            raise AtollError(f"no certificate {id!r}", hint="`atoll certs list` shows those there are")
        return record

    def keep(self, record: Record) -> None:
        """Write a record."""
        self._records.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(self._record_file(record.id), msgspec.json.format(msgspec.json.encode(record)))

    def pem(self, id: str) -> bytes:
        """Key and chain.

        Raises:
            AtollError: they are not there.
        """
        try:
            return self._pem_file(id).read_bytes()
        except OSError as error:
            where = str(self._pem_file(id))
            raise AtollError(f"the certificate cannot be read: {error.strerror}", where=where) from error

    def put(self, record: Record, pem: bytes) -> Record:
        """Have the edge serve `pem`, and keep its record with what the certificate says of itself.

        Raises:
            AtollError: it is no certificate with its key.
        """
        pem = checked(pem, record.id)
        leaf = read_leaf(pem)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(self._pem_file(record.id), pem)
        record = msgspec.structs.replace(
            record,
            names=leaf.names,
            issuer=leaf.issuer,
            serial=leaf.serial,
            not_before_s=leaf.not_before.timestamp(),
            not_after_s=leaf.not_after.timestamp(),
        )
        self.keep(record)
        return record

    def remove(self, id: str) -> None:
        """Serve it no more and forget it.

        Raises:
            AtollError: there is none.
        """
        self.get(id)
        self._pem_file(id).unlink(missing_ok=True)
        self._record_file(id).unlink(missing_ok=True)

    def _read(self, path: Path) -> Record | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise AtollError(f"a record cannot be read: {error}", "remove it", str(path)) from error

    def _record_file(self, id: str) -> Path:
        return self._records / f"{_valid_id(id)}.json"

    def _pem_file(self, id: str) -> Path:
        return self.folder / f"{_valid_id(id)}.pem"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the authority: orders of two processes would take each other's place.

        Raises:
            AtollError: somebody else is.
        """
        self.acme.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.acme / "lock").open("w") as file:
            deadline_s = time.monotonic() + _LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline_s:
                        raise AtollError("another certificate is being ordered", "try again") from None
                    time.sleep(_LOCK_LOOK_S)
            yield


def id_of(names: tuple[str, ...]) -> str:
    """A certificate's id: its first name, as a file may be called."""
    return names[0].replace("*", "wildcard")


def _valid_id(id: str) -> str:
    if not _ID.fullmatch(id):
        raise AtollError(f"no certificate {id!r}", hint="an id is a name, as `atoll certs list` shows it")
    return id


def checked(pem: bytes, where: str) -> bytes:
    """`pem` in the order in which it is kept, key first.

    Raises:
        AtollError: no key, no certificate, one that names nothing, or two that do not belong together.
    """
    hint = "a PEM file with a private key without a passphrase, the certificate and its chain"
    keys, chain = _KEY.findall(pem), _CHAIN.findall(pem)
    try:
        if len(pem) > MAX_FILE or len(keys) != 1 or not chain:
            raise ValueError(f"{len(keys)} keys and {len(chain)} certificates")
        key = load_pem_private_key(keys[0], password=None)
        certificate = x509.load_pem_x509_certificate(chain[0])
        if certificate.public_key() != key.public_key():
            raise ValueError("the key is another certificate's")
        if not read_leaf(chain[0]).names:
            raise ValueError("it is for no DNS name")
    except (ValueError, TypeError) as error:
        raise AtollError(f"not a certificate with its key: {error}", hint, where) from error
    encoded = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return encoded + b"\n".join(chain) + b"\n"


def valid_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names in lowercase, each once, in their order.

    Raises:
        AtollError: one is none that http-01 can prove.
    """
    wanted = tuple(dict.fromkeys(name.lower().rstrip(".") for name in names))
    for name in wanted:
        if name.startswith("*."):
            hint = "a wildcard takes a DNS challenge; order it elsewhere and `atoll certs import` it"
            raise AtollError(f"{name} cannot be proven over HTTP", hint)
        if not valid_name(name) or "." not in name or name.replace(".", "").isdigit():
            raise AtollError(f"{name!r} is no DNS name")
    if not 0 < len(wanted) <= MAX_NAMES:
        raise AtollError(f"{len(wanted)} names", hint=f"a certificate has 1 to {MAX_NAMES}")
    return wanted


def write_private(path: Path, data: bytes) -> None:
    """Write by rename; only the owner may read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
