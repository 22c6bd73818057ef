"""The model of the Internet beside BGPy, small: both choose alike, prepended origins too."""

from pathlib import Path

import pytest

from bench.catchment import ORIGINS, Options, run, table


def test_both_choose_alike() -> None:
    report = run(Options(ases=400, rounds=3), lambda _: None)
    assert report.left_out == {}
    assert report.ok
    assert [plan.agree for plan in report.plans] == [1.0] * (len(ORIGINS) + 1)
    assert [plan.prepends for plan in report.plans] == [False] * len(ORIGINS) + [True]
    assert len(table(report)[1]) == len(report.plans)


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    file = tmp_path / "as-rel"
    file.write_text("1|2|-1\n1|3|-1\n2|3|0\n2|4|-1\n3|5|-1\n4|5|0\n")
    report = run(Options(as_rel=file, rounds=3, peers=False), lambda _: None)
    assert (report.ases, report.links) == (5, 6)
    assert report.plans[0].agree is None
    assert report.plans[0].reached == pytest.approx(1.0)
