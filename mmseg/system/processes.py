"""Identification of processes across machines and time: is a process still running, and is it the same one?"""

from __future__ import annotations

import functools
import hashlib
import os
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

# Largest process id of any system.
LARGEST_PID = 2**31 - 1


@functools.cache
def host_mark() -> str:
    """Eight hexadecimal digits that identify this machine as its processes see it.

    Two machines may have the same host name: the mark also depends on the boot id of the kernel, and on the container,
    which has its own process ids.
    """
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.blake2b("\n".join(parts).encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()


def is_running(pid: int, started: str | None = None) -> bool:
    """Whether a process of this machine is running.

    Args:
        pid: its process id; no process has an id out of range.
        started: result of :func:`start_of` for it, to distinguish it from a later process with the same id; None
            compares only the id.
    """
    if not 0 < pid <= LARGEST_PID:
        return False
    if os.name == "posix":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass  # it belongs to another user
    now = start_of(pid)
    if now == "ended":
        return False
    return started is None or now is None or now == started


def start_of(pid: int) -> str | None:
    """Start time of a process of this machine as the system reports it; None if unknown.

    For a process that has ended but was not yet reaped by its parent it is ``"ended"``.
    """
    try:
        # the name before the fields may contain spaces and brackets
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "ended" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    if os.name != "posix" or Path("/proc/self/stat").exists():
        return None
    with suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=True
        )
        return asked.stdout.strip() or None
    return None
