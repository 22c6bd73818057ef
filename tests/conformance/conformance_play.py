"""Plays cases against a cache at an address, with the scripted origin behind it; many at once.

Each case has URLs that nothing else has, so cases never meet, and a second run against a cache that still
holds the first one's responses sees none of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from time import time
from typing import Final, Literal

import msgspec
from conformance_case import Case, Step
from conformance_check import Failure, Seen, bodies_of, failures
from conformance_client import Response, ask
from conformance_origin import Script, ScriptedOrigin
from conformance_time import Places

AT_ONCE: Final = 50
_PAUSE_S: Final = 0.03  # between steps: a cache may store a response a moment after its last byte has gone
_LATER_S: Final = 3.0  # for a request to the origin that nobody waits for
_STORED_S: Final = 0.2  # for its answer to be stored

Outcome = Literal["pass", "fail", "unmet", "yes", "no"]


class Result(msgspec.Struct, frozen=True):
    """How a case went. `unmet`: it could not be tried, because what it builds on did not work."""

    case: Case
    outcome: Outcome
    failures: tuple[Failure, ...]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong: a choice never is."""
        return self.outcome in ("pass", "yes", "no")


class Player:
    """A cache under test and the origin behind it."""

    def __init__(self, address: tuple[str, int], host: str, origin: ScriptedOrigin) -> None:
        self._address = address
        self._host = host
        self._origin = origin
        self._run = secrets.token_hex(4)

    async def play_all(
        self, cases: Sequence[Case], at_once: int = AT_ONCE, tell: Callable[[Result], None] | None = None
    ) -> list[Result]:
        """Every case, in the order given."""
        room = asyncio.Semaphore(at_once)

        async def one(case: Case) -> Result:
            async with room:
                result = await self.play(case)
            if tell is not None:
                tell(result)
            return result

        # Those that wait come first, so that the others fill the time.
        order = sorted(
            range(len(cases)), key=lambda index: -sum(s.wait_s + s.rest_s for s in cases[index].steps)
        )
        tasks = {index: asyncio.ensure_future(one(cases[index])) for index in order}
        await asyncio.gather(*tasks.values())
        return [tasks[index].result() for index in range(len(cases))]

    async def play(self, case: Case) -> Result:
        """One case: all its steps, even after one has failed, for the most to read."""
        key = f"{self._run}.{case.id}"
        script = Script(case.id, Places(time(), f"/{key}", self._host))
        self._origin.scripts[key] = script
        found: list[Failure] = []
        waiting: list[tuple[int, Step, asyncio.Task[list[Response]]]] = []
        for number, step in enumerate(case.steps, start=1):
            await asyncio.sleep(max(step.wait_s, _PAUSE_S if number > 1 else 0.0))
            script.step, script.answer = number, step.answer
            task = asyncio.ensure_future(self._send(script, step))
            if step.behind:
                await _until(script, lambda n=number: n in script.begun)  # type: ignore[misc]
                waiting.append((number, step, task))
                continue
            found += await self._judge(case, script, number, step, task)
            await asyncio.sleep(step.rest_s)
        for number, step, task in waiting:
            found += await self._judge(case, script, number, step, task)
        del self._origin.scripts[key]
        return Result(case, _outcome(case, found), tuple(sorted(found, key=lambda f: f.step)))

    async def _judge(
        self, case: Case, script: Script, number: int, step: Step, task: asyncio.Task[list[Response]]
    ) -> list[Failure]:
        responses = await task
        for check in step.checks:
            if check.subject == "later":
                await _until(script, lambda wanted=check.value: len(script.in_step(number)) >= wanted)  # type: ignore[misc]
                await asyncio.sleep(step.answer.delay_s + _STORED_S)
        bodies = bodies_of(case.id, case.steps, number)
        seen = Seen(responses, script.in_step(number), script.places, time(), bodies)
        return failures(step, number, seen)

    async def _send(self, script: Script, step: Step) -> list[Response]:
        now_s, places = time(), script.places
        target = places.fill(step.target or f"{places.base}{step.suffix}", now_s)
        lines = [f"{step.method} {target} {step.version}", f"Host: {places.fill(step.host, now_s)}"]
        lines += [places.fill(line, now_s) for line in step.lines]
        if step.body is not None:
            lines.append(f"Content-Length: {len(step.body)}")
        request = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (step.body or b"")
        head = step.method == "HEAD"
        calls = [ask(self._address, request, head=head, leave_s=step.leave_s) for _ in range(step.times)]
        return list(await asyncio.gather(*calls))


async def _until(script: Script, condition: Callable[[], bool]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LATER_S):
            while not condition():
                await script.changed.wait()


def _outcome(case: Case, found: list[Failure]) -> Outcome:
    if any(failure.setup for failure in found):
        return "unmet"
    if case.level == "check":
        return "no" if found else "yes"
    return "fail" if found else "pass"
