"""Stampedes judged from what everybody got, by table; the whole of it is run in tests/e2e."""

from __future__ import annotations

import pytest

from atoll.lab.content import content
from atoll.lab.reader import Got
from atoll.lab.scene import Scene
from atoll.lab.stampede import Kill, Plan, Trial, judge, look

PATH = "/cold"
BODY = content(PATH, 0, 300)
SCENE = Scene(
    gateway=("127.0.0.1", 1),
    origin=("127.0.0.1", 2),
    cities={"lhr": "london", "iad": "new-york", "nrt": "tokyo"},
    shield="iad",
)


def got(body: bytes = BODY, *, status: int = 200, error: str = "", took_ms: float = 200.0) -> Got:
    return Got(began_s=0.0, done_s=took_ms / 1000, status=0 if error else status, body=body, error=error)


def test_what_everybody_got_is_counted() -> None:
    answers = [
        [got(took_ms=210.0)],
        [got(took_ms=250.0)],
        [got(error="reset"), got(took_ms=100.0)],
        [got(error="closed"), got(error="reset"), got(error="closed")],
        [got(status=502)],
        [got(BODY[:-1])],
    ]
    trial = look(PATH, answers, 4)
    assert (trial.requests, trial.origin_requests) == (6, 4)
    assert (trial.unanswered, trial.wrong, trial.retried, trial.thrice) == (2, 1, 2, 1)
    assert trial.errors == {"reset": 2, "closed": 2, "status 502": 1}
    assert trial.latency_ms.max == 250.0


def trial_of(origin_requests: int, *answers: Got) -> Trial:
    return look(PATH, [[answer] for answer in answers or (got(),)], origin_requests)


@pytest.mark.parametrize(
    ("trial", "kill", "fine"),
    [
        (trial_of(1), "", True),
        (trial_of(2), "", False),
        (trial_of(0), "", False),  # then it was not cold, and nothing has been shown
        (trial_of(4), "pop", True),
        (trial_of(5), "pop", False),
        (trial_of(1, got(error="reset")), "worker", False),
        (trial_of(1, got(b"other")), "", False),
    ],
)
def test_the_verdict(trial: Trial, kill: Kill, fine: bool) -> None:
    plan = Plan(requests=1, trials=2, name="x", kill=kill)
    assert judge(SCENE, plan, [trial_of(1), trial]).ok is fine
