"""Which code this is: the version, and a digest of the source, which also differs between two checkouts.

A process says it as of its start: what is on disk may be newer by then.
"""

from __future__ import annotations

import compileall
from hashlib import blake2b
from pathlib import Path
from typing import Final

import atoll

_DIGEST_BYTES: Final = 4


def compile_ahead(folder: Path | None = None) -> None:
    """Compile the package, as far as that is to be done; where it may not be written it stays as it is.

    A process that takes the place of a dead one starts in half the time then, wherever the system or the
    user has Python write no bytecode by itself.
    """
    compileall.compile_dir(folder or Path(atoll.__file__).parent, quiet=2)


def code_version(folder: Path | None = None) -> str:
    """`0.1.0+1a2b3c4d` of the package on disk now; some ten milliseconds of work."""
    root = folder or Path(atoll.__file__).parent
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0")
        digest.update(path.read_bytes())
    return f"{atoll.__version__}+{digest.hexdigest()}"
