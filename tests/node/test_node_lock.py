from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from atoll.node import lock

HOLD = """
import sys
from pathlib import Path
from atoll.node import lock
taken = lock.acquire(Path(sys.argv[1]), lock.Holder(pid=7, started_s=12.5, options={"latency": "real"}))
print(taken, flush=True)
sys.stdin.read()
"""


def test_a_lock_has_one_holder_and_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert lock.holder(path) is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert lock.holder(path) == lock.Holder(pid=7, started_s=12.5, options={"latency": "real"})
        assert not lock.acquire(path, lock.Holder(pid=os.getpid(), started_s=0.0))
        process.kill()
    assert lock.holder(path) is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_asking_who_holds_it_disturbs_nobody(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    assert lock.holder(path) is None
    script = HOLD.replace("sys.stdin.read()", "")
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
        )
        assert done.stdout == "True\n"
        assert lock.holder(path) is None
