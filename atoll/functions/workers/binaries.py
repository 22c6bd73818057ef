"""Where the pinned `workerd` and `esbuild` binaries are: in the checkout's `node_modules`, or where told.

`ATOLL_WORKERD` and `ATOLL_ESBUILD` name another binary. npm's launchers, which cost a node start, are not
used.
"""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from atoll.errors import AtollError

CHECKOUT: Final = Path(__file__).resolve().parents[3]

_LIBRARY: Final = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x", re.MULTILINE)
_SYSTEMS: Final = {"Linux": "linux", "Darwin": "darwin"}
_WORKERD_MACHINES: Final = {"x86_64": "64", "amd64": "64", "aarch64": "arm64", "arm64": "arm64"}
_ESBUILD_MACHINES: Final = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def workerd_binary(env: Mapping[str, str], root: Path = CHECKOUT) -> Path:
    """workerd.

    Raises:
        AtollError: it is not installed.
    """
    package = f"@cloudflare/workerd-{_platform(_WORKERD_MACHINES)}"
    return _existing(env, "ATOLL_WORKERD", root / "node_modules" / package / "bin/workerd")


def esbuild_binary(env: Mapping[str, str], root: Path = CHECKOUT) -> Path:
    """esbuild.

    Raises:
        AtollError: it is not installed.
    """
    package = f"@esbuild/{_platform(_ESBUILD_MACHINES)}"
    return _existing(env, "ATOLL_ESBUILD", root / "node_modules" / package / "bin/esbuild")


def _platform(machines: Mapping[str, str]) -> str:
    system, machine = platform.system(), platform.machine()
    if system not in _SYSTEMS or machine.lower() not in machines:
        raise AtollError(
            f"functions do not run on {system} {machine}", hint="Linux or macOS, x86-64 or ARM64"
        )
    return f"{_SYSTEMS[system]}-{machines[machine.lower()]}"


def _existing(env: Mapping[str, str], variable: str, installed: Path) -> Path:
    path = Path(env[variable]) if variable in env else installed
    if not path.is_file():
        name = path.name
        raise AtollError(
            f"{name} is not installed", hint=f"run `make setup`, or set {variable}", where=str(path)
        )
    return path


@cache
def shared_libraries(binary: Path) -> tuple[str, ...]:
    """Files that the dynamic linker maps for `binary`, itself among them, and the unwinder it loads later.

    Raises:
        AtollError: the system cannot tell.
    """
    try:
        listing = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        raise AtollError(f"the libraries of {binary.name} cannot be listed: {error}") from error
    paths = _LIBRARY.findall(listing.stdout)
    unwinders = {str(Path(path).parent / "libgcc_s.so.1") for path in paths}
    return (*paths, *sorted(path for path in unwinders if Path(path).exists()))
