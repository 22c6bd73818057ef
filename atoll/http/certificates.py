"""Which file holds the certificate for a name (RFC 6125 §6.4): exact, then wildcard, then the default.

Two folders. `leaves` has one `<name>.pem` a name, made by the network's own authority. `issued` has files of
any name, each a private key with the chain that belongs to it, and is asked first: what a public authority
has issued, or an operator imported. Both are looked at as they are now, so what is put there by rename serves
at the next handshake. A file that cannot be read takes nothing out of service: what it said before stays, and
the fault is noted with the file and the reason. Keys are read by OpenSSL alone and never held or shown here.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import re
import time
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509

_log = logging.getLogger("atoll.tls")

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
MAX_FILES: Final = 10_000  # of `issued`: a folder that grows beyond it by mistake costs no more
MAX_FILE: Final = 256 * 1024  # bytes; a chain with its key takes a few thousand
_MAX_FAULTS: Final = 100
_GRAIN_NS: Final = 20_000_000  # file systems count in ticks of the kernel, up to 10 ms

Stamp = tuple[int, int, int]  # of a file: modified (ns), bytes, inode


class Leaf(msgspec.Struct, frozen=True):
    """What a certificate says of itself."""

    names: tuple[str, ...]  # lowercase; `*.example.com` is a wildcard
    not_before: dt.datetime
    not_after: dt.datetime
    issuer: str
    serial: str  # hexadecimal


class _Known(msgspec.Struct, frozen=True):
    stamp: Stamp
    leaf: Leaf


def valid_name(name: str) -> bool:
    """Whether `name` (lowercase) may be that of a file."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def stamp_of(path: Path) -> Stamp | None:
    """What changes when a file is replaced or written to; None when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_leaf(pem: bytes) -> Leaf:
    """The first certificate in `pem`.

    Raises:
        ValueError: there is none, or it names nothing.
    """
    certificate = x509.load_pem_x509_certificates(pem)[0]
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        raise ValueError("it has no subject alternative names") from None
    names = tuple(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))
    return Leaf(
        names=names,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        issuer=certificate.issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
    )


def wildcard_of(name: str) -> str:
    """`*.example.com` for `www.example.com`: a wildcard stands for one label, the leftmost."""
    return f"*.{name.partition('.')[2]}"


class Certificates:
    """Certificate files by the names they are for."""

    def __init__(self, leaves: Path, issued: Path | None = None) -> None:
        self._leaves = leaves
        self._issued = issued
        self._looked: int | None = 0  # the folder's time of change when it was last read
        self._known: dict[Path, _Known] = {}
        self._names: dict[str, Path] = {}
        self.faults: dict[str, str] = {}  # file: why what it holds is not used

    def find(self, name: str) -> Path | None:
        """The file for `name` in any case; None when there is none of its own."""
        name = name.lower().rstrip(".")
        if not valid_name(name):
            return None
        if self._issued is not None:
            self._look(self._issued)
            found = self._names.get(name) or self._names.get(wildcard_of(name))
            if found is not None:
                return found
        leaf = self._leaves / f"{name}.pem"
        return leaf if leaf.exists() else None

    def fault(self, path: Path, reason: str) -> None:
        """What `path` holds now is not used."""
        where = str(path)
        if self.faults.get(where) == reason:
            return
        if len(self.faults) >= _MAX_FAULTS:
            self.faults.clear()
        self.faults[where] = reason
        _log.error("certificate %s is not used, what was there before serves on: %s", where, reason)

    def sound(self, path: Path) -> None:
        """What `path` holds now is used."""
        if self.faults.pop(str(path), None) is not None:
            _log.warning("certificate %s is used again", path)

    def _look(self, folder: Path) -> None:
        """Read the folder again if a file has come or gone: both change its time."""
        try:
            changed = os.stat(folder).st_mtime_ns
        except OSError:
            changed = None
        if changed == self._looked:
            return
        # Two changes within the clock's grain bear one time: only when it has passed is nothing missed.
        settled = changed is None or time.time_ns() - changed > _GRAIN_NS
        self._looked = changed if settled else None
        files = sorted(folder.glob("*.pem"))[:MAX_FILES] if changed is not None else []
        self._known = {path: known for path in files if (known := self._read(path)) is not None}
        for gone in set(self.faults) - set(map(str, files)):
            if Path(gone).parent == folder:
                del self.faults[gone]
        # A name in two files is the one's that lasts longest.
        ordered = sorted(self._known.items(), key=lambda item: item[1].leaf.not_after)
        self._names = {name: path for path, known in ordered for name in known.leaf.names}

    def _read(self, path: Path) -> _Known | None:
        before = self._known.get(path)
        stamp = stamp_of(path)
        if stamp is None or (before is not None and before.stamp == stamp):
            return before if stamp is not None else None
        try:
            return _Known(stamp, read_leaf(read_bounded(path)))
        except (OSError, ValueError) as error:
            self.fault(path, str(error) or type(error).__name__)
            return before


def read_bounded(path: Path) -> bytes:
    """A certificate's file, unless it is too large to be one.

    Raises:
        ValueError: it is.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError(f"larger than {MAX_FILE} bytes")
    return data
