"""Rounds into medians and ratios: the one JSON shape of every benchmark, and its table. Pure.

A ratio is Atoll's rate over the peer's, taken round by round (they ran one after the other) and then the
median: above 1 Atoll is ahead. `<peer>/<metric>` compares requests a second; `<peer>/<metric>-cpu` compares
CPU per request, which stays true where the load generator is the slower side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from bench.load import Sample
from bench.machine import Machine

ATOLL = "atoll"
Rounds = Mapping[str, Mapping[str, Sequence[Sample]]]
"""Metric to target to its samples, one a round."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One number of one target."""

    target: str
    metric: str
    unit: str
    p50: float
    min: float
    max: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    name: str
    machine: Machine
    rounds: int
    results: tuple[Result, ...]
    ratios: dict[str, float]
    notes: dict[str, str] = {}


def result(target: str, metric: str, unit: str, values: Sequence[float]) -> Result:
    """The median and the extremes of what the rounds gave."""
    return Result(
        target=target,
        metric=metric,
        unit=unit,
        p50=_rounded(median(values)),
        min=_rounded(min(values)),
        max=_rounded(max(values)),
    )


def results(rounds: Rounds) -> tuple[Result, ...]:
    """Every target's rate, CPU per request and share of its core."""
    found = []
    for metric, targets in rounds.items():
        for target, samples in targets.items():
            found += [
                result(target, metric, "req/s", [sample.per_s for sample in samples]),
                result(target, metric, "us CPU/req", [sample.cpu_us for sample in samples]),
                result(target, metric, "core", [sample.busy for sample in samples]),
            ]
    return tuple(found)


def ratios(rounds: Rounds) -> dict[str, float]:
    """Atoll beside each peer."""
    found: dict[str, float] = {}
    for metric, targets in rounds.items():
        own = targets[ATOLL]
        for peer, samples in targets.items():
            if peer != ATOLL:
                pairs = list(zip(own, samples, strict=True))
                found[f"{peer}/{metric}"] = _rounded(median(a.per_s / b.per_s for a, b in pairs))
                found[f"{peer}/{metric}-cpu"] = _rounded(median(b.cpu_us / a.cpu_us for a, b in pairs))
    return found


def table(rounds: Rounds) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for a person."""
    columns = [
        "metric",
        "target",
        ">req/s",
        ">min",
        ">max",
        ">µs CPU/req",
        ">core",
        ">rate ratio",
        ">CPU ratio",
    ]
    ahead = ratios(rounds)
    rows = []
    for metric, targets in rounds.items():
        for target, samples in targets.items():
            rates = [sample.per_s for sample in samples]
            key = f"{target}/{metric}"
            rows.append(
                [
                    metric,
                    target,
                    f"{median(rates):,.0f}",
                    f"{min(rates):,.0f}",
                    f"{max(rates):,.0f}",
                    f"{median(sample.cpu_us for sample in samples):.2f}",
                    f"{median(sample.busy for sample in samples):.0%}",
                    f"{ahead[key]:.2f}×" if key in ahead else "",
                    f"{ahead[f'{key}-cpu']:.2f}×" if key in ahead else "",
                ]
            )
    return columns, rows


def _rounded(value: float) -> float:
    return round(value, 3)
