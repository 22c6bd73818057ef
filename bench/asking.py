"""Load of one metric on one target: which generator, which requests, and whether the answers were right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import httpx
import msgspec
import uvloop

from atoll.errors import AtollError
from bench import machine, objects, openloop, prefill, resume
from bench.load import H2_REQUESTS, Ask, Generators, Load
from bench.scenarios import Scenario
from bench.targets import Target

_EXCERPTS: Final = 12  # lists of URIs that h2load takes in turn
_DRAWS: Final = 200_000
_MIX_DRAWS: Final = 3_000_000
_MIX_EXPONENT: Final = 1.15
_NEW_FROM: Final = 1_000_000_000  # numbers that nothing else asks for
_NEW_EACH: Final = 10_000_000  # numbers kept for one run of the generator
_MIX_WARM_S: Final = 5.0  # of one run of the generator while a cache fills
_SLACK: Final = 0.03  # wrk says how much it has read in three digits
_HEAD: Final = 2_000  # bytes of a response's head, at most


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much is asked for."""

    objects: int
    mix_objects: int
    mix_warm: int  # requests before a mix is measured
    rate_per_s: float


class Asking:
    """The generators, and the files of requests they need, each made when it is first needed."""

    def __init__(self, generators: Generators, sizes: Sizes) -> None:
        self._generators = generators
        self._sizes = sizes
        self._runs = 0
        self._at: dict[str, int] = {}  # target → how far it has come in the mix

    @cached_property
    def zipf(self) -> Sequence[int]:
        """Numbers of a thousandfold of objects by Zipf's law."""
        return objects.zipf(self._sizes.objects, _DRAWS)

    @cached_property
    def _zipf_file(self) -> Path:
        return self._generators.write_order(self.zipf, "zipf")

    @cached_property
    def _uniform_file(self) -> Path:
        return self._generators.write_order(objects.uniform(self._sizes.objects, _DRAWS), "uniform")

    @cached_property
    def _mix_file(self) -> Path:
        order = objects.zipf(self._sizes.mix_objects, _MIX_DRAWS, _MIX_EXPONENT)
        return self._generators.write_order(order, "mix", objects.mixed_size)

    @property
    def over_tls(self) -> Sequence[int]:
        """What h2load asks for by Zipf's law."""
        return self.zipf[: H2_REQUESTS * _EXCERPTS]

    def _uris(self, scenario: Scenario) -> Sequence[Path]:
        scheme = "https" if scenario.tls else "http"
        if scenario.order == "one":
            return [self._generators.write_uris([1], "one", scheme)]
        pieces = objects.excerpts(self.zipf, H2_REQUESTS, _EXCERPTS)
        return [
            self._generators.write_uris(piece, f"zipf-{number}", scheme)
            for number, piece in enumerate(pieces)
        ]

    def check(self, target: Target, scenario: Scenario) -> None:
        """One request as it will be asked, its answer compared byte for byte.

        Raises:
            AtollError: it is another one.
        """
        if scenario.tool == "h2load" or scenario.order in ("unique", "mix"):
            return  # h2load checks itself; what is not there yet cannot be compared
        url = f"{'https' if scenario.tls else 'http'}://127.0.0.1:{port(target, scenario)}"
        headers = {"host": objects.HOST, **({"range": _range(scenario)} if scenario.range else {})}
        with httpx.Client(verify=prefill.unchecked_tls(), trust_env=False) as client:
            for _ in range(2):
                answer = client.get(url + objects.path(1, scenario.size), headers=headers)
        wanted = objects.body(1, scenario.size)
        first, end = scenario.range or (0, len(wanted))
        status = 206 if scenario.range else 200
        if answer.status_code != status or answer.content != wanted[first:end]:
            raise AtollError(
                f"answers {answer.status_code} with {len(answer.content)} bytes",
                hint=f"expected {status} with {end - first} bytes",
            )

    def warm(self, target: Target, scenario: Scenario, say: Callable[[str], None]) -> None:
        """Ask until the target has settled; `say` is told where that takes long."""
        self.check(target, scenario)
        if scenario.order != "mix":
            self.load(target, scenario, scenario.warm_s)
            return
        while (done := self._at.get(target.name, 0)) < self._sizes.mix_warm:
            of = f"{done:>9,} of {self._sizes.mix_warm:,}"
            say(f"{scenario.name:<12} {target.name:<7} {of} requests to fill it")
            self.load(target, scenario, _MIX_WARM_S)

    def load(self, target: Target, scenario: Scenario, seconds: float) -> Load:
        """Put load on a target.

        Raises:
            AtollError: not every answer was as it should be.
        """
        at, tls = port(target, scenario), scenario.tls
        if scenario.tool == "h2load":
            found = self._generators.h2(at, seconds, self._uris(scenario))
        elif scenario.tool == "resume":
            with machine.on_core(machine.LOAD_CORE):
                return resume.connect(at, seconds)
        elif scenario.tool == "paced":
            return self._paced(at, seconds)
        else:
            found = self._generators.h1(at, seconds, self._ask(target, scenario), tls)
        if scenario.order == "mix":
            self._at[target.name] = (self._at.get(target.name, 0) + found.requests) % _MIX_DRAWS
        else:
            _check_size(found, scenario)
        return found

    def _ask(self, target: Target, scenario: Scenario) -> Ask:
        headers = [f"Range: {_range(scenario)}"] if scenario.range else []
        headers += ["Connection: close"] if scenario.close else []
        ask = Ask(
            path=objects.path(1, scenario.size), headers=tuple(headers), connections=scenario.connections
        )
        match scenario.order:
            case "zipf":
                return msgspec.structs.replace(ask, order=self._zipf_file)
            case "uniform":
                return msgspec.structs.replace(ask, order=self._uniform_file)
            case "mix":
                first = self._at.get(target.name, 0)
                return msgspec.structs.replace(ask, order=self._mix_file, first=first)
            case "unique":
                self._runs += 1
                return msgspec.structs.replace(ask, unique=True, first=_NEW_FROM + self._runs * _NEW_EACH)
        return ask

    def _paced(self, at: int, seconds: float) -> Load:
        plan = openloop.Plan(
            port=at, requests=(prefill.request(1),), rate_per_s=self._sizes.rate_per_s, duration_s=seconds
        )
        with machine.on_core(machine.LOAD_CORE):
            seen = uvloop.run(openloop.run(plan))
        if seen.failed:
            raise AtollError(f"{seen.failed} of {seen.sent} requests failed")
        latency = seen.latency_us
        return Load(seen.answered, seen.took_s, p50_us=latency.percentile(50), p99_us=latency.percentile(99))


def port(target: Target, scenario: Scenario) -> int:
    """Where a metric is measured."""
    if scenario.tls:
        return target.https_port
    return target.h2c_port if scenario.tool == "h2load" else target.http_port


def _range(scenario: Scenario) -> str:
    assert scenario.range is not None, "asked for scenarios with a range only"
    first, end = scenario.range
    return f"bytes={first}-{end - 1}"


def _check_size(found: Load, scenario: Scenario) -> None:
    """Whether what was read is as much as the answers should have: statuses alone do not say so."""
    each = found.read_bytes / found.requests
    under_way = scenario.connections / found.requests  # answers that were read in part
    least, most = scenario.body_bytes * (1 - _SLACK), scenario.body_bytes * (1 + _SLACK + under_way) + _HEAD
    if not least <= each <= most:
        raise AtollError(f"answers had {each:,.0f} bytes", hint=f"expected {scenario.body_bytes:,}")
