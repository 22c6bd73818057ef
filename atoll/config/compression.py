"""Spec of a route's compression: which content is compressed, and how."""

from __future__ import annotations

import msgspec

TYPES = (
    "text/*",
    "application/json",
    "application/*+json",
    "application/javascript",
    "application/x-javascript",
    "application/xml",
    "application/*+xml",
    "application/x-ndjson",
    "application/graphql",
    "application/wasm",
    "application/manifest",
    "application/rtf",
    "application/vnd.ms-fontobject",
    "font/otf",
    "font/ttf",
    "image/svg+xml",
    "image/bmp",
    "image/x-icon",
    "image/vnd.microsoft.icon",
)
"""What shrinks; pictures, films, fonts for the web and archives are compressed already."""


class CompressionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Compress responses for clients that accept it.

    With `uncached` false only what is stored is compressed. That is the way to close BREACH for pages that
    hold a secret beside something that the request chose: both together tell the secret by their length.
    """

    codings: tuple[str, ...] = ("br", "zstd", "gzip")  # the most welcome first
    min_bytes: int = 1024  # less is not worth the fields
    types: tuple[str, ...] = TYPES  # "text/*", "application/*+json", or exact
    uncached: bool = True
