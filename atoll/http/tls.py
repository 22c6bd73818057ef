"""TLS for listeners: one context a name, chosen by SNI, loaded from disk when first asked for.

A seam: contexts are made before workers fork where there are several, so that session tickets resume in
every worker. A certificate file that changes on disk is picked up at the next handshake.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Final

from atoll.errors import AtollError

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_MAX_CONTEXTS: Final = 4096


def server_context(pem: Path) -> ssl.SSLContext:
    """A context for the certificate and key in `pem`: TLS 1.2 and 1.3, h2 and http/1.1 by ALPN.

    Raises:
        AtollError: the file cannot be read or is no certificate with its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        context.load_cert_chain(pem)
    except (OSError, ssl.SSLError) as error:
        raise AtollError(f"no usable certificate: {error}", where=str(pem)) from error
    return context


class CertificateStore:
    """Contexts by server name from a folder of `<name>.pem` files; `default` when none fits."""

    def __init__(self, folder: Path, default: str) -> None:
        self._folder = folder
        self._contexts: dict[str, tuple[float, ssl.SSLContext]] = {}
        self.default = server_context(folder / f"{default}.pem")
        self.default.sni_callback = self._choose

    def _choose(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
        found = self.lookup(name) if name else None
        if found is not None:
            tls.context = found

    def lookup(self, name: str) -> ssl.SSLContext | None:
        """The context for `name`, fresh from disk when its file has changed."""
        name = name.lower()
        if not _NAME.fullmatch(name):
            return None
        pem = self._folder / f"{name}.pem"
        try:
            changed = pem.stat().st_mtime
        except OSError:
            return None
        known = self._contexts.get(name)
        if known is not None and known[0] == changed:
            return known[1]
        try:
            context = server_context(pem)
        except AtollError:
            return known[1] if known is not None else None
        if len(self._contexts) >= _MAX_CONTEXTS:
            self._contexts.clear()
        self._contexts[name] = (changed, context)
        return context
