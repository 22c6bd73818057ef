"""A whole network for tests, in a folder and on ports of its own, driven by the command as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from atoll.config.paths import Paths, resolve

START_TIMEOUT_S = 100


class LiveNetwork:
    """`atoll` for one home, and requests as a browser in a city would make them."""

    def __init__(self, home: Path) -> None:
        self._env = {**os.environ, "ATOLL_HOME": str(home)}
        self.paths: Paths = resolve(self._env, os.getuid())
        self.http_port = 0
        self.https_port = 0
        self.api_port = 0

    def run(self, *arguments: str, timeout_s: float = START_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return subprocess.run(
            [sys.executable, "-m", "atoll.cli.main", *arguments],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def ask(self, *arguments: str) -> Any:
        """What the command prints with `--json`."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr or done.stdout
        return json.loads(done.stdout)

    def up(self, *arguments: str) -> Any:
        """Start it on free ports."""
        ports = ("--http-port", "0", "--https-port", "0", "--api-port", "0")
        report = self.ask("up", *ports, *arguments)
        endpoints = report["endpoints"]
        self.http_port, self.https_port = endpoints["http"], endpoints["https"]
        self.api_port = endpoints["api"]
        return report

    def client(self) -> httpx.AsyncClient:
        """A browser; every name that ends in `.localhost` is this machine."""
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.http_port}",
            trust_env=False,
            timeout=10,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def get(self, city: str, path: str = "/") -> httpx.Response:
        """One request from a city, on a connection of its own."""
        async with self.client() as client:
            return await client.get(path, headers={"host": f"{city}.localhost"})
