"""`atoll certs`: what needs no network, and what is said without one."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from tls_files import pem_for

from atoll.cli.main import FAILED, run
from atoll.config.paths import resolve
from atoll.control.certificate_store import CertificateStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CertificateStore:
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path / "home"))
    return CertificateStore(resolve({"ATOLL_HOME": str(tmp_path / "home")}, 0))


def test_an_imported_certificate_is_listed_and_removed(
    store: CertificateStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "both.pem").write_bytes(pem_for("*.shop.test", "shop.test"))
    assert run(["certs", "import", str(tmp_path / "both.pem"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["id"], record["names"]) == ("wildcard.shop.test", ["*.shop.test", "shop.test"])
    assert b"PRIVATE KEY" in (store.folder / "wildcard.shop.test.pem").read_bytes()
    assert run(["certs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [record]
    assert run(["certs", "list"]) == 0
    assert "*.shop.test shop.test" in capsys.readouterr().out
    assert run(["certs", "remove", "wildcard.shop.test"]) == 0
    assert list(store.folder.iterdir()) == []
    assert store.records() == ()


def test_the_key_may_be_in_a_file_of_its_own(
    store: CertificateStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, _, certificate = pem_for("shop.test").partition(b"-----BEGIN CERTIFICATE-----")
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "chain.pem").write_bytes(b"-----BEGIN CERTIFICATE-----" + certificate)
    assert run(["certs", "import", str(tmp_path / "chain.pem"), "--key", str(tmp_path / "key.pem")]) == 0
    assert store.get("shop.test").source == "imported"
    assert "import the next one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a certificate with its key"),
        (pem_for("a.test").partition(b"-----BEGIN CERT")[0], "not a certificate with its key: 1 keys"),
        (
            pem_for("a.test").partition(b"-----BEGIN CERT")[0]
            + b"-----BEGIN CERT"
            + pem_for("a.test").partition(b"-----BEGIN CERT")[2],
            "another certificate's",
        ),
        (pem_for("a.test", days=-0), "has expired"),
    ],
    ids=["nothing", "a key alone", "two that do not belong together", "expired"],
)
def test_what_cannot_serve_is_refused(
    store: CertificateStore, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, said: str
) -> None:
    (tmp_path / "x.pem").write_bytes(data)
    assert run(["certs", "import", str(tmp_path / "x.pem")]) == FAILED
    shown = capsys.readouterr().err
    assert said in shown
    assert str(tmp_path / "x.pem") in shown
    assert store.records() == ()


@pytest.mark.parametrize("arguments", [["issue", "www.example.com"], ["renew"], ["renew", "www.example.com"]])
@pytest.mark.usefixtures("store")
def test_orders_need_a_network_that_answers(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["certs", *arguments]) == FAILED
    assert "nobody would answer the authority" in capsys.readouterr().err


@pytest.mark.parametrize("id", ["unknown.test", "../x", ""])
@pytest.mark.usefixtures("store")
def test_an_unknown_certificate_is_said(id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["certs", "remove", id]) == FAILED
    assert "no certificate" in capsys.readouterr().err


def test_failures_are_shown(
    store: CertificateStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.pem").write_bytes(pem_for("shop.test"))
    run(["certs", "import", str(tmp_path / "x.pem")])
    record = store.get("shop.test")
    store.keep(
        msgspec.structs.replace(record, source="acme", failures=3, retry_s=2e9, trouble="was not proven")
    )
    capsys.readouterr()
    assert run(["certs", "list"]) == 0
    assert "3×: was not proven" in capsys.readouterr().out
