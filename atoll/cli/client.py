"""The command line's one way to the network: the API, with the token of the network's owner."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from atoll.config.paths import Endpoints, Paths, resolve
from atoll.errors import AtollError, RemoteError
from atoll.node import lock

TIMEOUT_S: Final = 60.0  # of what changes something
READ_TIMEOUT_S: Final = 10.0

_Answer = TypeVar("_Answer")


class _Problem(msgspec.Struct, frozen=True):
    """What the API answers when it cannot do it."""

    message: str
    hint: str = ""
    where: str = ""


class Client:
    """A connection to the API; answers are decoded into the types of `atoll.control.answers`."""

    def __init__(self, paths: Paths | None = None) -> None:
        chosen = paths or resolve(os.environ, os.getuid())
        if lock.holder(chosen.lock_file) is None:  # then whoever listens is somebody else, and gets no token
            raise AtollError("no network is running", "start one with `atoll up`")
        self.address = f"127.0.0.1:{_port(chosen)}"
        self._http = httpx.Client(
            base_url=f"http://{self.address}",
            headers={"authorization": f"Bearer {_token(chosen)}"},
            timeout=httpx.Timeout(TIMEOUT_S, connect=2.0),
            trust_env=False,  # a proxy in the environment is not for loopback
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, kind: type[_Answer], **query: str) -> _Answer:
        """`GET path`."""
        return self._ask("GET", path, kind, params=query, timeout=READ_TIMEOUT_S)

    def post(
        self, path: str, kind: type[_Answer], body: object = None, content: bytes | None = None
    ) -> _Answer:
        """`POST path` with a JSON body, or with bytes."""
        if content is not None:
            headers = {"content-type": "application/octet-stream"}
            return self._ask("POST", path, kind, content=content, headers=headers)
        return self._ask("POST", path, kind, json=body) if body is not None else self._ask("POST", path, kind)

    def delete(self, path: str, kind: type[_Answer]) -> _Answer:
        """`DELETE path`."""
        return self._ask("DELETE", path, kind)

    def _ask(self, method: str, path: str, kind: type[_Answer], **how: Any) -> _Answer:
        try:
            response = self._http.request(method, path, **how)
        except httpx.InvalidURL:
            raise AtollError(f"no name of anything here: {path!r}", "names have no such characters") from None
        except httpx.ConnectError:
            hint = "start one with `atoll up`"
            raise AtollError(f"no network answers on {self.address}", hint) from None
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise AtollError(f"the API did not answer: {reason}", "see `atoll logs api`") from error
        if response.is_success:
            return self._decode(response.content, kind)
        raise _problem(response)

    def _decode(self, content: bytes, kind: type[_Answer]) -> _Answer:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as error:
            hint = "is it this network's, and of this version? see `atoll logs api`"
            raise AtollError(f"what {self.address} answers is nothing of ours: {error}", hint) from error


def segment(name: str) -> str:
    """A name as one part of a path, whatever is in it."""
    return quote(name, safe="")


def _problem(response: httpx.Response) -> RemoteError:
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.MsgspecError:
        problem = _Problem(f"the API answered {response.status_code}")
    return RemoteError(problem.message, response.status_code, problem.hint, problem.where)


def _port(paths: Paths) -> int:
    """Where this network's API listens.

    Raises:
        AtollError: it does not run. Whoever listens on the default port then is another network's, and this
            one's token is not for it.
    """
    try:
        return msgspec.json.decode(paths.endpoints_file.read_bytes(), type=Endpoints).api
    except OSError:
        raise AtollError("no network is running", "start one with `atoll up`") from None
    except msgspec.MsgspecError as error:
        raise AtollError(f"not a network's endpoints: {error}", "", str(paths.endpoints_file)) from error


def _token(paths: Paths) -> str:
    try:
        return paths.token.read_text().strip()
    except OSError:
        return ""  # no network has ever run here: connecting says so, or the API says 401
