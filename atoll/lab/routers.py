"""Real routers in a lab's namespaces: BIRD, and FRR's daemons.

Each keeps its configuration, control socket and log in a folder of its own and is ended by its owner. FRR as
Debian builds it insists on a group `frrvty`; the namespace has its own mounts, so it is given one there.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from atoll.anycast import bird_control
from atoll.errors import AtollError
from atoll.lab.netns import Netlab
from atoll.lab.tools import Tool

START_S: Final = 10.0
STOP_S: Final = 5.0
FRR_GROUPS: Final = "frrvty:x:9998:root\nfrr:x:9999:root\n"

_POLL_S: Final = 0.01


class Daemon:
    """A process in a namespace."""

    def __init__(self, lab: Netlab, space: str, tool: Tool, arguments: tuple[str, ...], log: Path) -> None:
        with log.open("ab") as sink:
            self.process = lab.start(
                space,
                str(tool.path),
                *arguments,
                env={**os.environ, **tool.env},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
        self._log = log

    def until(self, path: Path) -> None:
        """Wait for a socket that it makes when it is ready.

        Raises:
            AtollError: it ended, or took too long.
        """
        until_s = monotonic() + START_S
        while not path.exists():
            if self.process.poll() is not None or monotonic() > until_s:
                said = self._log.read_text(errors="replace").strip().splitlines()[-3:]
                raise AtollError(f"it did not start: {' / '.join(said)}", where=str(self._log))
            sleep(_POLL_S)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; SIGSTOP is a machine that falls silent."""
        self.process.send_signal(number)

    def stop(self) -> None:
        """End it, in order if it is quick about it."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Bird:
    """BIRD in a namespace."""

    def __init__(self, lab: Netlab, space: str, folder: Path, tools: Mapping[str, Tool], config: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.control = folder / "bird.ctl"
        self.config = folder / "bird.conf"
        self.config.write_text(config)
        self._lab, self._space, self._tool = lab, space, tools["bird"]
        self._daemon = self._start()

    async def ask(self, command: str) -> tuple[str, ...]:
        """What it answers, a string a line."""
        return tuple(line.text for line in await bird_control.ask(self.control, command))

    @property
    def pid(self) -> int:
        """Its process."""
        return self._daemon.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._daemon.signal(number)

    def restart(self) -> None:
        """Start it again after it was killed."""
        self._daemon.stop()
        self.control.unlink(missing_ok=True)
        self._daemon = self._start()

    def stop(self) -> None:
        """End it."""
        self._daemon.stop()

    def _start(self) -> Daemon:
        folder = self.control.parent
        arguments = ("-f", "-c", str(self.config), "-s", str(self.control), "-P", str(folder / "bird.pid"))
        daemon = Daemon(self._lab, self._space, self._tool, arguments, folder / "bird.log")
        daemon.until(self.control)
        return daemon


class Frr:
    """FRR's `zebra` and other daemons in a namespace. `configs`: what each is told at its start, by name."""

    def __init__(
        self, lab: Netlab, space: str, folder: Path, tools: Mapping[str, Tool], configs: Mapping[str, str]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._daemons: dict[str, Daemon] = {}
        _give_groups(lab, space, folder)
        for name in ("zebra", *configs):
            config = folder / f"{name}.conf"
            config.write_text(configs.get(name, ""))
            own = {"bfdd": ("--bfdctl", str(folder / "bfdd.sock"))}
            daemon = Daemon(lab, space, tools[name], (
                "-u", "root", "-g", "root", "-f", str(config), "-i", str(folder / f"{name}.pid"),
                "--vty_socket", str(folder), "-z", str(folder / "zserv.api"), "-A", "127.0.0.1",
                "--log", "stdout", *own.get(name, ()),
            ), folder / f"{name}.log")  # fmt: skip
            self._daemons[name] = daemon
            daemon.until(folder / f"{name}.vty")

    def ask(self, daemon: str, command: str) -> str:
        """What a daemon's terminal answers to one command, as `vtysh` asks it: zero bytes end both."""
        with socket.socket(socket.AF_UNIX) as vty:
            vty.settimeout(START_S)
            vty.connect(str(self._folder / f"{daemon}.vty"))
            for line in ("enable", command):
                vty.sendall(line.encode() + b"\0")
                answer = b""
                while answer[-4:-1] != b"\0\0\0":  # and one byte that is the status
                    answer += vty.recv(1 << 16)
        return answer[:-4].decode()

    def signal(self, daemon: str, number: signal.Signals) -> None:
        """Send one of them a signal."""
        self._daemons[daemon].signal(number)

    def stop(self) -> None:
        """End them, `zebra` last."""
        for daemon in reversed(self._daemons.values()):
            daemon.stop()


def _give_groups(lab: Netlab, space: str, folder: Path) -> None:
    known = Path("/etc/group").read_text()
    if "frrvty:" not in known:
        groups = folder / "group"
        groups.write_text(known + FRR_GROUPS)
        lab.run(space, "mount", "--bind", str(groups), "/etc/group")
