"""`atoll sign-url`: a URL that a route with signed URLs answers until it expires. Asks nobody."""

from __future__ import annotations

import os
from pathlib import Path
from time import time
from typing import Final
from urllib.parse import urlsplit

import click

from atoll.cli.output import json_option, print_json
from atoll.config.admission import SigningKeySpec
from atoll.edge.admission.signed_url import sign
from atoll.errors import AtollError

VARIABLE: Final = "ATOLL_SIGNING_SECRET"
_YEAR_S: Final = 366 * 86_400


@click.command()
@click.argument("url")
@click.option("--key-id", required=True, help="Which of the route's keys signs.")
@click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"A file with the key's secret; without it ${VARIABLE} is the secret.",
)
@click.option(
    "--expires-in",
    default=3600,
    show_default=True,
    type=click.IntRange(1, _YEAR_S),
    help="Seconds from now.",
)
@click.option("--address", default="", help="Only for this address or prefix, e.g. 192.0.2.0/24.")
@click.option("--prefix", default="", help="For all paths that begin so, e.g. /videos/7/, with any query.")
@json_option
def sign_url(
    url: str, key_id: str, secret_file: Path | None, expires_in: int, address: str, prefix: str, as_json: bool
) -> None:
    """Sign a URL, or a path and query, for a route that answers signed URLs only.

    The secret never stands on the command line, where others could see it.

    \b
    Examples:
      atoll sign-url 'https://www.example.com/a.mp4' --key-id 2026 --secret-file key
      atoll sign-url /videos/7/index.m3u8 --key-id 2026 --secret-file key --prefix /videos/7/
    """
    parts = urlsplit(url)
    if parts.fragment or (parts.scheme and not parts.netloc):
        raise AtollError(f"{url!r} cannot be signed", "a URL or path without a fragment", "url")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    expires_s = int(time()) + expires_in
    key = SigningKeySpec(id=key_id, secret=_secret(secret_file))
    origin = f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
    signed = origin + sign(target, key, expires_s, address, prefix)
    if as_json:
        print_json({"url": signed, "expires_s": expires_s})
    else:
        click.echo(signed)


def _secret(file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            raise AtollError("the secret is not text", where=str(file)) from None
    secret = os.environ.get(VARIABLE, "")
    if not secret:
        raise AtollError("there is no secret", f"give --secret-file, or set {VARIABLE}")
    return secret
