"""What a PoP keeps so that it can start with no control plane: specs, bundles, and the snapshot it serves.

Files appear by rename and are flushed before: after a crash there is the old one or the new one.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import TypeVar

import msgspec

from atoll.config.spec import NetworkSpec, Snapshot
from atoll.control.specs import Specs
from atoll.errors import AtollError
from atoll.functions.workers import bundle

_log = logging.getLogger("atoll.agent")
_Value = TypeVar("_Value", Specs, Snapshot)


class PopDisk:
    """A PoP's data folder: `specs.msgpack`, `snapshot.msgpack`, `bundles/<sha256>/`."""

    def __init__(self, folder: Path) -> None:
        self._specs = folder / "specs.msgpack"
        self._snapshot = folder / "snapshot.msgpack"
        self._bundles = folder / "bundles"
        self._bundles.mkdir(parents=True, exist_ok=True)

    def load_specs(self) -> Specs | None:
        """The last specs seen; None when there are none, or they cannot be read."""
        return _load(self._specs, Specs)

    def save_specs(self, specs: Specs) -> None:
        """Remember the specs."""
        _write(self._specs, msgspec.msgpack.encode(specs))

    def load_snapshot(self) -> Snapshot | None:
        """The snapshot that edge workers start from."""
        return _load(self._snapshot, Snapshot)

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """What edge workers start from, from now on."""
        _write(self._snapshot, msgspec.msgpack.encode(snapshot))

    def bundle_dir(self, digest: str) -> Path:
        """Where the bundle is, or will be, unpacked."""
        return self._bundles / digest

    def has_bundle(self, digest: str) -> bool:
        """Whether the bundle is unpacked."""
        return self.bundle_dir(digest).is_dir()

    def is_damaged(self, digest: str) -> bool:
        """Whether what is unpacked is no more what its name says."""
        try:
            return bundle.unpacked_digest(self.bundle_dir(digest)) != digest
        except (AtollError, OSError):
            return True

    def save_bundle(self, digest: str, data: bytes) -> None:
        """Unpack a bundle, in the place of one that is damaged.

        Raises:
            AtollError: it is not one, or does not fit.
        """
        partial = self._bundles / f".{digest}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            bundle.unpack(data, partial)
            shutil.rmtree(self.bundle_dir(digest), ignore_errors=True)
            partial.rename(self.bundle_dir(digest))
            bundle.flush_names(self._bundles)
        except OSError as error:
            raise AtollError(f"the bundle cannot be unpacked: {error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def forget_bundles(self, keep: set[str]) -> None:
        """Remove every bundle but these."""
        for folder in self._bundles.iterdir():
            if folder.name not in keep and not folder.name.startswith("."):
                shutil.rmtree(folder, ignore_errors=True)


def load_network(path: Path) -> NetworkSpec | None:
    """The network as `atoll up` wrote it: all a PoP has before it has ever heard of a store."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=NetworkSpec)
    except OSError:
        return None
    except msgspec.MsgspecError as error:
        _log.error("%s is no network: %s", path, error)
        return None


def _load(path: Path, kind: type[_Value]) -> _Value | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=kind)
    except OSError:
        return None
    except msgspec.MsgspecError as error:
        _log.error("%s cannot be read: %s; starting without it", path, error)
        return None


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.unlink(missing_ok=True)
    private = os.O_WRONLY | os.O_CREAT | os.O_EXCL  # routes' rules have secrets in them
    with os.fdopen(os.open(temporary, private, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fdatasync(file.fileno())
    temporary.replace(path)
