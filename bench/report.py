"""Rounds into medians and ratios: the one JSON shape of every benchmark, and its table. Pure.

A ratio is Atoll's rate over the peer's, taken round by round (they ran one after the other) and then the
median: above 1 Atoll is ahead. `<peer>/<metric>` compares requests a second; `<peer>/<metric>-cpu` compares
CPU per request, which stays true where the load generator is the slower side. Metrics of large bodies are
counted in megabytes (10^6 bytes of body) instead of requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from bench.load import Sample
from bench.machine import Machine
from bench.scenarios import SCENARIOS, Scenario

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
    left_out: dict[str, str] = {}  # target, or target/metric, and why

    @property
    def ok(self) -> bool:
        """Whether Atoll has done all that it was asked to do."""
        return not any(name.split("/")[0] == ATOLL for name in self.left_out)

    def other(self, rounds: Rounds) -> dict[str, str]:
        """What the table of `rounds` does not say: results of no metric, each with its targets."""
        found: dict[str, list[str]] = {}
        for each in self.results:
            if each.metric not in rounds:
                found.setdefault(each.metric, []).append(f"{each.target} {each.p50:,.1f} {each.unit}")
        return {metric: ", ".join(values) for metric, values in found.items()}


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
    """Every target's rate, CPU per request, share of its core, latencies and memory."""
    found = []
    for metric, targets in rounds.items():
        per, each = _per(metric)
        for target, samples in targets.items():
            columns = {
                f"{per}/s": [sample.per_s * each for sample in samples],
                f"us CPU/{per}": [sample.cpu_us / each for sample in samples],
                "core": [sample.busy for sample in samples],
                "us p50": [sample.p50_us for sample in samples],
                "us p99": [sample.p99_us for sample in samples],
                "MB": [sample.memory_bytes / 1e6 for sample in samples],
            }
            if _mixed(metric):
                columns["hit ratio"] = [sample.hit_ratio or 0.0 for sample in samples]
            found += [result(target, metric, unit, values) for unit, values in columns.items() if any(values)]
    return tuple(found)


def _per(metric: str) -> tuple[str, float]:
    """What a metric counts, and how many of it are in a request."""
    scenario = SCENARIOS.get(metric)
    if scenario is None or scenario.per == "req":
        return "req", 1.0
    return scenario.per, scenario.body_bytes / 1e6 if scenario.per == "MB" else 1.0


def _mixed(metric: str) -> bool:
    return metric in SCENARIOS and SCENARIOS[metric].order == "mix"


def ratios(rounds: Rounds) -> dict[str, float]:
    """Atoll beside each peer, where both were measured."""
    found: dict[str, float] = {}
    for metric, targets in rounds.items():
        own = targets.get(ATOLL, ())
        for peer, samples in targets.items():
            if peer != ATOLL and own:
                pairs = list(zip(own, samples, strict=True))
                found[f"{peer}/{metric}"] = _rounded(median(a.per_s / b.per_s for a, b in pairs))
                found[f"{peer}/{metric}-cpu"] = _rounded(median(b.cpu_us / a.cpu_us for a, b in pairs))
    return found


def line(scenario: Scenario, number: int, rounds: int, target: str, sample: Sample) -> str:
    """One round of one target, for the person who waits."""
    per, each = _per(scenario.name)
    rate = f"{sample.per_s * each:>9,.0f} {per}/s  {sample.cpu_us / each:7.2f} µs CPU/{per}"
    hits = f"  {sample.hit_ratio:.1%} hits" if _mixed(scenario.name) and sample.hit_ratio is not None else ""
    return f"{scenario.name:<12} round {number}/{rounds}  {target:<7} {rate}{hits}"


COLUMNS = (
    "metric",
    "target",
    ">per s",
    "",
    ">min",
    ">max",
    ">µs CPU each",
    ">core",
    ">p50",
    ">p99",
    ">memory",
    ">hits",
    ">rate ratio",
    ">CPU ratio",
)


def table(rounds: Rounds) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for a person."""
    ahead = ratios(rounds)
    return list(COLUMNS), [
        _row(metric, target, samples, ahead)
        for metric, targets in rounds.items()
        for target, samples in targets.items()
    ]


def _row(metric: str, target: str, samples: Sequence[Sample], ahead: Mapping[str, float]) -> list[str]:
    per, each = _per(metric)
    rates = [sample.per_s * each for sample in samples]
    key = f"{target}/{metric}"
    hits = [sample.hit_ratio for sample in samples if sample.hit_ratio is not None]
    return [
        metric,
        target,
        f"{median(rates):,.0f}",
        per,
        f"{min(rates):,.0f}",
        f"{max(rates):,.0f}",
        f"{median(sample.cpu_us for sample in samples) / each:.2f}",
        f"{median(sample.busy for sample in samples):.0%}",
        _milliseconds(median(sample.p50_us for sample in samples)),
        _milliseconds(median(sample.p99_us for sample in samples)),
        f"{median(sample.memory_bytes for sample in samples) / 1e6:,.0f} MB",
        f"{median(hits):.1%}" if hits and _mixed(metric) else "",
        f"{ahead[key]:.2f}×" if key in ahead else "",
        f"{ahead[f'{key}-cpu']:.2f}×" if key in ahead else "",
    ]


def _milliseconds(duration_us: float) -> str:
    return f"{duration_us / 1000:.2f} ms" if duration_us else ""


def _rounded(value: float) -> float:
    return round(value, 3)
