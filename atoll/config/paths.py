"""Where things live: one home folder per network, one short runtime folder for its sockets.

Unix socket paths must stay under 100 bytes, so sockets live in a private folder under
`$XDG_RUNTIME_DIR` or `/tmp`, named after a hash of the home. Pure: the caller passes the environment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

PURGES: Final = "purges.sock"
"""In a run folder: where edge workers have something purged everywhere."""


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """The ports a network listens on for people, all on loopback."""

    http: int = 8080
    https: int = 8443
    api: int = 9440


class Paths(msgspec.Struct, frozen=True):
    """Every path of one network. `home` holds what must survive, `run` what may go on reboot."""

    home: Path
    run: Path
    token: Path

    @property
    def logs(self) -> Path:
        """`<process>.log` for every process; `<pop>-access.log` for requests."""
        return self.home / "logs"

    @property
    def network_file(self) -> Path:
        """The effective `NetworkSpec`, JSON."""
        return self.home / "network.json"

    @property
    def endpoints_file(self) -> Path:
        """The running network's `Endpoints`, JSON."""
        return self.home / "endpoints.json"

    @property
    def lock_file(self) -> Path:
        """Held by the network daemon while it lives."""
        return self.home / "lock"

    @property
    def ca(self) -> Path:
        """`ca.pem`, `ca.key` and `leaf/<name>.pem` (certificate and key together)."""
        return self.home / "ca"

    @property
    def certificates(self) -> Path:
        """`<id>.pem`: keys and chains that were issued by others or imported; asked before the leaves."""
        return self.home / "certificates"

    @property
    def acme(self) -> Path:
        """Accounts, orders' records, and `challenges/<token>`, which every PoP answers."""
        return self.home / "acme"

    @property
    def network_socket(self) -> Path:
        """The network daemon's control socket."""
        return self.run / "network.sock"

    @property
    def internet_socket(self) -> Path:
        """The emulated Internet: speakers open sessions here."""
        return self.run / "internet.sock"

    def pop_data(self, pop: str) -> Path:
        """A PoP's own data: `snapshot.msgpack`, `bundles/<sha256>/`."""
        return self.home / "pops" / pop

    def pop_run(self, pop: str) -> Path:
        """A PoP's sockets: `supervisor.sock`, `edge-<i>.sock`, `bindings.sock`, `fn/`."""
        return self.run / pop


def resolve(env: Mapping[str, str], uid: int) -> Paths:
    """The paths of the network that `env` selects.

    `ATOLL_HOME` chooses another network than the user's default one; it then holds the token too.
    """
    user_home = Path(env.get("HOME", "/root"))
    chosen = env.get("ATOLL_HOME")
    home = Path(chosen).absolute() if chosen else user_home / ".local/state/atoll"
    config = Path(env.get("XDG_CONFIG_HOME", user_home / ".config"))
    token = home / "token" if chosen else config / "atoll/token"
    tag = hashlib.sha256(str(home).encode()).hexdigest()[:8]
    runtime = env.get("XDG_RUNTIME_DIR")
    base = Path(runtime) / "atoll" if runtime and len(runtime) < 40 else Path(f"/tmp/atoll-{uid}")  # noqa: S108
    return Paths(home=home, run=base / tag, token=token)
