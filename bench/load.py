"""The load generators, wrk for HTTP/1.1 and h2load for HTTP/2, and what they say about a run.

wrk runs for a time. h2load gets a number of requests per connection, below what servers allow before they
send GOAWAY (Atoll after 3,900: h2load counts what it could not send then as failed), again and again until
the time is over. A run in which a single answer was not 2xx or was lost is not a measurement: it raises.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

from atoll.errors import AtollError
from bench import machine, objects
from bench.machine import LOAD_CORE
from bench.tools import Tool

H1_CONNECTIONS: Final = 64
H2_CONNECTIONS: Final = 32
H2_STREAMS: Final = 8
H2_REQUESTS: Final = 3_800  # on one connection
_TIMEOUT_S: Final = 60.0
_PATIENCE_S: Final = 10  # wrk's own 2 s are too few for a server that meets a slow disk once

# Requests are made ready once; asking is then one table look-up, so that the generator stays ahead.
_ZIPF_LUA: Final = """
local requests, count, at = {}, 0, 0
function init(args)
  local made = {}
  for line in io.lines(args[1]) do
    if not made[line] then made[line] = wrk.format("GET", line) end
    count = count + 1
    requests[count] = made[line]
  end
end
function request()
  at = at % count + 1
  return requests[at]
end
"""


class Load(msgspec.Struct, frozen=True):
    """What a generator counted."""

    requests: int
    duration_s: float
    cipher: str = ""

    @property
    def per_s(self) -> float:
        """Requests a second."""
        return self.requests / self.duration_s


class Sample(msgspec.Struct, frozen=True):
    """One round of one target. `cpu_us` is CPU time of the server per request, `parts` by process."""

    per_s: float
    cpu_us: float
    busy: float  # share of the core that the server used
    cipher: str = ""
    parts: tuple[float, ...] = ()


class Meter:
    """CPU time of processes from here on."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._before_s = {pid: machine.cpu_s(pid) for pid in pids}

    def sample(self, found: Load) -> Sample:
        """What they have used for a load that has just ended."""
        used_us = [(machine.cpu_s(pid) - before_s) * 1e6 for pid, before_s in self._before_s.items()]
        parts = tuple(used / found.requests for used in used_us)
        return Sample(found.per_s, sum(parts), sum(used_us) / 1e6 / found.duration_s, found.cipher, parts)


def parse_wrk(text: str) -> Load:
    """wrk's summary.

    Raises:
        AtollError: not every answer was good.
    """
    counted = re.search(r"(\d+) requests in ([\d.]+)(m?s|m)", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    bad = re.search(r"(Socket errors:.*|Non-2xx or 3xx responses:.*)", text)
    if counted is None or rate is None or bad is not None:
        raise AtollError("wrk saw other answers than 200", hint=bad[1] if bad else text[-300:])
    requests = int(counted[1])
    return Load(requests, requests / float(rate[1]))


def parse_h2load(text: str) -> Load:
    """h2load's summary.

    Raises:
        AtollError: not every answer was good, or it was not HTTP/2.
    """
    finished = re.search(r"finished in ([\d.]+)(us|ms|s|m)\b", text)
    counted = re.search(r"requests: (\d+) total.* (\d+) succeeded", text)
    codes = re.search(r"status codes: (\d+) 2xx", text)
    if finished is None or counted is None or codes is None:
        raise AtollError("h2load did not finish", hint=text[-300:])
    if not counted[1] == counted[2] == codes[1] or "Application protocol: h2" not in text:
        raise AtollError("h2load saw other answers than 200", hint=text[text.find("finished") :][:300])
    unit_s = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[finished[2]]
    cipher = re.search(r"Cipher: (\S+)", text)
    return Load(int(counted[1]), float(finished[1]) * unit_s, cipher[1] if cipher else "")


class Generators:
    """wrk and h2load, with the files they read in `folder`."""

    def __init__(self, wrk: Tool, h2load: Tool | None, folder: Path) -> None:
        self._wrk = wrk
        self._h2load = h2load
        self._folder = folder
        self._script = folder / "zipf.lua"
        self._script.write_text(_ZIPF_LUA)

    def write_order(self, order: Sequence[int], name: str) -> Path:
        """A file of paths for wrk, one a line."""
        file = self._folder / f"{name}.paths"
        file.write_text("".join(f"{objects.path(number)}\n" for number in order))
        return file

    def write_uris(self, order: Sequence[int], name: str) -> Path:
        """A file of URIs for h2load; every connection walks through it from its beginning."""
        file = self._folder / f"{name}.uris"
        file.write_text("".join(f"https://{objects.HOST}{objects.path(number)}\n" for number in order))
        return file

    def h1(self, port: int, seconds: float, order: Path | None, tls: bool) -> Load:
        """wrk: one object, or those of a file of paths in its order."""
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{objects.path(1)}"
        options = [
            "-t1",
            f"-c{H1_CONNECTIONS}",
            f"-d{max(1, round(seconds))}s",
            f"--timeout={_PATIENCE_S}s",
            "-H",
            f"Host: {objects.HOST}",
        ]
        script = ["-s", str(self._script)] if order else []
        arguments = ["--", str(order)] if order else []
        return parse_wrk(self._run(self._wrk, [*options, *script, url, *arguments]))

    def h2(self, port: int, seconds: float, orders: Sequence[Path]) -> Load:
        """h2load, with one file of URIs after the other, until `seconds` are over."""
        assert self._h2load is not None, "found when h2 was asked for"
        total, duration_s, cipher, runs = 0, 0.0, "", 0
        deadline_s = monotonic() + seconds
        while not runs or monotonic() < deadline_s:
            found = parse_h2load(self._run(self._h2load, self._h2_options(port, orders[runs % len(orders)])))
            total, duration_s, cipher = total + found.requests, duration_s + found.duration_s, found.cipher
            runs += 1
        return Load(total, duration_s, cipher)

    def _h2_options(self, port: int, uris: Path) -> list[str]:
        return [
            "-t1",
            f"-c{H2_CONNECTIONS}",
            f"-m{H2_STREAMS}",
            f"-n{H2_CONNECTIONS * H2_REQUESTS}",
            f"-i{uris}",
            f"--connect-to=127.0.0.1:{port}",
        ]

    def _run(self, tool: Tool, arguments: Sequence[str]) -> str:
        log = self._folder / "load.txt"
        log.write_bytes(b"")
        process = machine.start(LOAD_CORE, [str(tool.path), *arguments], log, tool.env)
        try:
            code = process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            machine.stop(process)
            raise AtollError(f"{tool.path.name} did not end within {_TIMEOUT_S:g} s") from None
        text = log.read_text(errors="replace")
        if code:
            raise AtollError(f"{tool.path.name} failed", hint=text.strip()[-300:])
        return text
