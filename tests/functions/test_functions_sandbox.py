"""What a sandboxed process can and cannot do, asked of real processes."""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import struct
import sys
from pathlib import Path

import pytest
from function_hosts import Bench, ask, open_log

from atoll.errors import AtollError
from atoll.functions.sandbox import launch, seccomp
from atoll.functions.sandbox.launch import Sandbox
from atoll.functions.sandbox.start import is_required, start
from atoll.functions.workers.binaries import shared_libraries

HELLO = "export default { fetch() { return new Response('hello'); } }"
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.real
async def test_a_host_has_namespaces_of_its_own_and_no_rights(bench: Bench) -> None:
    host = await bench.script(HELLO)
    assert host.sandbox == "full"
    for name in NAMESPACES:
        assert os.readlink(f"/proc/{host.pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
    status = status_of(host.pid)
    assert status["CapEff"] == status["CapPrm"] == status["CapBnd"] == status["CapAmb"] == "0" * 16
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


@pytest.mark.real
async def test_a_host_sees_no_network_but_a_loopback_that_is_down(bench: Bench) -> None:
    host = await bench.script(HELLO)
    devices = Path(f"/proc/{host.pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    routes = Path(f"/proc/{host.pid}/net/route").read_text().splitlines()
    assert routes[1:] == []  # beside the heading


@pytest.mark.real
async def test_a_host_sees_its_own_files_and_nothing_else(bench: Bench) -> None:
    host = await bench.script(HELLO)
    root = Path(f"/proc/{host.pid}/root")
    for path in ("/etc", "/home", "/root", "/usr/bin", "/var", "/sys", "/proc/1"):
        if path.startswith("/usr") or Path(path).exists():
            assert not (root / path[1:]).exists(), path
    assert not (root / str(bench.log)[1:]).exists()
    assert not (root / str(host.plan.socket)[1:]).exists()
    assert (root / str(bench.bindings.path)[1:]).is_socket()
    mounts = [line.split() for line in Path(f"/proc/{host.pid}/mounts").read_text().splitlines()]
    writable = [mount[1] for mount in mounts if "rw" in mount[3].split(",")]
    assert writable == ["/tmp"]


@pytest.mark.real
async def test_without_namespaces_it_still_runs_without_network_or_rights(bench: Bench) -> None:
    host = await bench.script(HELLO, namespaces=False)
    assert host.sandbox == "reduced (asked for)"
    answer = await ask(host.plan.socket)
    assert answer is not None
    assert answer.body == b"hello"
    status = status_of(host.pid)
    assert (status["NoNewPrivs"], status["Seccomp"], status["CapEff"]) == ("1", "2", "0" * 16)


@pytest.mark.real
async def test_where_namespaces_are_refused_it_says_so_and_runs(bench: Bench) -> None:
    """A process under our own filter may not make namespaces: what it starts is told so by the kernel."""
    code = (
        "import asyncio, sys; sys.path.append(sys.argv[1])\n"
        "from pathlib import Path\n"
        "from atoll.errors import AtollError\n"
        "from atoll.functions.sandbox.confine import confine\n"
        "from function_hosts import Bench, ask\n"
        "async def main():\n"
        "    async with Bench(Path(sys.argv[2])) as bench:\n"
        f"        host = await bench.script({HELLO!r})\n"
        "        print(host.sandbox, (await ask(host.plan.socket)).body)\n"
        "        try:\n"
        f"            await bench.script({HELLO!r}, 'strict', required=True)\n"
        "        except AtollError as error:\n"
        "            print(error.message)\n"
        "confine({})\n"
        "asyncio.run(main())\n"
    )
    home = bench.home / "s"
    home.mkdir()
    support = str(Path(__file__).parents[1] / "support")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, support, str(home), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.decode().splitlines() == [
        "reduced (clone: Operation not permitted) b'hello'",
        "no full sandbox can be had here: clone: Operation not permitted",
    ]


@pytest.mark.real
async def test_a_path_that_is_missing_is_no_reason_for_less_of_a_sandbox(bench: Bench) -> None:
    await bench.bindings.stop()
    bench.bindings.path.unlink(missing_ok=True)
    with pytest.raises(AtollError, match=r"cannot be started: .*No such file"):
        await bench.script(HELLO)


@pytest.mark.parametrize(
    ("number", "refused"),
    [
        (errno.EPERM, True),
        (errno.EACCES, True),
        (errno.ENOSYS, True),
        (errno.EINVAL, True),
        (errno.ENOMEM, False),
        (errno.EAGAIN, False),
    ],
)
def test_what_is_a_refusal_of_namespaces(number: int, refused: bool) -> None:
    assert launch._refuses_namespaces(OSError(number, "clone")) is refused


def test_too_many_namespaces_are_a_refusal_only_where_none_are_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_MOST_NAMESPACES", tmp_path / "most")
    full = OSError(errno.ENOSPC, "clone")
    assert not launch._refuses_namespaces(full)
    for most, refused in (("0\n", True), ("100\n", False)):
        (tmp_path / "most").write_text(most)
        assert launch._refuses_namespaces(full) is refused


@pytest.mark.parametrize(("asked", "required"), [({}, False), ({"ATOLL_SANDBOX": "required"}, True)])
def test_a_full_sandbox_can_be_required(asked: dict[str, str], required: bool) -> None:
    assert is_required(asked) is required


def test_another_wish_for_a_sandbox_is_not_guessed_at() -> None:
    with pytest.raises(AtollError, match="ATOLL_SANDBOX is 'on'"):
        is_required({"ATOLL_SANDBOX": "on"})


def sandboxed_python(tmp_path: Path, code: str) -> Sandbox:
    """The interpreter itself in a sandbox: unlike a function, it can try things."""
    (tmp_path / "root").mkdir()
    binary = Path(sys.executable).resolve()
    library = Path(os.__file__).parent
    libraries = {*shared_libraries(binary)}
    for extension in (library / "lib-dynload").glob("_*.so"):
        libraries.update(shared_libraries(extension))
    return Sandbox(
        argv=[str(binary), "-I", "-S", "-c", code],
        env={"PYTHONHOME": sys.base_prefix},
        cwd="/",
        root=str(tmp_path / "root"),
        binds=[str(binary), str(library), *sorted(libraries)],
        limits={"NOFILE": 64, "CORE": 0},
        namespaces=True,
    )


async def run_inside(tmp_path: Path, code: str) -> str:
    log = tmp_path / "out"
    fd = open_log(log)
    try:
        process = await start(sandboxed_python(tmp_path, code), fd, ())
        code_ = await asyncio.wait_for(process.exited, 20)
    finally:
        os.close(fd)
    text = log.read_text()
    assert code_ == 0, text
    return text.strip()


TRY = """
import errno
def attempt(what):
    try:
        return what() or "done"
    except OSError as error:
        return errno.errorcode[error.errno]
"""


@pytest.mark.parametrize(
    ("what", "outcome"),
    [
        ("import os; print(os.getpid(), os.getuid())", "1 65534"),
        ("import os; print(sorted(os.listdir('/tmp')))", "[]"),
        ("import os; print(attempt(lambda: os.mkdir('/new')))", "EROFS"),
        ("import os; print(attempt(lambda: os.mkdir('/tmp/new')))", "done"),
        ("import os; print(attempt(lambda: open('/etc/passwd')))", "ENOENT"),
        ("import socket; print(attempt(socket.socket))", "EPERM"),
        ("import socket; print(attempt(lambda: socket.socket(socket.AF_INET6)))", "EPERM"),
        ("import socket; print(attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)))", "EPERM"),
        ("import socket; print(attempt(lambda: socket.socket(socket.AF_UNIX).close()))", "done"),
        ("import os; print(attempt(lambda: os.setuid(0)))", "EINVAL"),
        ("import os; print(attempt(lambda: os.chroot('/tmp')))", "EPERM"),
        ("import os; print(attempt(lambda: os.kill(os.getppid() or 2, 9)))", "ESRCH"),
        ("import os; print(attempt(lambda: print(os.uname().nodename, end=' ')))", "atoll done"),
    ],
)
async def test_inside(tmp_path: Path, what: str, outcome: str) -> None:
    assert await run_inside(tmp_path, TRY + what) == outcome


@pytest.mark.skipif(platform.machine() != "x86_64", reason="call numbers of one machine")
@pytest.mark.parametrize(
    ("call", "arguments", "outcome"),
    [
        ("ptrace", (101, 0, 0, 0, 0), "EPERM"),
        ("unshare", (272, 0x10000000), "EPERM"),
        ("bpf", (321, 0, 0, 0), "EPERM"),
        ("clone of a user namespace", (56, 0x10000000 | 17, 0, 0, 0, 0), "EPERM"),
        ("clone3", (435, 0, 0), "ENOSYS"),
        ("getpid, x32", (0x40000000 | 39,), "EPERM"),
    ],
)
async def test_denied_calls(tmp_path: Path, call: str, arguments: tuple[int, ...], outcome: str) -> None:
    code = f"""
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
print(libc.syscall(*[ctypes.c_long(a) for a in {arguments!r}]), errno.errorcode[ctypes.get_errno()])
"""
    assert await run_inside(tmp_path, code) == f"-1 {outcome}"


async def test_a_program_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    sandbox = sandboxed_python(tmp_path, "")
    sandbox["argv"] = ["/nowhere/program"]
    fd = open_log(tmp_path / "out")
    with pytest.raises(AtollError, match="/nowhere/program cannot be started: No such file"):
        await start(sandbox, fd, ())
    os.close(fd)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_of_the_filter_lands_inside_and_it_ends_by_allowing(machine: str) -> None:
    program = seccomp.program(machine)
    for at, (code, if_true, if_false, _constant) in enumerate(program):
        if code & 0x07 == 0x05:
            assert at + 1 + max(if_true, if_false) < len(program)
    assert program[-1] == (0x06, 0, 0, seccomp.ALLOW)
    assert len(seccomp.assemble(program)) == 8 * len(program)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(
    ("number_of", "argument", "allowed"),
    [("socket", 1, True), ("socket", 2, False), ("clone", 0x3D0F00, True), ("clone", 0x20000, False)],
)
def test_the_filter_reads_arguments(machine: str, number_of: str, argument: int, allowed: bool) -> None:
    numbers = {"socket": (41, 198), "clone": (56, 220)}[number_of]
    number = numbers[0 if machine == "x86_64" else 1]
    architecture = 0xC000003E if machine == "x86_64" else 0xC00000B7
    verdict = interpret(seccomp.program(machine), struct.pack("=IIQQ", number, architecture, 0, argument))
    assert (verdict == seccomp.ALLOW) is allowed


def test_another_architectures_calls_end_the_process() -> None:
    data = struct.pack("=IIQQ", 1, 0x40000003, 0, 0)
    assert interpret(seccomp.program("x86_64"), data) == seccomp.KILL_PROCESS


def interpret(program: list[seccomp.Instruction], data: bytes) -> int:
    """What the kernel would do: classic BPF, as far as the filter uses it."""
    at, loaded = 0, 0
    while True:
        code, if_true, if_false, constant = program[at]
        at += 1
        if code == 0x06:
            return constant
        if code == 0x20:
            (loaded,) = struct.unpack_from("=I", data, constant)
            continue
        truth = {0x15: loaded == constant, 0x35: loaded >= constant, 0x45: bool(loaded & constant)}[code]
        at += if_true if truth else if_false
