"""What the prelude adds to fetch and to errors, in both syntaxes, on real workerd."""

from __future__ import annotations

import pytest
from function_hosts import Bench, ask

from atoll.functions.workers.host import one_line

pytestmark = pytest.mark.real

FORGED = {"Atoll-Backend": "https://evil.example.com", "Atoll-Timeout-Ms": "1", "Atoll-Service": "cache"}

SERVICE_WORKER = """addEventListener("fetch", (event) => event.respondWith(answer(event.request)));
const answer = async (request) => {
  HANDLER
};
"""
MODULE = """export default {
  async fetch(request, env, ctx) {
  HANDLER
  },
};
"""
SYNTAXES = pytest.mark.parametrize("frame", [SERVICE_WORKER, MODULE], ids=["service-worker", "modules"])


@SYNTAXES
async def test_forged_fields_never_reach_the_edge(bench: Bench, frame: str) -> None:
    host = await bench.script(frame.replace("HANDLER", "return fetch(new Request(request));"))
    assert await ask(host.plan.socket, "/forged", FORGED) is not None
    (fetched,) = bench.bindings.asked("/forged")
    assert fetched.headers["atoll-service"] == "outbound"
    assert fetched.headers["atoll-function"].startswith("default/hello/")
    assert "atoll-backend" not in fetched.headers
    assert "atoll-timeout-ms" not in fetched.headers


@SYNTAXES
async def test_a_function_cannot_pose_as_another_to_the_cache(bench: Bench, frame: str) -> None:
    code = """const posing = new Request(request);
    posing.headers.set("Atoll-Function", "other/secret/1");
    return (await caches.default.match(posing)) ?? new Response("none");"""
    host = await bench.script(frame.replace("HANDLER", code))
    answer = await ask(host.plan.socket)
    assert answer is not None
    assert answer.body == b"none"
    (call,) = bench.bindings.cache_calls
    assert call.headers["atoll-function"].startswith("default/hello/")


@SYNTAXES
async def test_backend_and_timeout_are_honoured_and_the_rest_of_init_too(bench: Bench, frame: str) -> None:
    code = """return fetch("https://a.example.com/in", {
      method: "POST", body: "text", headers: {"X-Own": "1", "Atoll-Timeout-Ms": "1"},
      backend: "https://b.example.com", timeout: 1500.4});"""
    host = await bench.script(frame.replace("HANDLER", code))
    await ask(host.plan.socket)
    (fetched,) = bench.bindings.asked("/in")
    assert fetched.method == "POST"
    assert fetched.body == b"text"
    assert fetched.headers["x-own"] == "1"
    assert fetched.headers["atoll-backend"] == "https://b.example.com"
    assert fetched.headers["atoll-timeout-ms"] == "1500"


@SYNTAXES
async def test_a_timeout_that_is_none_is_a_type_error(bench: Bench, frame: str) -> None:
    code = (
        """return fetch("https://a.example.com/", {timeout: "soon"}).catch((e) => new Response(String(e)));"""
    )
    host = await bench.script(frame.replace("HANDLER", code))
    answer = await ask(host.plan.socket)
    assert answer is not None
    assert answer.body.startswith(b"TypeError: fetch: timeout is a number of milliseconds")
    assert bench.bindings.outbound == []


@SYNTAXES
async def test_an_error_is_logged_with_the_authors_line(bench: Bench, frame: str) -> None:
    host = await bench.script(frame.replace("HANDLER", "throw new RangeError('too far');"))
    answer = await ask(host.plan.socket)
    assert answer is not None
    assert answer.status == 500
    log = bench.log.read_text()
    assert "Uncaught RangeError: too far" in log
    assert "worker.js:3:" in log


async def test_a_listener_that_throws_at_once_is_logged_too(bench: Bench) -> None:
    host = await bench.script('addEventListener("fetch", (event) => {\n  nowhere();\n});')
    answer = await ask(host.plan.socket)
    assert answer is not None
    assert answer.status == 500
    assert "Uncaught ReferenceError: nowhere is not defined\n    at worker.js:2:3" in bench.log.read_text()


async def test_console_lines_reach_the_log(bench: Bench) -> None:
    code = "console.log('seen', {a: 1}); return new Response('ok');"
    host = await bench.script(SERVICE_WORKER.replace("HANDLER", code))
    await ask(host.plan.socket)
    await host.stop()
    assert "seen { a: 1 }" in bench.log.read_text()


async def test_strict_mode_of_a_service_worker_survives_the_prelude(bench: Bench) -> None:
    script = '// mine\n"use strict";\naddEventListener("fetch", (e) => e.respondWith(answer()));\n'
    script += "async function answer() { try { undeclared = 1; } catch (e) { return new Response(e.name); } }"
    host = await bench.script(script)
    answer = await ask(host.plan.socket)
    assert answer is not None
    assert answer.body == b"ReferenceError"


async def test_a_handler_on_a_class_keeps_its_this(bench: Bench) -> None:
    script = """class App {
      #greeting = "hi";
      fetch() { return new Response(this.#greeting); }
    }
    export default new App();
    """
    host = await bench.script(script)
    answer = await ask(host.plan.socket)
    assert answer is not None
    assert answer.body == b"hi"


def test_one_line_keeps_statements_and_drops_comments() -> None:
    assert one_line("/* a\n b */ let x = 1;\n  let y = 2;\n") == "let x = 1; let y = 2; "
