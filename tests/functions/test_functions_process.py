"""Function hosts as processes: starting, refusing, looping, dying, memory, stopping. Real workerd."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from time import monotonic

import psutil
import pytest
from function_hosts import Bench, ask, open_log

from atoll.errors import AtollError
from atoll.functions.workers.host import LARGEST_FILE
from atoll.functions.workers.process import FunctionHost
from atoll.functions.workers.watchdog import Restarts

pytestmark = pytest.mark.real

HELLO = "export default { fetch() { return new Response('hello'); } }"
LOOPS = """export default { fetch(request) {
  if (request.url.endsWith("/loop")) { for (;;) {} }
  return new Response("fine");
} }"""
GREEDY = """const kept = [];
export default { fetch(request) {
  const megabytes = Number(new URL(request.url).searchParams.get("buffers"));
  if (!megabytes) { for (;;) { kept.push(new Array(1000).fill(Math.random())); } }
  try {
    for (let i = 0; i < megabytes; i++) { kept.push(new Uint8Array(1 << 20).fill(1)); }
  } catch (error) { return new Response(`${error.name} after ${kept.length}`); }
  return new Response("all of it");
} }"""

TALKS = """export default { fetch() {
  for (let i = 0; i < 20000; i++) { console.log("x".repeat(1000)); }
  return new Response("said");
} }"""


async def killed_and_back(host: FunctionHost, deaths: int) -> None:
    async with asyncio.timeout(10):
        while host.info().restarts < deaths or not host.ready.is_set():
            await host.ready.wait()
            await asyncio.sleep(0.01)


async def test_it_answers_as_soon_as_start_returns(bench: Bench) -> None:
    host = await bench.script(HELLO)
    answer = await ask(host.plan.socket)
    assert answer is not None
    assert answer.body == b"hello"
    info = host.info()
    assert (info.state, info.pid, info.restarts) == ("ready", host.pid, 0)
    assert info.rss > 1_000_000
    assert 0 < host.start_ms < 5000


async def test_a_syntax_error_is_refused_in_the_runtimes_words(bench: Bench) -> None:
    with pytest.raises(AtollError) as refused:
        await bench.script("export default {\n  fetch() { let x = ; }\n}")
    assert refused.value.message == "Uncaught SyntaxError: Unexpected token ';'\n  at worker.js:2:20"
    assert refused.value.where == "worker.js:2"
    assert list(bench.around.run_dir.iterdir()) == []


async def test_a_script_that_throws_at_its_top_is_refused(bench: Bench) -> None:
    with pytest.raises(AtollError) as refused:
        await bench.script("addEventListener('fetch', () => {});\nthrow new Error('no key');")
    assert refused.value.message == "Uncaught Error: no key\n  at worker.js:2:7"


async def test_a_script_without_handlers_is_refused(bench: Bench) -> None:
    with pytest.raises(AtollError, match="No event handlers were registered"):
        await bench.script("const nothing = 1;")


async def test_a_throwing_request_is_a_500_and_the_host_lives_on(bench: Bench) -> None:
    host = await bench.script("export default { fetch() {\n  throw new Error('boom'); } }")
    pid = host.pid
    answers = [await ask(host.plan.socket) for _ in range(3)]
    assert [answer.status for answer in answers if answer] == [500, 500, 500]
    assert host.pid == pid
    assert "Uncaught Error: boom" in bench.log.read_text()


async def test_an_endless_loop_is_killed_within_a_second_and_alone(bench: Bench) -> None:
    looping = await bench.script(LOOPS, "looping")
    other = await bench.script(HELLO, "other")
    begun_s = monotonic()
    wedged = asyncio.ensure_future(ask(looping.plan.socket, "/loop"))
    slowest_s = 0.0
    while not wedged.done():
        asked_s = monotonic()
        answer = await ask(other.plan.socket)
        assert answer is not None
        slowest_s = max(slowest_s, monotonic() - asked_s)
    assert wedged.result() is None  # hung up on: the edge makes a 503 of it
    fine = await ask(looping.plan.socket, "/fine")
    assert fine is not None
    assert fine.body == b"fine"
    assert monotonic() - begun_s < 1.0
    assert slowest_s < 0.3
    assert (looping.info().restarts, other.info().restarts) == (1, 0)


async def test_requests_that_queue_while_it_is_wedged_are_answered_by_its_successor(bench: Bench) -> None:
    host = await bench.script(LOOPS)
    wedged = asyncio.ensure_future(ask(host.plan.socket, "/loop"))
    await asyncio.sleep(0.1)  # until it loops: nothing outside can tell
    queued = await asyncio.gather(*(ask(host.plan.socket, f"/{i}") for i in range(10)))
    assert await wedged is None
    answered = [answer for answer in queued if answer is not None]
    assert all(answer.body == b"fine" for answer in answered)
    assert len(answered) >= 9  # one may have been taken up by the host that was killed


async def test_a_killed_host_is_back_on_the_same_socket(bench: Bench) -> None:
    host = await bench.script(HELLO)
    before = host.pid
    host.kill()
    answer = await ask(host.plan.socket)
    answer = answer or await ask(host.plan.socket)
    assert answer is not None
    await killed_and_back(host, 1)
    assert host.pid != before


async def test_a_host_that_keeps_dying_is_left_dead_and_its_callers_told_at_once(bench: Bench) -> None:
    project = bench.home / "dying"
    project.mkdir()
    (project / "wrangler.toml").write_text(
        'name = "dying"\nmain = "worker.js"\ncompatibility_date = "2026-11-01"\n'
    )
    (project / "worker.js").write_text(HELLO)
    plan = (await bench.host(project)).plan
    host = FunctionHost(plan, bench.log, open_log, restarts=Restarts(free=1, first_s=30.0, longest_s=30.0))
    await host.start()
    try:
        host.kill()
        await killed_and_back(host, 1)
        host.kill()
        begun_s = monotonic()
        answer = await ask(plan.socket) or await ask(plan.socket)
        assert answer is not None
        assert answer.status == 503
        assert monotonic() - begun_s < 1.0
        assert host.info().state == "backoff"
    finally:
        await host.stop()
    assert host.info().state == "stopped"


async def test_heap_is_limited(bench: Bench) -> None:
    host = await bench.script(GREEDY)
    begun_s = monotonic()
    assert await ask(host.plan.socket, "/") is None
    assert monotonic() - begun_s < 10
    await killed_and_back(host, 1)
    assert "heap out of memory" in bench.log.read_text()


async def test_memory_outside_the_heap_is_limited(bench: Bench) -> None:
    host = await bench.script(GREEDY)
    some = await ask(host.plan.socket, "/?buffers=50")
    more = await ask(host.plan.socket, "/?buffers=1000")
    assert some is not None
    assert some.body == b"all of it"
    if more is not None:  # or the runtime itself ran out and ended
        name, _, count = more.body.decode().partition(" after ")
        assert name == "RangeError"
        assert 128 < int(count) < 300


async def test_a_log_has_an_end_however_fast_it_is_written(bench: Bench) -> None:
    host = await bench.script(TALKS)
    pid = host.pid
    answer = await ask(host.plan.socket)
    assert answer is not None
    assert answer.body == b"said"
    assert bench.log.stat().st_size == LARGEST_FILE
    os.truncate(bench.log, 0)
    assert await ask(host.plan.socket) is not None
    assert bench.log.stat().st_size == LARGEST_FILE
    assert host.pid == pid


async def test_stop_leaves_nothing(bench: Bench) -> None:
    host = await bench.script(HELLO)
    pid = host.pid
    await host.stop()
    assert not psutil.pid_exists(pid)
    assert list(bench.around.run_dir.iterdir()) == []
    assert host.info().state == "stopped"


@pytest.mark.parametrize("after_s", [0.005, 0.015, 0.03])
async def test_a_host_that_is_being_restarted_is_stopped(bench: Bench, after_s: float) -> None:
    host = await bench.script(HELLO)
    host.kill()
    for _ in range(1000):
        if host.info().restarts:
            break
        await asyncio.sleep(0.001)
    await asyncio.sleep(after_s)  # its successor is being made, and cannot be signalled yet
    await asyncio.wait_for(host.stop(), 5)
    assert (host.pid, host.info().state) == (0, "stopped")
    assert list(bench.around.run_dir.iterdir()) == []


async def test_a_wedged_host_is_stopped_when_its_grace_is_over(bench: Bench) -> None:
    host = await bench.script(LOOPS)
    pid = host.pid
    wedged = asyncio.ensure_future(ask(host.plan.socket, "/loop"))
    await asyncio.sleep(0.05)
    await host.stop(grace_s=0.1)
    assert await wedged is None
    assert not psutil.pid_exists(pid)


async def test_it_ends_with_the_process_that_started_it(bench: Bench, tmp_path: Path) -> None:
    host = await bench.script(HELLO)
    await host.stop()
    code = (
        "import asyncio, sys; sys.path.append(sys.argv[1])\n"
        "from pathlib import Path\n"
        "from function_hosts import Bench\n"
        "async def main():\n"
        "    async with Bench(Path(sys.argv[2])) as bench:\n"
        f"        host = await bench.script({HELLO!r})\n"
        "        print(host.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    home = bench.home / "s"
    home.mkdir()
    support = str(Path(__file__).parents[1] / "support")
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, support, str(home), stdout=asyncio.subprocess.PIPE
    )
    assert supervisor.stdout is not None
    pid = int(await supervisor.stdout.readline())
    host_process = psutil.Process(pid)
    supervisor.send_signal(signal.SIGKILL)
    await supervisor.wait()
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [host_process], 5)
    assert gone or host_process.status() == psutil.STATUS_ZOMBIE
