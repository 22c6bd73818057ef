"""What docs/compatibility.md says of the Workers runtime, on real workerd, where no other test proves it."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from function_hosts import Bench, Message, ask

from atoll.functions.workers.process import FunctionHost

pytestmark = pytest.mark.real

HEAD = 'name = "site"\nmain = "{main}"\ncompatibility_date = "2026-11-01"\n'
ADD_WASM = bytes.fromhex(
    "0061736d0100000001070160027f7f017f030201000707010361646400000a09010700200020016a0b"
)  # (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)


Files = dict[str, str | bytes]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """In a short folder: paths of sockets have to fit the kernel."""
    with tempfile.TemporaryDirectory(prefix="atoll-") as home:
        async with Bench(Path(home)) as made:
            yield made


async def run(bench: Bench, files: Files, more: str = "", main: str = "worker.js") -> Message:
    """What a project of these files answers to `GET /`."""
    host = await start(bench, files, more, main)
    answer = await ask(host.plan.socket)
    assert answer is not None
    return answer


async def start(bench: Bench, files: Files, more: str, main: str) -> FunctionHost:
    folder = bench.home / "project"
    folder.mkdir()
    (folder / "wrangler.toml").write_text(HEAD.format(main=main) + more)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return await bench.run(folder)


async def test_vars_are_on_env_with_their_types(bench: Bench) -> None:
    script = "export default { fetch(_, env) { return Response.json([env.TEXT, env.NUMBER, env.TABLE]) } }"
    more = '[vars]\nTEXT = "läuft"\nNUMBER = 3\nTABLE = { list = [1, true] }\n'
    answer = await run(bench, {"worker.js": script}, more)
    assert answer.body.decode() == '["läuft",3,{"list":[1,true]}]'


async def test_vars_are_globals_of_a_service_worker(bench: Bench) -> None:
    script = "addEventListener('fetch', (event) => event.respondWith(new Response(GREETING)))"
    answer = await run(bench, {"worker.js": script}, '[vars]\nGREETING = "hello"\n')
    assert answer.body == b"hello"


async def test_typescript_and_imports_become_one_module(bench: Bench) -> None:
    files: Files = {
        "worker.ts": (
            "import { twice } from './lib';\nimport words from './words.txt';\n"
            "export default { fetch(): Response { return new Response(words + twice(21)) } };\n"
        ),
        "lib.ts": "export const twice = (n: number): number => 2 * n;\n",
        "words.txt": "answer ",
    }
    assert (await run(bench, files, main="worker.ts")).body == b"answer 42"


async def test_wasm_modules_can_be_imported(bench: Bench) -> None:
    script = (
        "import add from './add.wasm';\nexport default { async fetch() {\n"
        "  const instance = await WebAssembly.instantiate(add);\n"
        "  return new Response(String(instance.exports.add(40, 2))) } };\n"
    )
    assert (await run(bench, {"worker.js": script, "add.wasm": ADD_WASM})).body == b"42"


async def test_node_modules_with_nodejs_compat(bench: Bench) -> None:
    script = (
        "import { Buffer } from 'node:buffer';\n"
        "export default { fetch() { return new Response(Buffer.from('hi').toString('hex')) } };\n"
    )
    more = 'compatibility_flags = ["nodejs_compat"]\n'
    assert (await run(bench, {"worker.js": script}, more)).body == b"6869"


async def test_the_webs_own_apis_are_the_runtimes(bench: Bench) -> None:
    script = """export default { async fetch(request) {
      const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode("a"));
      const pattern = new URLPattern({ pathname: "/:page" });
      const { readable, writable } = new TransformStream();
      const writer = writable.getWriter();
      writer.write(new TextEncoder().encode("<p>old</p>")).then(() => writer.close());
      const page = new HTMLRewriter().on("p", { element(e) { e.setInnerContent("new") } })
        .transform(new Response(readable));
      return Response.json([new Uint8Array(digest)[0], pattern.test("https://a.example/x"), await page.text(),
        structuredClone({ a: 1 })]) } };
    """
    assert (await run(bench, {"worker.js": script})).body == b'[202,true,"<p>new</p>",{"a":1}]'


async def test_a_body_may_be_a_stream(bench: Bench) -> None:
    script = """export default { fetch() {
      const parts = ["one ", "two ", "three"];
      return new Response(new ReadableStream({ pull(controller) {
        const part = parts.shift();
        part ? controller.enqueue(new TextEncoder().encode(part)) : controller.close() } })) } };
    """
    answer = await run(bench, {"worker.js": script})
    assert answer.body == b"one two three"


async def test_work_after_the_answer_is_finished(bench: Bench) -> None:
    script = """export default { fetch(request, env, ctx) {
      ctx.waitUntil(caches.default.put("https://a.example/", new Response("kept",
        { headers: { "cache-control": "max-age=60" } })));
      return new Response("first") } };
    """
    assert (await run(bench, {"worker.js": script})).body == b"first"
    await bench.bindings.stored.wait()
    assert list(bench.bindings.cached) == ["https://a.example/"]
