"""What the edge worker that speaks HTTP/3 has instead of TCP's listeners: one UDP socket and its secret.

The secret outlives the process: with it a successor knows the tokens its predecessor gave out, and can tell
the clients of one that died to begin anew. It never leaves the PoP.
"""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

from atoll.errors import AtollError
from atoll.http.certificates import Certificates
from atoll.http.exchange import App
from atoll.http.quic_endpoint import SECRET_BYTES, QuicEndpoint
from atoll.http.quic_tls import QuicLeaves
from atoll.node.role import RoleConfig


def h3_endpoint(app: App, sock: socket.socket, config: RoleConfig) -> tuple[QuicEndpoint, Certificates]:
    """The endpoint on an inherited socket, and the certificate files it looks at."""
    assert config.pop is not None
    paths = config.paths
    files = Certificates(paths.ca / "leaf", paths.certificates)
    leaves = QuicLeaves(files, paths.ca / "leaf" / "localhost.pem")
    secret = load_secret(paths.pop_data(config.pop.code) / "quic.key")
    return QuicEndpoint(app, sock, leaves, secret, paths.pop_run(config.pop.code)), files


def load_secret(path: Path) -> bytes:
    """The PoP's secret, made when there is none.

    Raises:
        AtollError: what is there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(secrets.token_bytes(SECRET_BYTES))
    try:
        os.link(temporary, path)  # unlike a rename it never takes another's place
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise AtollError("not a secret of ours", hint="remove it to have one made", where=str(path))
    return secret
