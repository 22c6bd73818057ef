"""A whole network gets its certificates over ACME, by command, and every PoP serves them.

The ACME server is Pebble, Let's Encrypt's own to test against, wherever Go is there to build it (once, into
the folder for tools; `python -m bench.acme` is the same without pytest). Without Go or its modules the one of
`tests/support/acme_server.py` takes its place: less suspicious, but as real in what it asks of us.
Either way the test runs, and its output says who it was.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from acme_server import AcmeServer

from atoll.errors import AtollError
from atoll.lab.tools import cache_folder
from bench import acme

pytestmark = pytest.mark.real


@pytest.mark.timeout(420)  # Pebble may have to be built first
def test_every_pop_serves_what_was_ordered_and_renewed(tmp_path: Path) -> None:
    with ExitStack() as stack:
        command, report = stack.enter_context(acme.network(tmp_path / "home"))
        http_port = report["endpoints"]["http"]
        directory, ca, root = server(stack, tmp_path, http_port)
        seen = acme.exercise(command, directory, ca, root)
    assert len(seen.served) == 5 * len(acme.NAMES)
    assert seen.issued["serial"] != seen.renewed["serial"]
    assert seen.renewed["renew_s"] > seen.issued["not_before_s"] + 50 * 86_400


def server(stack: ExitStack, folder: Path, http_port: int) -> tuple[str, str, str]:
    """Directory, what its TLS is verified with, and the root of what it issues."""
    try:
        binary = acme.pebble_binary(cache_folder(os.environ) / "pebble")
    except AtollError as error:
        print(f"without Pebble: {error}")
        own = AcmeServer(folder / "public", ("127.0.0.1", http_port))
        stack.callback(own.stop)
        return own.directory, "", own.ca_pem.decode()
    pebble = acme.Pebble(binary, folder / "pebble", http_port)
    stack.callback(pebble.stop)
    print("with Pebble")
    return pebble.directory, str(pebble.ca), pebble.root()
