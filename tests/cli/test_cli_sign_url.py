"""`atoll sign-url` makes what the edge accepts."""

from __future__ import annotations

import json
from pathlib import Path
from time import time
from urllib.parse import urlsplit

import pytest

from atoll.cli import main
from atoll.edge.admission.addresses import address_of
from atoll.edge.admission.signed_url import verify

SECRET = "a secret of thirty-two bytes, ok"
KEYS = {b"k1": SECRET.encode()}
ME = address_of("192.0.2.7")


def signed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main.run(["sign-url", *arguments, "--key-id", "k1"]) == 0
    return capsys.readouterr().out.strip()


def target(url: str) -> bytes:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}".encode()


def test_a_signed_url_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET + "\n", encoding="utf-8")
    url = signed(
        capsys, "https://shop.test/v/1/a?x=1", "--secret-file", str(file), "--address", "192.0.2.0/24"
    )
    assert url.startswith("https://shop.test/v/1/a?x=1&atoll-key=k1&")
    assert verify(KEYS, target(url), ME, time()) == ""
    assert verify(KEYS, target(url), ME, time() + 3601) != ""
    monkeypatch.setenv("ATOLL_SIGNING_SECRET", SECRET)
    shown = json.loads(signed(capsys, "/v/1/a", "--prefix", "/v/1/", "--expires-in", "60", "--json"))
    assert verify(KEYS, target(shown["url"]).replace(b"/v/1/a", b"/v/1/b"), ME, time()) == ""
    assert 50 < shown["expires_s"] - time() <= 60


@pytest.mark.parametrize("url", ["https://shop.test/a#b", "mailto:x", "/a b", "/a?atoll-key=x"])
def test_what_cannot_be_signed_is_a_sentence(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATOLL_SIGNING_SECRET", SECRET)
    assert main.run(["sign-url", url, "--key-id", "k1"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_a_secret_is_needed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("ATOLL_SIGNING_SECRET", raising=False)
    assert main.run(["sign-url", "/a", "--key-id", "k1"]) == 1
    assert "there is no secret" in capsys.readouterr().err
    monkeypatch.setenv("ATOLL_SIGNING_SECRET", "short")
    assert main.run(["sign-url", "/a", "--key-id", "k1"]) == 1
