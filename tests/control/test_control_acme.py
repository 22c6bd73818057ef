"""Certificates by ACME: real HTTP, signatures and challenges, answered by an edge worker's door."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import socket
import ssl
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from acme_server import AcmeServer, Refusal
from edge_world import World, get, read_response, running

from atoll.config.paths import Paths
from atoll.control import issuance
from atoll.control.certificate_store import CertificateStore, Record
from atoll.control.certificates import ensure_leaves
from atoll.edge.door import Door
from atoll.errors import AtollError
from atoll.http import tls
from atoll.http.accept import Listener
from atoll.node.renewals import Renewals

NAMES = ("www.shop.test", "shop.test")


class Lab:
    """An edge worker on both kinds of port, an ACME server that reaches it, and the files between them."""

    def __init__(self, world: World, folder: Path) -> None:
        self.paths = Paths(home=folder / "home", run=folder / "run", token=folder / "token")
        self.store = CertificateStore(self.paths)
        self.world = world
        self.paths.home.mkdir(parents=True)
        ensure_leaves(self.paths.ca, ["localhost"], dt.datetime.now(dt.UTC))
        self.contexts = tls.CertificateStore(self.paths.ca / "leaf", "localhost", self.paths.certificates)
        self.http = self._listen(None)
        self.https = self._listen(self.contexts)
        self.server = AcmeServer(folder / "public", self.http[1])

    def _listen(self, contexts: tls.CertificateStore | None) -> tuple[Listener, tuple[str, int]]:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        door = Door(self.world.edge, self.paths.acme / "challenges")
        return Listener(door, sock, contexts), sock.getsockname()

    async def issue(self, *names: str, agreed: bool = True) -> Record:
        """Order in a thread, as a network does."""
        return await asyncio.to_thread(
            issuance.issue, self.store, names, directory=self.server.directory, agreed=agreed
        )

    async def visit(self, name: str) -> str:
        """A request over TLS by a client that believes the public authority; the certificate's serial."""
        context = ssl.create_default_context(cadata=self.server.ca_pem.decode())
        reader, writer = await asyncio.open_connection(*self.https[1], ssl=context, server_hostname=name)
        writer.write(get(b"/", host=b"shop.test"))
        assert (await read_response(reader)).status == 200
        serial: str = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"].lower()
        writer.close()
        return serial.lstrip("0")

    def stop(self) -> None:
        """Listen no more."""
        self.server.stop()
        self.http[0].close()
        self.https[0].close()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with running() as world:
        lab = Lab(world, tmp_path)
        yield lab
        lab.stop()


async def test_a_certificate_for_several_names_is_issued_and_serves_at_once(lab: Lab) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await lab.visit("www.shop.test")
    record = await lab.issue("www.shop.test", "Shop.test.")
    assert (record.id, record.names) == ("www.shop.test", NAMES)
    assert lab.server.proven == list(NAMES)
    for name in NAMES:
        assert await lab.visit(name) == record.serial.lstrip("0")
    life_s = record.not_after_s - record.not_before_s
    assert 0.6 < (record.renew_s - record.not_before_s) / life_s < 0.67


async def test_keys_are_their_owners_alone_and_challenges_do_not_stay(lab: Lab) -> None:
    await lab.issue(*NAMES)
    secret = [lab.paths.certificates / "www.shop.test.pem", *lab.paths.acme.rglob("key.pem")]
    assert len(secret) == 2
    for file in secret:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list((lab.paths.acme / "challenges").iterdir()) == []
    assert b"PRIVATE KEY" not in b"".join(f.read_bytes() for f in lab.paths.acme.rglob("*.json"))


async def test_the_account_is_made_once_and_its_terms_are_asked_for(lab: Lab) -> None:
    with pytest.raises(AtollError, match="terms have not been agreed") as caught:
        await lab.issue("shop.test", agreed=False)
    assert caught.value.where == lab.server.terms
    await lab.issue("shop.test")
    await lab.issue("www.shop.test", agreed=False)
    assert len(lab.server._accounts) == 1


async def test_a_renewal_has_another_key_and_is_served(lab: Lab) -> None:
    first = await lab.issue(*NAMES)
    before = lab.store.pem(first.id)
    second = await asyncio.to_thread(issuance.renew, lab.store, first.id)
    assert second.serial != first.serial
    assert lab.store.pem(first.id).split(b"-----END")[0] != before.split(b"-----END")[0]
    assert await lab.visit("shop.test") == second.serial.lstrip("0")


async def test_a_name_that_does_not_lead_here_is_said_and_nothing_changes(lab: Lab) -> None:
    record = await lab.issue("shop.test")
    lab.server.reach = ("127.0.0.1", 9)
    with pytest.raises(AtollError, match=r"shop\.test was not proven") as caught:
        await asyncio.to_thread(issuance.renew, lab.store, record.id)
    assert "port 80" in caught.value.hint
    after = lab.store.get(record.id)
    assert (after.failures, after.serial) == (1, record.serial)
    assert "not proven" in after.trouble
    assert after.retry_s > time.time() + 600
    assert await lab.visit("shop.test") == record.serial.lstrip("0")
    assert list((lab.paths.acme / "challenges").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "refusal", "said", "hint"),
    [
        ("/newOrder", Refusal(429, "rateLimited", "too many"), "refuses: too many", "wait"),
        ("/newOrder", Refusal(403, "rejectedIdentifier", "not that one"), "refuses: not that one", ""),
        ("/finalize", Refusal(500, "serverInternal", "oh"), "refuses: oh", ""),
        ("/directory", Refusal(503, "serverInternal", "down"), "refuses: down", ""),
    ],
)
async def test_what_the_server_refuses_is_said(
    lab: Lab, path: str, refusal: Refusal, said: str, hint: str
) -> None:
    lab.server.refuse = lambda asked: refusal if asked.startswith(path) else None
    with pytest.raises(AtollError, match=said) as caught:
        await lab.issue("shop.test")
    assert hint in caught.value.hint
    assert lab.store.records() == ()


async def test_a_server_that_is_not_there_is_said(lab: Lab) -> None:
    lab.server.stop()
    with pytest.raises(AtollError, match="cannot be reached"):
        await lab.issue("shop.test")


@pytest.mark.parametrize(
    "names", [("*.shop.test",), ("a b",), ("localhost",), ("127.0.0.1",), (), ("x" * 300,)]
)
async def test_names_that_cannot_be_proven_are_refused_before_anybody_is_asked(
    lab: Lab, names: tuple[str, ...]
) -> None:
    with pytest.raises(AtollError):
        await lab.issue(*names)
    assert lab.server.seen == []


async def test_renewals_order_what_is_due_and_nothing_else(lab: Lab) -> None:
    due, later = await lab.issue("www.shop.test"), await lab.issue("shop.test")
    lab.store.keep(msgspec.structs.replace(due, renew_s=time.time() - 1))
    assert await Renewals(lab.store).look() == (due.id,)
    assert lab.store.get(later.id).serial == later.serial
    renewed = lab.store.get(due.id)
    assert renewed.serial != due.serial
    assert renewed.renew_s > time.time() + 30 * 86_400
    assert await Renewals(lab.store).look() == ()


async def test_a_renewal_that_fails_is_tried_again_later_and_serving_goes_on(lab: Lab) -> None:
    record = await lab.issue("shop.test")
    lab.store.keep(msgspec.structs.replace(record, renew_s=time.time() - 1))
    lab.server.refuse = lambda asked: Refusal(500, "serverInternal", "oh") if asked == "/newOrder" else None
    looking = asyncio.ensure_future(Renewals(lab.store).look())
    while not looking.done():
        assert await lab.visit("shop.test") == record.serial.lstrip("0")
    assert looking.result() == ()
    assert await Renewals(lab.store).look() == ()  # not yet again
    failed = lab.store.get(record.id)
    assert (failed.failures, failed.serial) == (1, record.serial)
    lab.server.refuse = lambda asked: None
    lab.store.keep(msgspec.structs.replace(failed, retry_s=0.0))
    assert await Renewals(lab.store).look() == (record.id,)
    assert lab.store.get(record.id).failures == 0


async def test_one_damaged_record_keeps_no_other_from_being_renewed(lab: Lab) -> None:
    due = await lab.issue("shop.test")
    lab.store.keep(msgspec.structs.replace(due, renew_s=time.time() - 1))
    (lab.paths.acme / "records/a.test.json").write_text("{")
    assert await Renewals(lab.store).look() == (due.id,)


async def test_the_authoritys_suggestion_is_followed(lab: Lab) -> None:
    now = dt.datetime.now(dt.UTC)
    lab.server.window = (now - dt.timedelta(hours=2), now - dt.timedelta(hours=1))  # it wants it back
    record = await lab.issue("shop.test")
    lab.store.keep(msgspec.structs.replace(record, look_s=0.0))
    assert await Renewals(lab.store).look() == (record.id,)
    assert any(path.startswith("/renewalInfo/") for path in lab.server.seen)
    assert lab.store.get(record.id).serial != record.serial


async def test_a_suggestion_that_cannot_be_had_changes_nothing(lab: Lab) -> None:
    record = await lab.issue("shop.test")
    lab.store.keep(msgspec.structs.replace(record, look_s=0.0))
    lab.server.stop()
    assert await Renewals(lab.store).look() == ()
    after = lab.store.get(record.id)
    assert after.renew_s == record.renew_s
    assert after.look_s > time.time() + 3600


async def test_two_orders_at_once_wait_for_each_other(lab: Lab) -> None:
    await asyncio.gather(lab.issue("www.shop.test"), lab.issue("shop.test"))
    assert {record.id for record in lab.store.records()} == {"www.shop.test", "shop.test"}
    order = [path for path in lab.server.seen if path == "/newOrder" or path.startswith("/finalize")]
    assert [path.split("/")[1] for path in order] == ["newOrder", "finalize", "newOrder", "finalize"]


def test_records_survive_what_a_newer_version_adds(tmp_path: Path) -> None:
    paths = Paths(home=tmp_path, run=tmp_path, token=tmp_path / "token")
    store = CertificateStore(paths)
    store.keep(Record(id="a.test", names=("a.test",), source="imported"))
    file = paths.acme / "records/a.test.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "new": 1}))
    assert store.get("a.test").names == ("a.test",)
    file.write_text("{")
    with pytest.raises(AtollError, match="cannot be read") as caught:
        store.records()
    assert caught.value.where == str(file)
