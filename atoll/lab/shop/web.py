"""A request, a response and a table of routes: what the origins need of a web framework, as an ASGI callable.

Answers carry `ETag` and `Last-Modified` where the handler gave them and turn into 304 when the client has
what it asks for (RFC 9110 §13). A mistake of the client is a `RemoteError` with its status, and becomes JSON.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from atoll.cache.rules import headers_for_304, not_modified
from atoll.errors import RemoteError
from atoll.http.dates import format_http_date
from atoll.http.fields import Headers

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY: Final = 64 * 1024
NO_STORE: Final = "no-store"
JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"

_log = logging.getLogger("atoll.origin")


class Request(msgspec.Struct, frozen=True):
    """What a handler sees. `argument` is the last part of a path that its route leaves open."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Headers
    body: bytes
    argument: str = ""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler answers. `tag` is what makes the body what it is: the ETag follows from it."""

    body: bytes
    kind: str = JSON
    status: int = 200
    cache: str = NO_STORE
    tag: str = ""
    modified_s: float = 0.0
    extra: tuple[tuple[bytes, bytes], ...] = ()

    def headers(self) -> Headers:
        """Its fields."""
        fields: Headers = [
            (b"content-type", self.kind.encode()),
            (b"cache-control", self.cache.encode()),
            *self.extra,
        ]
        if self.tag:
            fields.append((b"etag", b'W/"%b"' % self.tag.encode()))
        if self.modified_s:
            fields.append((b"last-modified", format_http_date(self.modified_s)))
        return fields


Handler = Callable[[Request], Awaitable[Response]]
Routes = Mapping[tuple[str, str], Handler]
"""(method, path) to handler; a path that ends in `/*` leaves its last part open."""


class WebApp:
    """An ASGI application over `routes`; `common` fields are on every answer."""

    def __init__(self, routes: Routes, common: Headers, not_found: Callable[[Request], Response]) -> None:
        self._routes = routes
        self._common = common
        self._not_found = not_found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        assert scope["type"] == "http", "served without lifespan and WebSockets"
        try:
            request = await read_request(scope, receive)
            response = await self._answer(request)
        except RemoteError as error:
            response = problem(error)
            request = Request(scope["method"], scope["path"], {}, [], b"")
        except sqlite3.Error as error:
            _log.error("%s %s: %s", scope["method"], scope["path"], error)
            response = problem(RemoteError("the database does not answer", 503))
        await self._send(scope["method"], scope["headers"], response, send)

    async def _answer(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        found = self._find(method, request.path)
        if found is not None:
            handler, argument = found
            return await handler(msgspec.structs.replace(request, argument=argument))
        allowed = self._allowed(request.path)
        if not allowed:
            return self._not_found(request)
        allow = ((b"allow", ", ".join(allowed).encode()),)
        if method == "OPTIONS":
            return Response(body=b"", status=204, extra=allow)
        refusal = problem(RemoteError(f"{request.method} is not understood here", 405, where=request.path))
        return msgspec.structs.replace(refusal, extra=allow)

    def _find(self, method: str, path: str) -> tuple[Handler, str] | None:
        exact = self._routes.get((method, path))
        if exact is not None:
            return exact, ""
        folder, _, argument = path.rpartition("/")
        handler = self._routes.get((method, f"{folder}/*")) if argument else None
        return (handler, argument) if handler is not None else None

    def _allowed(self, path: str) -> list[str]:
        methods = {method for method, _ in self._routes}
        found = {method for method in methods if self._find(method, path)}
        return sorted(found | {"HEAD", "OPTIONS"} if "GET" in found else found)

    async def _send(self, method: str, asked: Headers, response: Response, send: Send) -> None:
        status, body, headers = response.status, response.body, response.headers()
        validators = response.tag or response.modified_s
        if validators and method in ("GET", "HEAD") and not_modified(list(asked), headers, status):
            status, body, headers = 304, b"", headers_for_304(headers)
        if status not in (204, 304):
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        headers = [*headers, *self._common]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


async def read_request(scope: Scope, receive: Receive) -> Request:
    """The request with its whole body.

    Raises:
        RemoteError: the body is larger than `MAX_BODY`, or the client left.
    """
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RemoteError("the client left", 400)
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY:
            raise RemoteError("the body is too large", 413, f"at most {MAX_BODY} bytes are read")
        parts.append(part)
        more = message.get("more_body", False)
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    return Request(scope["method"], scope["path"], query, list(scope["headers"]), b"".join(parts))


def problem(error: RemoteError) -> Response:
    """An error as JSON, in the words of `AtollError`."""
    body = {"error": error.message, "hint": error.hint, "where": error.where}
    return Response(
        body=msgspec.json.encode({name: text for name, text in body.items() if text}), status=error.status
    )


def digest(*parts: bytes) -> str:
    """A short name for these bytes, good for an ETag."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def whole_number(text: str, name: str, low: int, high: int) -> int:
    """`text` as a number between `low` and `high`.

    Raises:
        RemoteError: it is not one.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and low <= int(text) <= high):
        raise RemoteError(f"{text!r} is not what {name} may be", 400, f"a number from {low} to {high}", name)
    return int(text)
