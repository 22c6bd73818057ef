"""Whether what was expected of a step is what was seen: one small function per kind of check."""

from __future__ import annotations

import re
from collections.abc import Callable
from email import message_from_bytes
from typing import Any, Final

import http_sf
import msgspec
from conformance_case import Answer, Check, Step
from conformance_client import Response
from conformance_origin import Asked, step_body
from conformance_time import Places


class Seen(msgspec.Struct):
    """What a step brought about."""

    responses: list[Response]
    asked: list[Asked]
    places: Places
    now_s: float
    bodies: dict[int, bytes]  # of the answers of all steps so far; 0 is this step's

    def filled(self, text: str) -> str:
        """`text` without placeholders."""
        return self.places.fill(text, self.now_s)


class Failure(msgspec.Struct, frozen=True):
    """A check that did not hold."""

    step: int  # counted from 1
    what: str
    expected: str
    seen: str
    setup: bool = False


def failures(step: Step, number: int, seen: Seen) -> list[Failure]:
    """The checks of `step` that do not hold, each once."""
    found: list[Failure] = []
    for check in step.checks:
        for response in seen.responses:
            complaint = _JUDGES[check.subject](check, response, seen)
            if complaint is not None:
                what = f"{check.subject} {check.name}".strip()
                found.append(
                    Failure(number, what, _expected(check, seen), complaint, step.setup or check.given)
                )
                break
    return found


def bodies_of(case: str, steps: tuple[Step, ...], current: int) -> dict[int, bytes]:
    """The bodies of all answers, by step; 0 is that of the `current` one."""
    found = {number: _body(step.answer, case, number) for number, step in enumerate(steps, start=1)}
    return {**found, 0: found[current]}


def _body(answer: Answer, case: str, number: int) -> bytes:
    if answer.status in (204, 304):
        return b""
    return step_body(case, number) if answer.body is None else answer.body


def _expected(check: Check, seen: Seen) -> str:
    if check.subject == "from":
        return _short(seen.bodies[check.value])
    value = check.value
    if check.subject == "range":
        return f"bytes {value[0]}-{value[1]}, or the whole"
    if isinstance(value, str):
        return seen.filled(value)
    return _short(value) if isinstance(value, bytes) else str(value) if value is not None else "yes"


def _short(body: bytes) -> str:
    return repr(body if len(body) < 80 else body[:80] + b"...")[1:]


def _status(check: Check, response: Response, seen: Seen) -> str | None:
    return None if response.status in check.value else str(response.status)


def _field(check: Check, response: Response, seen: Seen) -> str | None:
    value = response.field(check.name)
    return None if value == seen.filled(check.value) else str(value)


def _trailer(check: Check, response: Response, seen: Seen) -> str | None:
    value = dict(response.trailers).get(check.name)
    return None if value == check.value else str(value)


def _holds(check: Check, response: Response, seen: Seen) -> str | None:
    value = response.field(check.name)
    return None if value is not None and seen.filled(check.value).lower() in value.lower() else str(value)


def _absent(check: Check, response: Response, seen: Seen) -> str | None:
    return response.field(check.name)


def _present(check: Check, response: Response, seen: Seen) -> str | None:
    return None if response.field(check.name) is not None else "absent"


def _between(check: Check, response: Response, seen: Seen) -> str | None:
    value, (low, high) = response.field(check.name), check.value
    good = value is not None and value.isdigit() and low <= int(value) <= high
    return None if good else str(value)


def _count(check: Check, response: Response, seen: Seen) -> str | None:
    low, high = check.value
    return None if low <= len(seen.asked) <= high else f"{len(seen.asked)} requests at the origin"


def _later(check: Check, response: Response, seen: Seen) -> str | None:
    return None if len(seen.asked) >= check.value else f"{len(seen.asked)} requests at the origin"


def _body_is(check: Check, response: Response, seen: Seen) -> str | None:
    return None if response.body == check.value and response.whole else _short(response.body)


def _from(check: Check, response: Response, seen: Seen) -> str | None:
    return None if response.body == seen.bodies[check.value] and response.whole else _short(response.body)


def _asked(check: Check, response: Response, seen: Seen) -> str | None:
    if not seen.asked:
        return "the origin was not asked"
    value = seen.asked[-1].field(check.name)
    return None if value == seen.filled(check.value) else str(value)


def _asked_holds(check: Check, response: Response, seen: Seen) -> str | None:
    if not seen.asked:
        return "the origin was not asked"
    value = seen.asked[-1].field(check.name)
    return None if value is not None and seen.filled(check.value).lower() in value.lower() else str(value)


def _asked_absent(check: Check, response: Response, seen: Seen) -> str | None:
    return seen.asked[-1].field(check.name) if seen.asked else None


def _asked_present(check: Check, response: Response, seen: Seen) -> str | None:
    if not seen.asked:
        return "the origin was not asked"
    return "absent" if seen.asked[-1].field(check.name) is None else None


def _asked_body(check: Check, response: Response, seen: Seen) -> str | None:
    if not seen.asked:
        return "the origin was not asked"
    return None if seen.asked[-1].body == check.value else _short(seen.asked[-1].body)


def _matches(check: Check, response: Response, seen: Seen) -> str | None:
    return None if re.fullmatch(check.value, response.body, re.DOTALL) else _short(response.body)


def _method(check: Check, response: Response, seen: Seen) -> str | None:
    if not seen.asked:
        return "the origin was not asked"
    return None if seen.asked[-1].method == check.value else seen.asked[-1].method


def _seconds(check: Check, response: Response, seen: Seen) -> str | None:
    return None if response.seconds <= check.value else f"{response.seconds:.2f} s"


def _interim(check: Check, response: Response, seen: Seen) -> str | None:
    return None if response.interim == list(check.value) else str(response.interim)


def _cut(check: Check, response: Response, seen: Seen) -> str | None:
    return None if not response.whole or response.status >= 500 else "whole"


def _parts(check: Check, response: Response, seen: Seen) -> str | None:
    kind = response.field("content-type") or ""
    message = message_from_bytes(b"Content-Type: %b\r\n\r\n%b" % (kind.encode("latin-1"), response.body))
    if not kind.lower().startswith("multipart/byteranges") or not message.is_multipart():
        return kind or "no Content-Type"
    found: list[tuple[str, bytes]] = []
    for part in message.walk():
        content = part.get_payload(decode=True)
        if isinstance(content, bytes):
            found.append((str(part.get("content-range")), content))
    return None if found == list(check.value) else str(found)


def _range(check: Check, response: Response, seen: Seen) -> str | None:
    begin, end, whole = check.value
    if response.status == 200:
        return None if response.body == whole else _short(response.body)
    content_range = f"bytes {begin}-{end}/{len(whole)}"
    right = response.status == 206 and response.body == whole[begin : end + 1]
    if right and response.field("content-range") == content_range:
        return None
    return f"{response.status} {response.field('content-range')} {_short(response.body)}"


def _cache_status(check: Check, response: Response, seen: Seen) -> str | None:
    value = response.field("cache-status")
    try:
        members: Any = http_sf.parse((value or "").encode("latin-1"), tltype="list")
        parameters = dict(members[-1][1])
    except (ValueError, IndexError, TypeError):
        return f"not a list: {value}"
    wrong = {name for name, wanted in check.value.items() if not _same(parameters.get(name), wanted)}
    return f"{value} ({', '.join(sorted(wrong))})" if wrong else None


def _same(value: object, wanted: object) -> bool:
    if wanted is ...:
        return value is not None
    if isinstance(wanted, tuple):  # a range
        return isinstance(value, int) and value in range(wanted[0], wanted[1] + 1)
    if wanted is None or isinstance(wanted, bool | int):
        return type(value) is type(wanted) and str(value) == str(wanted)
    return str(value) == wanted


_JUDGES: Final[dict[str, Callable[[Check, Response, Seen], str | None]]] = {
    "status": _status,
    "field": _field,
    "holds": _holds,
    "trailer": _trailer,
    "absent": _absent,
    "present": _present,
    "between": _between,
    "count": _count,
    "later": _later,
    "body": _body_is,
    "from": _from,
    "asked": _asked,
    "asked-holds": _asked_holds,
    "asked-absent": _asked_absent,
    "asked-present": _asked_present,
    "asked-body": _asked_body,
    "matches": _matches,
    "method": _method,
    "seconds": _seconds,
    "interim": _interim,
    "cut": _cut,
    "parts": _parts,
    "range": _range,
    "cache-status": _cache_status,
}
