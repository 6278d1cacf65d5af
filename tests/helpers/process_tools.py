"""Scripts as real processes that tests send real signals to."""

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# machines under load are slow
PATIENCE = 300.0
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


class Server:
    """Context that starts scripts, see :mod:`process_server`; what is left at its end is killed."""

    def __enter__(self) -> "Server":
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "helpers" / "process_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **QUIET},
            # it outlives a signal to the tests, to end what it started
            start_new_session=True,
        )
        self.started: list[Started] = []
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()
        for started in self.started:
            started.kill_session()

    def start(
        self,
        folder: Path,
        script: str,
        *arguments: object,
        before: str = "",
        cwd: Path | None = None,
        quick_end: bool = False,
        **environment: str,
    ) -> "Started":
        """Start a script.

        Args:
            folder: of what it prints; created.
            before: code that runs in the process before the script, to prepare what is to happen to it.
            quick_end: whether it ends without taking Python apart, once its threads and exit functions are done.
        """
        folder.mkdir(parents=True, exist_ok=True)
        order = {
            "folder": str(folder),
            "script": script,
            "arguments": [str(a) for a in arguments],
            "before": before,
            "cwd": str(cwd or folder),
            "quick_end": quick_end,
            "environment": environment,
        }
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        started = Started(folder, int(self.process.stdout.readline()))
        self.started.append(started)
        return started


@cache
def server() -> Server:
    """The server of this process, started when it is first needed."""
    started = Server()
    atexit.register(started.__exit__)
    return started.__enter__()


class Started:
    """A running script, which leads a process group and a session."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number

    def signal(self, number: int) -> None:
        """To the process only."""
        os.kill(self.number, number)

    def signal_group(self, number: int) -> None:
        """To all processes of its group, as a terminal or ``timeout`` does."""
        os.killpg(self.number, number)

    def ended(self) -> bool:
        return (self.folder / "status").exists() and (self.folder / "status").read_text() != ""

    def wait(self, seconds: float = PATIENCE) -> int:
        """Exit status, once it has ended; negative for a signal."""
        wait_until(self.ended, seconds)
        return int((self.folder / "status").read_text())

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def message(self) -> str:
        """The only line on stderr."""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    def session(self) -> list[int]:
        """Numbers of the processes of its session."""
        return processes_where(3, self.number)

    def children(self) -> list[int]:
        return processes_where(1, self.number)

    def kill_session(self) -> None:
        for number in self.session():
            os.kill(number, signal.SIGKILL)


def processes_where(field: int, value: int) -> list[int]:
    """Running processes by a field of ``/proc/<n>/stat`` behind the name: 1 parent, 2 group, 3 session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[field]) == value and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found
