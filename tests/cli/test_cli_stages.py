"""What a starting network still waits for, and what would never pass by itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from atoll.cli.stages import unready, unsettled
from atoll.control.answers import Pop, Status
from atoll.wire.messages import ProcessInfo

LHR = Pop(
    code="lhr", city="london", country="GB", asn=64513, http_port=1, https_port=2, state="up", seq=7,
    heard_s=0.5, store="a",
)  # fmt: skip


def status(newest: int | None, **changes: Any) -> Status:
    pop = msgspec.structs.replace(LHR, **changes)
    return Status(name="n", seq=newest, latency="off", pops=(pop,), processes=(), catchment=(), store="a")


@pytest.mark.parametrize(
    ("found", "waits"),
    [
        (status(7), []),
        (status(None), ["api has no store"]),
        (status(9), ["lhr-agent serves seq 7 of 9"]),
        (status(9, store=""), ["lhr-agent serves seq 7 of 9"]),
        (status(9, store="b"), []),
        (status(9, seq=None), ["lhr-agent is silent"]),
        (status(9, seq=None, state="down"), []),
        (msgspec.structs.replace(status(7), degraded=("fn.x cannot be read",)), []),
    ],
)
def test_only_what_settles_by_itself_is_waited_for(found: Status, waits: list[str]) -> None:
    assert unsettled(found) == waits


def test_processes_that_do_not_serve_yet() -> None:
    nats, api = (ProcessInfo(name=name, pid=1, state="starting") for name in ("nats", "api"))
    assert unready([nats, api], "nats") == ["nats is starting"]
