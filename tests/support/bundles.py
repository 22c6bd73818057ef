"""Bundles for tests."""

from __future__ import annotations

from atoll.config.spec import BundleManifest
from atoll.functions.workers import bundle


def tiny(name: str, text: str, routes: tuple[str, ...] = ()) -> bytes:
    """A module worker that answers `text`."""
    script = f"export default {{ fetch() {{ return new Response({text!r}) }} }}\n"
    manifest = BundleManifest(
        name=name,
        main="index.js",
        syntax="modules",
        compatibility_date="2026-01-01",
        routes=routes,
        files=("index.js",),
    )
    return bundle.pack(manifest, {"index.js": script.encode()})
