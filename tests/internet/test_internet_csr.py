"""The graph in arrays says what the small model's graph says; its file survives damage."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internet_graphs import random_graph

from atoll.errors import AtollError
from atoll.internet import csr_file
from atoll.internet.csr import CsrGraph, build, from_graph
from atoll.internet.csr_file import load, load_as_rel, save


def same(one: CsrGraph, other: CsrGraph) -> bool:
    return all(
        np.array_equal(a, b) for a, b in zip(csr_file._arrays(one), csr_file._arrays(other), strict=True)
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(6, 80), st.booleans())
def test_neighbours_are_those_of_the_small_model(seed: int, size: int, connected: bool) -> None:
    graph = random_graph(seed, size, connected)
    rows = from_graph(graph)
    assert rows.asns.tolist() == list(graph.ases)
    assert rows.links == len(graph.links)
    assert rows.peer_links == sum(link.relation == "peer" for link in graph.links)
    for row, asn in enumerate(graph.ases):
        assert rows.row(asn) == row
        assert tuple(rows.asns[rows.providers.of(row)]) == graph.providers[asn]
        assert tuple(rows.asns[rows.customers.of(row)]) == graph.customers[asn]
        assert tuple(rows.asns[rows.peers.of(row)]) == graph.peers[asn]
        assert set(rows.asns[rows.neighbours(row)].tolist()) == graph.neighbours(asn)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(6, 80))
def test_customers_come_before_their_providers(seed: int, size: int) -> None:
    rows = from_graph(random_graph(seed, size))
    place = {row: at for at, row in enumerate(rows.order.tolist())}
    assert sorted(place) == list(range(rows.size))
    for row in range(rows.size):
        assert all(place[row] < place[provider] for provider in rows.providers.of(row).tolist())


@pytest.mark.parametrize(
    ("transit", "peering", "text"),
    [
        ([], [], "a graph without ASes"),
        ([(0, 1)], [], "AS0: not an AS number"),
        ([(1, 2**32)], [], "AS4294967296: not an AS number"),
        ([], [(3, 3)], "AS3: an AS cannot be linked to itself"),
        ([(1, 2)], [(2, 1)], "AS1 and AS2: these two have two links"),
        ([(1, 2), (2, 1)], [], "AS1 and AS2: these two have two links"),
        ([(1, 2), (2, 3), (3, 1), (3, 4)], [], "AS2 buys from AS1: these ASes are each other's providers: "),
    ],
)
def test_what_no_internet_has(
    transit: list[tuple[int, int]], peering: list[tuple[int, int]], text: str
) -> None:
    with pytest.raises(AtollError) as caught:
        build(transit, peering)
    assert str(caught.value).startswith(text)


def test_an_as_that_is_not_there() -> None:
    rows = build([(1, 2)], [(5, 2)])
    for asn in (3, 9):
        with pytest.raises(AtollError, match=f"AS{asn}: is not in the graph"):
            rows.row(asn)
        with pytest.raises(AtollError, match=f"AS{asn}: is not in the graph"):
            rows.rows([1, asn])
    assert rows.rows([5, 1]).tolist() == [2, 0]


def test_the_file_gives_the_graph_back(tmp_path: Path) -> None:
    graph = from_graph(random_graph(1, 200))
    kept = tmp_path / "new" / "a.csr"
    assert load(kept) is None
    assert save(graph, kept)
    found = load(kept)
    assert found is not None
    assert same(found, graph)
    assert [path.name for path in kept.parent.iterdir()] == ["a.csr"]


def test_writing_into_a_mapped_graph_does_not_reach_the_file(tmp_path: Path) -> None:
    kept = tmp_path / "a.csr"
    save(from_graph(random_graph(1, 50)), kept)
    before = kept.read_bytes()
    found = load(kept)
    assert found is not None
    found.order[0] = 7
    assert kept.read_bytes() == before


def damaged(content: bytes) -> dict[str, bytes]:
    middle = len(content) // 2
    return {
        "empty": b"",
        "head only": content[:64],
        "short": content[:-4],
        "long": content + b"\0" * 4,
        "other format": b"atollcs0" + content[8:],
        "sizes": content[:8] + b"\xff" * 8 + content[16:],
        "a bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
    }


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    source, folder = tmp_path / "rel.txt", tmp_path / "kept"
    source.write_bytes(b"1|2|-1\n2|3|-1\n2|4|0\n")
    graph = load_as_rel(source, folder)
    (kept,) = folder.iterdir()
    good = kept.read_bytes()
    for what, content in damaged(good).items():
        kept.write_bytes(content)
        assert load(kept) is None, what
        assert same(load_as_rel(source, folder), graph), what
        assert kept.read_bytes() == good, what


def test_what_has_been_read_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "rel.txt"
    source.write_bytes(b"1|2|-1\n")
    first = load_as_rel(source, tmp_path / "kept")
    monkeypatch.delattr(csr_file, "read_as_rel")
    assert same(load_as_rel(source, tmp_path / "kept"), first)
    source.write_bytes(b"1|3|-1\n")  # another source is another file
    with pytest.raises(NameError):
        load_as_rel(source, tmp_path / "kept")


def test_without_a_folder_to_write_in(tmp_path: Path) -> None:
    source, blocked = tmp_path / "rel.txt", tmp_path / "file"
    source.write_bytes(b"1|2|-1\n")
    blocked.write_text("not a folder")
    assert load_as_rel(source, blocked).links == 1
    assert load_as_rel(source).links == 1


def test_a_cycle_names_the_file(tmp_path: Path) -> None:
    source = tmp_path / "rel.txt"
    source.write_bytes(b"1|2|-1\n2|3|-1\n3|1|-1\n")
    with pytest.raises(AtollError, match=r"rel\.txt: AS2 buys from AS1: these ASes are each other's"):
        load_as_rel(source)


def test_the_oldest_files_go(tmp_path: Path) -> None:
    graph = build([(1, 2)], [])
    for number in range(csr_file.MAX_KEPT + 3):
        assert save(graph, tmp_path / f"{number:02}.csr")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == csr_file.MAX_KEPT
    assert all(one < other for one, other in pairwise(names))
    assert f"{csr_file.MAX_KEPT + 2:02}.csr" in names
