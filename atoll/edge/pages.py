"""What the edge says itself: errors, and in development the names a visitor may have meant."""

from __future__ import annotations

from html import escape
from http import HTTPStatus
from typing import Final

from atoll.http.fields import Headers

HTML: Final[Headers] = [(b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store")]

_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body{{font:16px/1.6 system-ui;max-width:42rem;margin:12vh auto;padding:0 1rem;color:#123}}
h1{{font-size:1.4rem}}code,li{{font-family:ui-monospace,monospace}}small{{color:#678}}</style>
<h1>{title}</h1>{body}<p><small>Atoll, edge {pop}</small></p></html>
"""


def error_page(status: int, reason: str, pop: str) -> bytes:
    """A page for `status` that gives its reason."""
    title = f"{status} {_phrase(status)}"
    return _PAGE.format(title=title, body=f"<p>{escape(reason)}</p>", pop=escape(pop)).encode()


def unknown_host_page(host: str, known: list[str], pop: str) -> bytes:
    """The 404 for a host no site has; `known` is empty outside development."""
    body = f"<p>No site answers for <code>{escape(host)}</code>.</p>"
    if known:
        items = "".join(f"<li>{escape(name)}</li>" for name in known)
        body += f"<p>Known hosts:</p><ul>{items}</ul>"
    return _PAGE.format(title="404 Not Found", body=body, pop=escape(pop)).encode()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
