"""CAIDA's files: both serials, three packings, and every fault with its line."""

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll.errors import AtollError
from atoll.internet import as_rel
from atoll.internet.as_rel import Relations, parse_as_rel, read_as_rel

SERIAL_1 = b"# source: made up\n1|2|-1\n\n3|2|0\r\n1|4294967295|-1"
SERIAL_2 = b"# source: made up\n1|2|-1|bgp\n2|3|0|mlp\n1|4294967295|-1|bgp\n"
WANTED = Relations(((1, 2), (1, 4294967295)), ((2, 3),))


@pytest.mark.parametrize("content", [SERIAL_1, SERIAL_2])
@pytest.mark.parametrize("pack", [bytes, bz2.compress, gzip.compress])
def test_every_form_reads_the_same(tmp_path: Path, content: bytes, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.txt"  # the name says nothing about the packing
    path.write_bytes(pack(content))
    assert read_as_rel(path) == WANTED


def test_the_same_link_twice_counts_once() -> None:
    lines = (b"1|2|-1", b"1|2|-1|mlp", b"3|2|0", b"2|3|0")
    assert parse_as_rel(lines, "f") == Relations(((1, 2),), ((2, 3),))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"1|2", "2 columns (<provider>|<customer>|-1"),
        (b"1|2|-1|bgp|x", "5 columns"),
        (b"x|2|0", "'x' is no AS number (1 to 4294967295)"),
        (b"0|2|0", "'0' is no AS number"),
        (b"1|4294967296|0", "'4294967296' is no AS number"),
        (b"+1|2|0", "'+1' is no AS number"),
        (b"1_0|2|0", "'1_0' is no AS number"),
        (b"\xd9\xa1|2|0", "is no AS number"),
        (b"1|-2|0", "'-2' is no AS number"),
        (b"1|2|1", "relation '1' (-1 (sells to) or 0 (peers))"),
        (b"1|2|", "relation ''"),
        (b"7|7|0", "AS7 is linked to itself (remove the line)"),
        (b"8|9|0", "AS8 and AS9 have another relation in line 2 (keep one of the two lines)"),
        (b"9|8|-1", "AS8 and AS9 have another relation in line 2"),
    ],
)
def test_faults_name_the_line(tmp_path: Path, line: bytes, text: str) -> None:
    path = tmp_path / "rel.txt"
    path.write_bytes(b"# head\n8|9|-1\n" + line + b"\n5|6|0\n")
    with pytest.raises(AtollError) as caught:
        read_as_rel(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert text in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"# only a comment\n\n"])
def test_a_file_without_links(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rel.txt"
    path.write_bytes(content)
    with pytest.raises(AtollError, match="no links in this file"):
        read_as_rel(path)


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress])
def test_half_of_a_packed_file(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "rel.bz2"
    packed = pack(SERIAL_1 * 1)
    path.write_bytes(packed[: len(packed) - 9])
    with pytest.raises(AtollError, match="cannot be read"):
        read_as_rel(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(AtollError, match="cannot be read: No such file"):
        read_as_rel(tmp_path / "gone")


def test_a_line_without_end_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "bomb.bz2"
    path.write_bytes(bz2.compress(b"1" * 50_000_000))
    with pytest.raises(AtollError, match=r"bomb\.bz2:1: line of more than 512 bytes"):
        read_as_rel(path)


def test_too_many_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rel.txt"
    path.write_bytes(b"1|2|0\n" * 3)
    monkeypatch.setattr(as_rel, "MAX_LINES", 3)
    assert read_as_rel(path).peering == ((1, 2),)
    monkeypatch.setattr(as_rel, "MAX_LINES", 2)
    with pytest.raises(AtollError, match="more than 2 lines"):
        read_as_rel(path)
