"""A function's bundle: its manifest and its files as one value with one name, the SHA-256 of its bytes.

The same files give the same bytes on every machine: names are sorted, no times, no owners, no paths of the
machine that packed them. A bundle comes from a person's machine over the network, so reading one trusts
nothing: its size, the number and the names of its files are checked before anything is written.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from atoll.config.spec import BundleManifest
from atoll.errors import AtollError

MAX_BUNDLE: Final = 10 * 1024 * 1024
MAX_FILES: Final = 1000
MANIFEST_FILE: Final = "manifest.json"

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_@+\-][A-Za-z0-9_@+.\-]{0,199}\Z")


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """What is deployed. File names are plain: a bundle has no folders."""

    v: int = 1
    manifest: BundleManifest
    files: dict[str, bytes]


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(Bundle)


def pack(manifest: BundleManifest, files: Mapping[str, bytes]) -> bytes:
    """The bytes of a bundle; `manifest.files` is made to say what is in it.

    Raises:
        AtollError: too large, or a file's name cannot be in a bundle.
    """
    manifest = msgspec.structs.replace(manifest, files=tuple(sorted(files)))
    data = _encoder.encode(Bundle(manifest=manifest, files=dict(files)))
    read(data)
    return data


def digest(data: bytes) -> str:
    """A bundle's name: the SHA-256 of its bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def read(data: bytes) -> Bundle:
    """The bundle in `data`.

    Raises:
        AtollError: too large, not a bundle, or not one that may be unpacked.
    """
    if len(data) > MAX_BUNDLE:
        size = f"{len(data) / 1048576:.1f} MiB"
        raise AtollError(f"the bundle has {size}", hint=f"at most {MAX_BUNDLE // 1048576} MiB are deployed")
    try:
        bundle = _decoder.decode(data)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise AtollError(f"this is no bundle: {error}") from error
    _check(bundle)
    return bundle


def read_manifest(data: bytes) -> BundleManifest:
    """What the bundle in `data` says of itself.

    Raises:
        AtollError: see `read`.
    """
    return read(data).manifest


def unpack(data: bytes, directory: Path) -> BundleManifest:
    """Write the bundle's files and `manifest.json` into `directory`, which is made, and flush all of it.

    Raises:
        AtollError: see `read`.
        OSError: it cannot be written.
    """
    bundle = read(data)
    directory.mkdir(parents=True)
    for name, content in bundle.files.items():
        _write(directory / name, content)
    _write(directory / MANIFEST_FILE, msgspec.json.encode(bundle.manifest))
    flush_names(directory)
    return bundle.manifest


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def flush_names(directory: Path) -> None:
    """Have the names in a directory on the disk, as those that were made or renamed.

    Raises:
        OSError: it cannot be done.
    """
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def unpacked_digest(directory: Path) -> str:
    """The name of the bundle that an unpacked one would be: another than its own when it is damaged.

    Raises:
        AtollError: it is too damaged to be one.
        OSError: a file of it is missing, or cannot be read.
    """
    manifest = load_manifest(directory)
    return digest(pack(manifest, {name: (directory / name).read_bytes() for name in manifest.files}))


def load_manifest(directory: Path) -> BundleManifest:
    """The manifest of an unpacked bundle.

    Raises:
        AtollError: there is none, or it is damaged.
    """
    path = directory / MANIFEST_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=BundleManifest)
    except (OSError, msgspec.ValidationError, msgspec.DecodeError) as error:
        raise AtollError(f"no manifest of a bundle: {error}", where=str(path)) from error


def _check(bundle: Bundle) -> None:
    if len(bundle.files) > MAX_FILES:
        raise AtollError(
            f"the bundle has {len(bundle.files)} files", hint=f"at most {MAX_FILES} are deployed"
        )
    for name in bundle.files:
        if not _FILE_NAME.match(name) or name == MANIFEST_FILE:
            raise AtollError(
                f"a bundle has no file {name!r}", hint="plain names only, no folders", where=name
            )
    if bundle.manifest.files != tuple(sorted(bundle.files)):
        raise AtollError("the bundle's manifest names other files than are in it")
    if bundle.manifest.main not in bundle.files:
        raise AtollError("the bundle lacks its main script", where=bundle.manifest.main)
