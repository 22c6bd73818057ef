"""Finds routers, load generators and peers: on PATH, or taken from Debian's archive without being root.

`apt-get download` needs no rights; packages are unpacked with `dpkg -x` into a cache folder, together with
those libraries they need that the machine lacks. Nothing is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from atoll.errors import AtollError

PACKAGES: Final = {
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "nginx": "nginx",
    "varnishd": "varnish",
    "varnishncsa": "varnish",
    "traffic_server": "trafficserver",
    "haproxy": "haproxy",
    "bird": "bird2",
    "birdc": "bird2",
    "zebra": "frr",
    "bfdd": "frr",
    "bgpd": "frr",
    "vtysh": "frr",
}
_FOLDERS: Final = ("usr/bin", "usr/sbin", "usr/lib/frr")
_DEPENDS: Final = re.compile(r"^\s*\|?Depends: (?P<name>lib[a-z0-9.+-]+)", re.MULTILINE)
_LIBC: Final = re.compile(r"lib(c6|gcc-s1|stdc\+\+6|crypt1)\Z")  # of the machine itself, always
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Say = Callable[[str], None]


class Tool(msgspec.Struct, frozen=True):
    """A program, and what its environment needs."""

    path: Path
    env: Mapping[str, str] = {}
    root: Path | None = None  # where its package was unpacked; None when it is installed

    def version(self, *arguments: str) -> str:
        """The first line of what it says when asked for its version."""
        done = subprocess.run(
            [str(self.path), *arguments],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            check=False,
        )
        return (done.stdout + done.stderr).strip().splitlines()[0]


def cache_folder(env: Mapping[str, str]) -> Path:
    """Where tools that were fetched stay."""
    base = env.get("XDG_CACHE_HOME") or str(Path(env.get("HOME", "/root")) / ".cache")
    return Path(base) / "atoll/tools"


def find_tools(names: Iterable[str], cache: Path, say: Say, path: str | None = None) -> dict[str, Tool]:
    """Every tool of `names`, fetched if need be; `path` replaces PATH.

    Raises:
        AtollError: one is missing and cannot be fetched here.
    """
    search = path if path is not None else f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"
    return {name: _find(name, search) or _fetched(name, cache) or _fetch(name, cache, say) for name in names}


def _find(name: str, path: str) -> Tool | None:
    found = shutil.which(name, path=path)
    return Tool(Path(found)) if found else None


def _fetched(name: str, cache: Path) -> Tool | None:
    for folder in _FOLDERS:
        program = cache / "root" / folder / name
        if program.is_file():
            root = cache / "root"
            return Tool(program, {"LD_LIBRARY_PATH": _library_path(root)}, root)
    return None


def _library_path(root: Path) -> str:
    folders = {str(library.parent) for library in root.glob("**/*.so*")}
    return ":".join(sorted(folders))


def _fetch(name: str, cache: Path, say: Say) -> Tool:
    package = PACKAGES[name]
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise AtollError(
            f"{name} is missing", hint=f"install it (Debian's package is {package}) so that it is on PATH"
        )
    say(f"fetching {name} (Debian's package {package})")
    cache.mkdir(parents=True, exist_ok=True)
    apt = _Apt(cache)
    for each in (package, *apt.missing_libraries(package)):
        apt.unpack(each, cache / "root")
    found = _fetched(name, cache)
    if found is None:
        raise AtollError(f"the package {package} has no {name}", hint=f"put {name} on PATH")
    return found


class _Apt:
    """Debian's archive, used by an ordinary user."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._options: tuple[str, ...] = ()

    def unpack(self, package: str, root: Path) -> None:
        """Download one package and unpack it below `root`."""
        folder = self._cache / "debs"
        folder.mkdir(exist_ok=True)
        before = set(folder.glob("*.deb"))
        if self._run("apt-get", "download", package, cwd=folder) is None:
            self._renew()
            if self._run("apt-get", "download", package, cwd=folder) is None:
                raise AtollError(
                    f"the package {package} cannot be downloaded", hint=f"apt-get install {package}"
                )
        for deb in set(folder.glob("*.deb")) - before or folder.glob(f"{package}_*.deb"):
            subprocess.run(["dpkg", "-x", str(deb), str(root)], check=True)

    def missing_libraries(self, package: str) -> list[str]:
        """The libraries that a package needs, directly or not, and that this machine lacks."""
        if self._run("apt-cache", "show", package) is None:
            self._renew()
        found: list[str] = []
        waiting = [package]
        while waiting:
            listing = self._run("apt-cache", "depends", waiting.pop()) or ""
            for name in _DEPENDS.findall(listing):
                if name not in found and not _LIBC.match(name) and not self._installed(name):
                    found.append(name)
                    waiting.append(name)
        return found

    def _installed(self, package: str) -> bool:
        status = self._run("dpkg-query", "-W", "-f=${db:Status-Status}", package)
        return status == "installed"

    def _renew(self) -> None:
        """Package lists of our own: those of the machine are missing or old, and only root may renew them."""
        lists = self._cache / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        self._options = ("-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={self._cache / 'apt'}")
        (self._cache / "apt/archives/partial").mkdir(parents=True, exist_ok=True)
        self._run("apt-get", "update")

    def _run(self, program: str, *arguments: str, cwd: Path | None = None) -> str | None:
        """What a program prints; None when it fails."""
        options = self._options if program.startswith("apt") else ()
        done = subprocess.run(
            [program, *options, *arguments], cwd=cwd, capture_output=True, text=True, check=False
        )
        return done.stdout if done.returncode == 0 else None
