"""`atoll serve` as a process: a cache before somebody's own origin, as they would start, ask and end it."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest
import pytest_asyncio
from edge_world import Asked, Server, page
from http3_client import connected
from serving import Serving, failure, serving, start

from atoll.control.certificates import ensure_leaves

pytestmark = pytest.mark.real

TOKEN = "0123456789abcdef-a-token"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def numbered(origin: Server) -> None:
    """Have the origin say how often it has been asked, what for, and as whom; fresh for a minute."""

    def answer(asked: Asked) -> bytes:
        path = asked.target.partition(b"?")[0]
        body = b"%d %b %b" % (len(origin.asked), asked.fields[b"host"], asked.target)
        return page(body, b"max-age=60", b"Surrogate-Key: all tag" + path.replace(b"/", b"-"))

    origin.answer = answer


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    numbered(server)
    yield server
    server.stop()


def at(origin: Server) -> tuple[str, str]:
    return "--origin", f"http://127.0.0.1:{origin.port}"


def kill(server: Serving, number: signal.Signals) -> list[int]:
    """The workers of `server`, the first of which gets a signal."""
    workers = sorted(child.pid for child in psutil.Process(server.pid).children())
    os.kill(workers[0], number)
    return workers


async def test_what_headers_allow_is_kept_for_every_host_apart(origin: Server) -> None:
    async with serving(*at(origin)) as server, server.client() as client:
        first = await client.get("/a?b", headers={"host": "one.example:81"})
        again = await client.get("/a?b", headers={"host": "one.example:81"})
        other = await client.get("/a?b", headers={"host": "two.example"})
        assert [each.text for each in (first, again, other)] == [
            "1 one.example:81 /a?b",
            "1 one.example:81 /a?b",
            "2 two.example /a?b",
        ]
        assert first.headers["cache-status"].startswith("atoll-local; fwd=uri-miss; fwd-status=200")
        assert again.headers["cache-status"].startswith("atoll-local; hit; ttl=")
        assert again.headers["x-edge-location"] == "local"
        assert origin.asked[0].fields[b"x-forwarded-host"] == b"one.example:81"
        assert origin.asked[0].fields[b"x-forwarded-for"] == b"127.0.0.1"


async def test_what_headers_do_not_allow_is_asked_for_again(origin: Server) -> None:
    modified = b"Last-Modified: Mon, 02 Jan 2006 15:04:05 GMT"

    def answer(asked: Asked) -> bytes:
        if asked.fields.get(b"if-modified-since"):
            return b"HTTP/1.1 304 Not Modified\r\n\r\n"
        return b"HTTP/1.1 200 OK\r\n" + modified + b"\r\nContent-Length: 3\r\n\r\nold"

    origin.answer = answer
    async with serving(*at(origin)) as server, server.client() as client:
        for _ in range(3):
            assert (await client.get("/")).text == "old"
    assert len(origin.asked) == 3
    assert origin.asked[2].fields[b"if-modified-since"] == modified.partition(b": ")[2]


async def test_an_origin_that_fails_is_not_made_up_for_unless_the_policy_says_so(
    origin: Server, tmp_path: Path
) -> None:
    origin.answer = lambda asked: page(b"kept", b"public, max-age=0")
    policy = tmp_path / "p.toml"
    policy.write_text('[[site]]\nhost = "kept.example"\n[[site.route]]\nstale_if_error = "1h"\n')
    async with serving(*at(origin), "--policy", str(policy)) as server, server.client() as client:
        for host in ("kept.example", "other.example"):
            assert (await client.get("/", headers={"host": host})).status_code == 200
        origin.stop()
        kept = await client.get("/", headers={"host": "kept.example"})
        assert (kept.status_code, kept.text) == (200, "kept")
        assert (await client.get("/", headers={"host": "other.example"})).status_code == 502


async def test_origins_may_be_told_another_host_and_take_turns(origin: Server) -> None:
    second = Server()
    await second.start()
    second.answer = lambda asked: page(b"second")
    origin.answer = lambda asked: page(asked.fields[b"host"])
    try:
        options = (*at(origin), *at(second), "--host-header", "app.internal")
        async with serving(*options) as server, server.client() as client:
            texts = [(await client.get(f"/{n}")).text for n in range(4)]
            assert sorted(texts) == ["app.internal", "app.internal", "second", "second"]
    finally:
        second.stop()


async def test_purging_needs_the_token_and_reaches_every_worker(origin: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    async with serving(*at(origin), "--workers", "2", "--purge-token-file", str(token)) as server:

        async def ask(method: str, path: str, **headers: str) -> httpx.Response:
            async with server.client() as client:  # each time a connection of its own: any worker
                return await client.request(method, path, headers=headers)

        async def seen(path: str) -> set[str]:
            return {(await ask("GET", path)).text.partition(" ")[0] for _ in range(8)}

        assert await seen("/a/1") == {"1"}
        assert await seen("/a/2") == {"2"}
        refused = [await ask("PURGE", "/a/1"), await ask("PURGE", "/a/1", authorization="Bearer wrong")]
        assert [each.status_code for each in refused] == [401, 401]
        assert await seen("/a/1") == {"1"}

        done = await ask("PURGE", "/a/1", **BEARER)
        assert done.status_code == 200
        assert done.json()["purged"][0]["kind"] == "url"
        assert await seen("/a/1") == {"3"}
        assert await seen("/a/2") == {"2"}

        done = await ask("PURGE", "/", **BEARER, **{"surrogate-key": "nothing tag-a-2"})
        assert [purged["value"] for purged in done.json()["purged"]] == ["nothing", "tag-a-2"]
        assert await seen("/a/2") == {"4"}
        await ask("PURGE", "/", **BEARER, **{"cache-tag": "nothing, all"})
        assert await seen("/a/2") == {"5"}
        done = await ask("PURGE", "/a/*", **BEARER, **{"soft-purge": "1"})
        assert (done.json()["purged"][0]["kind"], done.json()["purged"][0]["soft"]) == ("prefix", True)
        assert await seen("/a/2") == {"6"}
        assert (
            await ask("PURGE", "/", **BEARER, **{"cache-tag": ",".join(map(str, range(300)))})
        ).status_code == 400
    assert not any(asked.line.startswith(b"PURGE") for asked in origin.asked)


async def test_without_a_token_purge_is_a_method_like_any_other(origin: Server) -> None:
    async with serving(*at(origin)) as server, server.client() as client:
        assert (await client.request("PURGE", "/x")).status_code == 200
    assert origin.asked[0].line == b"PURGE /x HTTP/1.1"


async def test_the_policy_is_read_again_and_a_broken_one_changes_nothing(
    origin: Server, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[[site]]\nhost = "a.example"\n')
    options = (*at(origin), "--policy", str(policy), "--workers", "2", "--admin", f"unix:{tmp_path}/admin")
    async with serving(*options) as server, server.client() as client:

        async def status(host: str = "a.example") -> int:
            return (await client.get("/secret/x", headers={"host": host})).status_code

        assert await status() == 200
        deny = '[site.route.admission.access]\notherwise = "deny"\nallow = ["192.0.2.0/24"]\n'
        policy.write_text(policy.read_text() + '[[site.route]]\npath = "/secret/*"\n' + deny)
        await server.signalled(signal.SIGHUP, "reloaded: a.example")
        assert [await status() for _ in range(4)] == [403] * 4
        assert await status("b.example") == 200

        for broken, where in (
            (deny.replace("allow", "alow"), f"{policy}:7: site.route.admission.access.alow is no field"),
            (deny.replace("192.0.2.0", "192.0.2"), f"{policy}:7: '192.0.2/24' is no network prefix"),
            ("]", f"{policy}:5: not TOML"),
        ):
            before = policy.read_text()
            policy.write_text(before.replace(deny, broken))
            line = await server.signalled(signal.SIGHUP, "not reloaded, all goes on as before")
            assert where in line
            assert await status() == 403
            policy.write_text(before)
        policy.unlink()
        assert "cannot be read" in await server.signalled(signal.SIGHUP, "not reloaded")
        assert await status() == 403


async def test_a_worker_that_dies_is_replaced_and_serves_what_the_others_do(
    origin: Server, tmp_path: Path
) -> None:
    policy, token = tmp_path / "policy.toml", tmp_path / "token"
    policy.write_text('[[site]]\nhost = "a.example"\n')
    token.write_text(TOKEN)
    options = ("--policy", str(policy), "--workers", "2", "--purge-token-file", str(token))
    async with serving(*at(origin), *options) as server:
        policy.write_text('[[site]]\nhost = "a.example"\n[[site.route]]\npath = "/only/*"\n')
        await server.signalled(signal.SIGHUP, "reloaded")
        before = kill(server, signal.SIGKILL)
        await server.until_said("was killed by SIGKILL")
        async with server.client() as client:  # waits in the queue of whoever comes back, at worst
            done = await client.request("PURGE", "/only/x", headers=BEARER)
            assert done.status_code == 200
        for _ in range(8):
            async with server.client() as client:
                answer = await client.get("/other", headers={"host": "a.example"})
                assert answer.status_code == 404
        after = sorted(child.pid for child in psutil.Process(server.pid).children())
        assert len(after) == len(before) == 2
        assert after != before


async def test_it_ends_when_open_requests_are_answered(origin: Server, tmp_path: Path) -> None:
    for workers in ("1", "2"):
        origin.hold = asyncio.Event()
        async with serving(*at(origin), "--workers", workers) as server, server.client() as client:
            asked = len(origin.asked)
            pending = asyncio.ensure_future(client.get(f"/{workers}"))
            await origin.until_asked(asked + 1)
            await server.signalled(signal.SIGTERM, "stopping")
            await asyncio.sleep(0)
            origin.hold.set()
            assert (await pending).status_code == 200
            assert await server.end() == 0


@pytest.mark.parametrize("folder", ["XDG_RUNTIME_DIR"])
async def test_nothing_is_left_behind(origin: Server, tmp_path: Path, folder: str) -> None:
    short = Path(f"/tmp/atoll-t{os.getpid()}")
    short.mkdir()
    try:
        async with serving(*at(origin), "--workers", "2", **{folder: str(short)}) as server:
            assert [path.name.startswith("atoll-serve-") for path in short.iterdir()] == [True]
            children = psutil.Process(server.pid).children(recursive=True)
        assert not list(short.iterdir())
        assert not any(child.is_running() for child in children)
    finally:
        short.rmdir()


async def test_asked_twice_it_waits_for_nobody(origin: Server) -> None:
    origin.hold = asyncio.Event()
    short = Path(f"/tmp/atoll-u{os.getpid()}")
    short.mkdir()
    try:
        server = await start(("--listen", "127.0.0.1:0", *at(origin)), XDG_RUNTIME_DIR=str(short))
        await server.until_said("ready after")
        async with server.client() as client:
            pending = asyncio.ensure_future(client.get("/"))
            await origin.until_asked()
            await server.signalled(signal.SIGINT, "stopping")
            server.process.send_signal(signal.SIGINT)
            assert await server.end() == 1
            with pytest.raises(httpx.HTTPError):
                await pending
        assert not list(short.iterdir())
    finally:
        short.rmdir()


async def test_tls_with_a_certificate_of_its_own_making_speaks_http_2_and_3(origin: Server) -> None:
    options = (
        *at(origin),
        "--tls-self-signed",
        "--h3",
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "http://127.0.0.1:0",
    )
    async with serving(*options) as server:
        secure, plain = server.ports
        context = ssl._create_unverified_context()
        context.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection(
            "127.0.0.1", secure, ssl=context, server_hostname="localhost"
        )
        tls = writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "h2"
        writer.close()
        async with server.client() as client:
            answer = await client.get("/")
            assert answer.headers["alt-svc"].startswith(f'h3=":{secure}"')
            assert (await client.get(f"http://127.0.0.1:{plain}/")).status_code == 200
        assert origin.asked[0].fields[b"x-forwarded-proto"] == b"https"
        async with connected(("127.0.0.1", secure), "localhost") as client3:
            answer3 = await client3.ask("/three")
            assert (answer3.status, answer3.body.rpartition(b" ")[2]) == (200, b"/three")
            again = await client3.ask("/three")
            assert again.field("x-cache") == "HIT"


async def served_serial(port: int) -> int:
    context = ssl._create_unverified_context()
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return hash(der)


async def test_a_certificate_is_read_again_and_a_bad_one_changes_nothing(
    origin: Server, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def renew(folder: str) -> None:
        ensure_leaves(tmp_path / folder, ["localhost"], dt.datetime.now(dt.UTC))
        pem = (tmp_path / folder / "leaf/localhost.pem").read_text()
        at_s = pem.index("-----BEGIN CERTIFICATE")
        key.write_text(pem[:at_s])
        certificate.write_text(pem[at_s:])

    renew("one")
    async with serving(*at(origin), "--tls", str(certificate), str(key)) as server:
        first = await served_serial(server.ports[0])
        renew("two")
        await server.signalled(signal.SIGHUP, "reloaded")
        second = await served_serial(server.ports[0])
        assert second != first
        key.write_text("no key")
        assert str(certificate) in await server.signalled(signal.SIGHUP, "not reloaded")
        assert await served_serial(server.ports[0]) == second


async def test_counters_are_told_on_this_machine_alone(origin: Server, tmp_path: Path) -> None:
    async with serving(*at(origin), "--admin", f"unix:{tmp_path}/admin", "--workers", "2") as server:
        async with server.client() as client:
            for _ in range(3):
                await client.get("/a")
        transport = httpx.AsyncHTTPTransport(uds=f"{tmp_path}/admin")
        async with httpx.AsyncClient(transport=transport, base_url="http://any") as admin:
            stats = (await admin.get("/stats")).json()
            assert stats["listen"] == [server.url]
            assert sum(worker["requests"] for worker in stats["workers"]) == 3
            assert sum(worker["hits"] for worker in stats["workers"]) == 2
            text = (await admin.get("/metrics")).text
            assert 'atoll_responses_total{worker="0",result="hits"}' in text
            assert "# TYPE atoll_requests_total counter" in text
            assert (await admin.get("/nothing")).status_code == 404
            assert (await admin.post("/stats")).status_code == 405
            assert (await admin.get("/health")).text == "ok\n"
    assert not (tmp_path / "admin").exists()


async def test_counters_are_not_told_to_other_names_on_loopback(origin: Server, unused_tcp_port: int) -> None:
    address = f"127.0.0.1:{unused_tcp_port}"
    async with serving(*at(origin), "--admin", address), httpx.AsyncClient(trust_env=False) as admin:
        assert (await admin.get(f"http://{address}/stats")).status_code == 200
        rebound = await admin.get(f"http://{address}/stats", headers={"host": "evil.example"})
        assert rebound.status_code == 421


async def test_the_access_log_may_be_renamed(origin: Server, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with serving(*at(origin), "--access-log", str(log)) as server, server.client() as client:
        await client.get("/before")
        log.rename(tmp_path / "old.log")
        await server.signalled(signal.SIGHUP, "reloaded")
        await client.get("/after")
    before = [json.loads(line) for line in (tmp_path / "old.log").read_text().splitlines()]
    after = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["target"] for record in before] == ["/before"]
    assert [(record["target"], record["cache"], record["host"]) for record in after] == [
        ("/after", "miss", server.url.removeprefix("http://"))
    ]


async def test_the_access_log_of_every_worker_may_go_to_standard_output(origin: Server) -> None:
    async with serving(*at(origin), "--access-log", "-", "--workers", "2") as server:
        for _ in range(6):
            async with server.client() as client:
                await client.get("/a")
    assert server.process.stdout is not None
    lines = (await server.process.stdout.read()).splitlines()
    assert [json.loads(line)["target"] for line in lines] == ["/a"] * 6


async def test_what_is_on_disk_outlives_it(origin: Server, tmp_path: Path) -> None:
    disk = ("--cache-dir", str(tmp_path / "cache"), "--cache-disk", "64MB")
    fixed = "kept.example"
    for _ in range(2):
        async with serving(*at(origin), *disk) as server, server.client() as client:
            assert (await client.get("/a", headers={"host": fixed})).text == f"1 {fixed} /a"
    assert len(origin.asked) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "Name an --origin"),
        (("--origin", "ftp://x"), 1, "cannot be an origin"),
        (("--origin", "http://"), 1, "is no origin"),
        (("--origin", "127.0.0.1:1", "--listen", "nowhere:80"), 1, "is no address of this machine"),
        (("--origin", "127.0.0.1:1", "--listen", "127.0.0.1:99999"), 1, "is nowhere to listen"),
        (("--origin", "127.0.0.1:1", "--listen", "https://127.0.0.1:0"), 2, "https:// needs --tls"),
        (("--origin", "127.0.0.1:1", "--listen", "192.0.2.1:0"), 1, "cannot be used"),
        (("--origin", "127.0.0.1:1", "--h3"), 1, "HTTP/3 needs TLS"),
        (("--origin", "127.0.0.1:1", "--cache-memory", "lots"), 2, "is no size"),
        (("--origin", "127.0.0.1:1", "--policy", "/nonexistent.toml"), 1, "the policy cannot be read"),
        (("--origin", "127.0.0.1:1", "--purge-token-file", "/nonexistent"), 1, "cannot be read"),
        (("--origin", "127.0.0.1:1", "--access-log", "/nonexistent/log"), 1, "No such file"),
        (("--origin", "127.0.0.1:1", "--admin", "0.0.0.0:0"), 1, "on this machine only"),
        (("--origin", "127.0.0.1:1", "--cache-dir", "/proc/x"), 1, "No such file"),
        (("--origin", "127.0.0.1:1", "--tls", "/nonexistent", "/nonexistent"), 1, "/nonexistent"),
        (("--policy", "/dev/null"), 1, "nothing to serve"),
    ],
)  # fmt: skip
async def test_what_cannot_work_is_said_at_once(arguments: tuple[str, ...], code: int, said: str) -> None:
    listen = () if "--listen" in arguments else ("--listen", "127.0.0.1:0")
    found, text = await failure(*listen, *arguments)
    assert said in text
    assert (found, "Traceback" in text) == (code, False)


async def test_a_worker_that_does_not_start_ends_it(tmp_path: Path) -> None:
    disk = ("--cache-dir", str(tmp_path), "--cache-disk", "1KB", "--workers", "2")
    code, text = await failure("--listen", "127.0.0.1:0", "--origin", "127.0.0.1:1", *disk)
    assert code == 1
    assert "a worker does not start" in text
    assert "a cache of 1024 bytes is too small" in text


async def test_a_port_that_is_taken_is_not_shared(origin: Server) -> None:
    async with serving(*at(origin), "--workers", "2") as server:
        for workers in ("1", "2"):
            listen = ("--listen", f"127.0.0.1:{server.ports[0]}")
            code, text = await failure(*listen, *at(origin), "--workers", workers)
            assert code == 1
            assert f"port {server.ports[0]} is in use" in text
