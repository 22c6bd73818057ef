"""Where addresses are, from databases in MaxMind's format, which are read again when they change.

Records are read as MaxMind writes them (`country.iso_code`, `autonomous_system_number`), and as others do who
put text where it is looked for (`country_code`, `asn` as `AS64500`). A file that has become unreadable leaves
the one there is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Final

import maxminddb
from maxminddb.reader import Reader

from atoll.config.geo import GeoDatabaseSpec
from atoll.edge.geo import Found
from atoll.errors import AtollError

_PIECE: Final = 1024 * 1024  # bytes
_HINT: Final = "a database in MaxMind's format (.mmdb), on each PoP's machine"
_log = logging.getLogger("atoll.edge.geo")


class GeoDatabase:
    """The databases of a spec.

    Raises:
        AtollError: a file cannot be opened.
    """

    def __init__(self, spec: GeoDatabaseSpec) -> None:
        self.spec = spec
        self._files = [_File(Path(path)) for path in dict.fromkeys((spec.country, spec.asn)) if path]
        self._look_s = monotonic() + spec.reload_s

    def find(self, address: str) -> Found | None:
        """What the files know of `address`; None when it is none, or in none of them."""
        now_s = monotonic()
        if now_s >= self._look_s:
            self._look_s = now_s + self.spec.reload_s
            for file in self._files:
                file.renew()
        records = [record for file in self._files if (record := file.get(address)) is not None]
        return _merged(records) if records else None

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            file.reader.close()


class _File:
    """One database and the file it was opened from."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._state = _state(path)
            self.reader: Reader = _opened(path)
        except (OSError, maxminddb.InvalidDatabaseError) as error:
            raise AtollError(f"it cannot be opened: {error}", _HINT, str(path)) from None

    def get(self, address: str) -> Mapping[str, object] | None:
        """The record that holds `address`."""
        try:
            record = self.reader.get(address)
        except (ValueError, maxminddb.InvalidDatabaseError):  # no address, or none of this file's version
            return None
        return record if isinstance(record, dict) else None

    def renew(self) -> None:
        """Open it again if it has changed."""
        try:
            state = _state(self._path)
            if state == self._state:
                return
            reader = _opened(self._path)
        except (OSError, maxminddb.InvalidDatabaseError) as error:
            _log.warning("%s stays as it was opened: %s", self._path, error)
            return
        self._state = state
        self.reader.close()
        self.reader = reader


def _opened(path: Path) -> Reader:
    """A reader of a copy in memory: were the file itself mapped and cut short, the worker would end."""
    memory = os.memfd_create(path.name, os.MFD_CLOEXEC)
    try:
        with path.open("rb") as file:
            while data := file.read(_PIECE):
                os.write(memory, data)
        reader: Reader = maxminddb.open_database(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
    return reader


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _merged(records: list[Mapping[str, object]]) -> Found:
    country = continent = city = ""
    asn = 0
    lat: float | None = None
    lon: float | None = None
    for record in records:
        country = country or _text(record, "country", "iso_code") or _text(record, "country_code")
        continent = continent or _text(record, "continent", "code") or _text(record, "continent_code")
        city = city or _text(record, "city", "names", "en") or _text(record, "city")
        asn = asn or _asn(record.get("autonomous_system_number", record.get("asn")))
        location = record.get("location")
        if isinstance(location, dict) and lat is None:
            lat, lon = _number(location.get("latitude")), _number(location.get("longitude"))
    return Found(country.upper(), continent.upper(), city, asn, lat, lon)


def _text(value: object, *path: str) -> str:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _asn(value: object) -> int:
    if isinstance(value, str):
        digits = value.upper().removeprefix("AS")
        return int(digits) if digits.isdigit() else 0
    return value if isinstance(value, int) else 0


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
