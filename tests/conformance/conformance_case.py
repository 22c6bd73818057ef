"""The vocabulary of the conformance table: a case is a value that says what is asked, answered and expected.

A case is a list of steps. A step sends one request (or several equal ones at once) through the cache under
test; should the request travel on, the scripted origin answers with the step's `Answer`. What must then be
true is a list of `Check`s. Lines of fields are written as they go over the wire: odd ones can be said.

Placeholders, in fields, targets and expected values alike:

    {now} {now-100} {now+5|asctime}   an HTTP date: seconds from when it is sent; also |rfc850, |zone
    {start-100}                       the same from the beginning of the case: equal in each of its steps
    {base} {url}                      the case's own path, and the same as an absolute URL
    {host} {host|upper}               the host that the cache under test is asked for

Nothing in here touches a clock or a socket.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

Level = Literal["required", "optimal", "check"]
"""`required`: a MUST. `optimal`: allowed or recommended, the origin is asked too often without it. `check`: a
choice that the RFC leaves, noted and neither right nor wrong."""

Subject = Literal[
    "status", "field", "absent", "present", "holds", "between", "count", "body", "from", "asked",
    "asked-absent", "asked-holds", "seconds", "interim", "cut", "cache-status", "parts", "later", "method",
    "matches", "asked-present", "range", "asked-body", "trailer",
]  # fmt: skip


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the origin says. Without a `body` it sends one that no other step of the table sends."""

    status: int = 200
    lines: tuple[str, ...] = ()  # fields as on the wire; `Date` is added unless it is here
    body: bytes | None = None
    dated: bool = True
    framing: Literal["length", "chunked", "close"] = "length"
    trailers: tuple[str, ...] = ()  # after a chunked body
    version: str = "HTTP/1.1"
    interim: tuple[tuple[int, tuple[str, ...]], ...] = ()  # statuses and fields before the final head
    delay_s: float = 0.0  # before the final head
    halves_s: float = 0.0  # between the two halves of the body
    cut: int = -1  # the connection ends after so many bytes of the body
    dropped: bool = False  # the connection ends without an answer
    ranged: bool = False  # heeds Range and If-Range, as an origin that serves files does
    reflects: str = ""  # the body says what this field of the request held
    with_body: Answer | None = None  # in place of all this when the request has a body
    validated: Answer | None = None  # in place of all this when the request asks whether it still holds


class Check(msgspec.Struct, frozen=True):
    """One thing that must be true of a step. `name` is a field, where the subject has one."""

    subject: Subject
    name: str = ""
    value: Any = None
    given: bool = False  # what the row builds on: where it does not hold the row cannot be tried


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One request, what the origin would answer, and what must be true afterwards."""

    method: str = "GET"
    suffix: str = ""  # after the case's own path
    target: str = ""  # the whole request target instead
    lines: tuple[str, ...] = ()
    host: str = "{host}"
    version: str = "HTTP/1.1"
    body: bytes | None = None
    answer: Answer = Answer()
    checks: tuple[Check, ...] = ()
    setup: bool = False  # a failure here says that the case could not be tried
    wait_s: float = 0.0  # before the step
    rest_s: float = 0.0  # after the step
    times: int = 1  # equal requests at once
    behind: bool = False  # the next step begins as soon as the origin is at work on this one
    leave_s: float = 0.0  # the client goes away after this long, without waiting for the end


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table."""

    id: str
    title: str
    rfc: str  # "9111"
    section: str  # "4.2.1"
    level: Level
    steps: tuple[Step, ...]
    atoll_only: bool = False  # about how Atoll says what it did: peers are not asked


# --- what the origin says


def ok(
    *lines: str, status: int = 200, body: bytes | None = None, validated: Answer | None = None, **more: Any
) -> Answer:
    """An answer with these field lines; `more` are `Answer`'s other fields."""
    return Answer(status=status, lines=lines, body=body, validated=validated, **more)


def unchanged(*lines: str) -> Answer:
    """A 304."""
    return Answer(status=304, lines=lines)


# --- steps


def ask(*parts: str | Answer | Check | tuple[Check, ...], **more: Any) -> Step:
    """A step: strings are request fields, an `Answer` is the origin's, checks are what is expected."""
    lines: list[str] = []
    checks: list[Check] = []
    answer = Answer()
    for part in parts:
        if isinstance(part, str):
            lines.append(part)
        elif isinstance(part, Answer):
            answer = part
        elif isinstance(part, Check):
            checks.append(part)
        else:
            checks.extend(part)
    if not any(check.subject in ("status", "range") for check in checks) and not more.get("leave_s"):
        checks.insert(0, Check("status", value=(answer.status if answer.status >= 200 else 200,)))
    return Step(lines=tuple(lines), answer=answer, checks=tuple(checks), **more)


def first(*parts: str | Answer | Check | tuple[Check, ...], **more: Any) -> Step:
    """A step that only prepares the ones after it."""
    return ask(*parts, setup=True, **more)


GONE_STALE_S: Final = 2.1  # after max-age=1, whatever fraction of a second Date has lost


def stale(*lines: str, request: tuple[str, ...] = (), **more: Any) -> Step:
    """A step that leaves a response behind that was fresh for a second and is no more."""
    return first(ok("Cache-Control: max-age=1", *lines, **more), *request, rest_s=GONE_STALE_S)


# --- what is expected


def status(*values: int) -> Check:
    """One of these statuses."""
    return Check("status", value=values)


def hit(step: int = 1, code: int = 200) -> tuple[Check, ...]:
    """From the cache: the origin was not asked, the body is what it said in `step` (counted from 1)."""
    return (Check("status", value=(code,)), Check("count", value=(0, 0)), Check("from", value=step))


def miss(code: int = 200) -> tuple[Check, ...]:
    """From the origin, and this step's answer."""
    return (Check("status", value=(code,)), Check("count", value=(1, 9)), Check("from", value=0))


def revalidated(step: int = 1, code: int = 200) -> tuple[Check, ...]:
    """The origin was asked whether what it said in `step` still holds, and that was served."""
    return (Check("status", value=(code,)), Check("count", value=(1, 9)), Check("from", value=step))


def stored_in(step: int) -> Check:
    """The body is what the origin said in `step`, whether or not it was asked again."""
    return Check("from", value=step)


def count(low: int, high: int | None = None) -> Check:
    """How often the origin was asked in this step."""
    return Check("count", value=(low, low if high is None else high))


def later(times: int = 1) -> Check:
    """The origin is asked so often in this step, perhaps after the response."""
    return Check("later", value=times)


def equal(name: str, value: str) -> Check:
    """The response has the field with this value."""
    return Check("field", name.lower(), value)


def holds(name: str, value: str) -> Check:
    """The value is in the field."""
    return Check("holds", name.lower(), value)


def absent(*names: str) -> tuple[Check, ...]:
    """The response has none of these fields."""
    return tuple(Check("absent", name.lower()) for name in names)


def present(*names: str) -> tuple[Check, ...]:
    """The response has each of these fields."""
    return tuple(Check("present", name.lower()) for name in names)


def trailer(name: str, value: str) -> Check:
    """The response ends with this trailer field."""
    return Check("trailer", name.lower(), value)


def between(name: str, low: int, high: int) -> Check:
    """The field's value is one number in this range."""
    return Check("between", name.lower(), (low, high))


def body(value: bytes) -> Check:
    """The body."""
    return Check("body", value=value)


def matches(pattern: bytes) -> Check:
    """The whole body matches this regular expression."""
    return Check("matches", value=pattern)


def origin_saw(name: str, value: str) -> Check:
    """The last request of this step that the origin saw had the field with this value."""
    return Check("asked", name.lower(), value)


def origin_saw_body(value: bytes) -> Check:
    """The body of the last request of this step that the origin saw."""
    return Check("asked-body", value=value)


def origin_saw_in(name: str, *values: str) -> tuple[Check, ...]:
    """Each of these is in the field of the last request of this step that the origin saw."""
    return tuple(Check("asked-holds", name.lower(), value) for value in values)


def origin_lacked(*names: str) -> tuple[Check, ...]:
    """The last request of this step that the origin saw had none of these fields."""
    return tuple(Check("asked-absent", name.lower()) for name in names)


def origin_saw_some(*names: str) -> tuple[Check, ...]:
    """The last request of this step that the origin saw had these fields, with whatever value."""
    return tuple(Check("asked-present", name.lower()) for name in names)


def origin_method(value: str) -> Check:
    """The method of the last request of this step that the origin saw."""
    return Check("method", value=value)


def within(seconds: float) -> Check:
    """The whole response is there after so long at most."""
    return Check("seconds", value=seconds)


def interim(*statuses: int) -> Check:
    """The interim responses that came before."""
    return Check("interim", value=statuses)


def incomplete() -> Check:
    """The client can tell that the response is not whole, or got an error instead."""
    return Check("cut")


def parts(*ranges: tuple[str, bytes]) -> Check:
    """A multipart/byteranges body of these `Content-Range` values and their bytes."""
    return Check("parts", value=ranges)


def part_or_whole(begin: int, end: int, whole: bytes) -> Check:
    """A 206 with these bytes of `whole`, the last one included, or a 200 with all: Range may be ignored."""
    return Check("range", value=(begin, end, whole))


def said(**parameters: Any) -> Check:
    """Members of the last `Cache-Status` item; `_` is `-` in names, None an absent one, ... any value."""
    return Check("cache-status", value={name.replace("_", "-"): each for name, each in parameters.items()})


# --- rows


class Chapter:
    """The rows of one RFC, in the order in which they are added.

    No cache has to store anything: in a row that must hold, that something stored is used is only given,
    unless the row is `firm` about it.
    """

    def __init__(self, rfc: str) -> None:
        self.rfc = rfc
        self.cases: list[Case] = []

    def must(
        self,
        section: str,
        name: str,
        title: str,
        *steps: Step,
        atoll_only: bool = False,
        firm: bool = False,
    ) -> None:
        """A row without which the cache is wrong."""
        self._add(section, name, title, steps if firm else _given(steps), "required", atoll_only)

    def good(self, section: str, name: str, title: str, *steps: Step, atoll_only: bool = False) -> None:
        """A row without which the cache asks the origin more often, or says less, than it might."""
        self._add(section, name, title, steps, "optimal", atoll_only)

    def note(self, section: str, name: str, title: str, *steps: Step) -> None:
        """A row about a choice."""
        self._add(section, name, title, steps, "check", False)

    def _add(
        self, section: str, name: str, title: str, steps: tuple[Step, ...], level: Level, atoll_only: bool
    ) -> None:
        row = Case(
            id=name,
            title=title,
            rfc=self.rfc,
            section=section,
            level=level,
            steps=steps,
            atoll_only=atoll_only,
        )
        self.cases.append(row)


def _given(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(
        msgspec.structs.replace(
            step,
            checks=tuple(
                msgspec.structs.replace(check, given=True) if _uses_stored(check) else check
                for check in step.checks
            ),
        )
        for step in steps
    )


def _uses_stored(check: Check) -> bool:
    return (check.subject == "count" and check.value == (0, 0)) or (
        check.subject == "from" and check.value > 0
    )
