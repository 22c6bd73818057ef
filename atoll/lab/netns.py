"""Network namespaces and the links between them, as root or, without any rights, in a user namespace.

A namespace lives as long as the process that holds it, and that one ends when this process does, because it
reads from a pipe of ours: nothing is left, however the lab ends. The first namespace's holder brings the
user namespace along where one is needed; all others are made inside it, which is what lets links cross
between them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from atoll.errors import AtollError

_HOLD: Final = ("sh", "-c", "echo ready; exec cat")
_LIMIT_S: Final = 20.0


class Netns(msgspec.Struct, frozen=True):
    """One namespace: `pid` holds it."""

    name: str
    pid: int
    rootless: bool

    def command(self, *argv: str) -> tuple[str, ...]:
        """`argv` as it is to be started from outside so that it runs in here."""
        user = ("--user", "--preserve-credentials") if self.rootless else ()
        return ("nsenter", f"--target={self.pid}", *user, "--net", "--mount", "--", *argv)


class Cable(msgspec.Struct, frozen=True):
    """A link between two namespaces; each end's device is named after the other side."""

    left: str
    right: str
    left_addresses: tuple[str, ...]
    right_addresses: tuple[str, ...]


class Netlab:
    """Namespaces that end together."""

    def __init__(self) -> None:
        self._rootless = os.geteuid() != 0
        self._holders: list[subprocess.Popen[str]] = []
        self._spaces: dict[str, Netns] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getitem__(self, name: str) -> Netns:
        return self._spaces[name]

    def add(self, name: str) -> Netns:
        """A namespace with nothing but loopback, up.

        Raises:
            AtollError: the kernel, or a sandbox around this process, gives none.
        """
        first = next(iter(self._spaces.values()), None)
        user = ("--user", "--map-root-user") if self._rootless and first is None else ()
        argv = ("unshare", *user, "--net", "--mount", "--kill-child", "--fork", *_HOLD)
        if self._rootless and first is not None:
            argv = first.command(*argv)
        try:
            holder = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True
            )
        except FileNotFoundError as error:
            raise AtollError(f"{error.filename} is missing", hint="it is part of util-linux") from error
        self._holders.append(holder)
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != "ready\n":
            said = holder.stderr.read().strip()
            raise AtollError(
                f"no network namespace to be had: {said}",
                hint="run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)",
            )
        made = Netns(name, _innermost(holder.pid), self._rootless)
        self._spaces[name] = made
        self.run(name, "ip", "link", "set", "lo", "up")
        return made

    def link(
        self, left: str, right: str, left_addresses: Sequence[str], right_addresses: Sequence[str]
    ) -> None:
        """A cable. Each end is a device named after the other side, with addresses such as 10.0.0.1/30."""
        self.wire([Cable(left, right, tuple(left_addresses), tuple(right_addresses))])

    def wire(self, cables: Iterable[Cable]) -> None:
        """Many cables at once: two commands for each namespace, not ten for each cable.

        Raises:
            AtollError: a name is too long for a device, or an address is no address.
        """
        made: list[str] = []
        ends: dict[str, list[str]] = {}
        for cable in cables:
            left, right = self[cable.left], self[cable.right]
            made.append(
                f"link add name {cable.right} netns {left.pid} type veth "
                f"peer name {cable.left} netns {right.pid}"
            )
            for name, device, addresses in (
                (cable.left, cable.right, cable.left_addresses),
                (cable.right, cable.left, cable.right_addresses),
            ):
                mine = ends.setdefault(name, [])
                for address in addresses:
                    mine.append(f"address add {address} dev {device}{' nodad' if ':' in address else ''}")
                mine.append(f"link set dev {device} up")
        if made:
            self.batch(next(iter(self._spaces)), made)
        for name, lines in ends.items():
            self.batch(name, lines)

    def batch(self, name: str, lines: Iterable[str]) -> None:
        """Commands for `ip`, all in one process.

        Raises:
            AtollError: one of them fails.
        """
        self.run(name, "ip", "-batch", "-", text="\n".join(lines))

    def run(self, name: str, *argv: str, text: str = "") -> str:
        """What a command prints in there, given `text` to read.

        Raises:
            AtollError: it fails.
        """
        done = subprocess.run(
            self[name].command(*argv),
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_S,
        )
        if done.returncode:
            raise AtollError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}", where=name)
        return done.stdout

    def start(self, name: str, *argv: str, **options: object) -> subprocess.Popen[bytes]:
        """A process in there; the caller ends it, or `close` does with the namespace's."""
        return subprocess.Popen(self[name].command(*argv), **options)  # type: ignore[call-overload, no-any-return]

    def close(self) -> None:
        """End every namespace. Processes in them are the caller's to end."""
        for holder in reversed(self._holders):
            holder.kill()
            holder.wait()
            for stream in (holder.stdin, holder.stdout, holder.stderr):
                if stream is not None:
                    stream.close()
        self._holders.clear()
        self._spaces.clear()


def _innermost(pid: int) -> int:
    """The last of a line of only children: `nsenter` and `unshare --fork` put themselves in between."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return _innermost(int(children[0])) if children else pid
