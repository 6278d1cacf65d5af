"""Which process of which machine: marks that tell a live process from one that has ended, and from its successor."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

# Largest process number of any system that has such numbers.
LARGEST_PID = 2**31 - 1


@functools.cache
def host_mark() -> str:
    """Eight hexadecimal digits of this machine as processes see one another on it.

    Equal host names do not make one machine of two: the mark also depends on the start of the kernel, and on the
    container, whose processes have numbers of their own.
    """
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.blake2b("\n".join(parts).encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()


def is_running(pid: int, started: str | None = None) -> bool:
    """Whether a process of this machine runs.

    Args:
        pid: its number; one that no process can have does not run.
        started: what :func:`start_of` said of it, to tell it from a later process of the same number; None asks for
            the number only.
    """
    if not 0 < pid <= LARGEST_PID:
        return False
    if os.name == "posix":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass  # it is of another user
    now = start_of(pid)
    if now == "ended":
        return False
    return started is None or now is None or now == started


def start_of(pid: int) -> str | None:
    """When a process of this machine started, as the system has it; None where that cannot be known.

    A process that has ended and waits for its parent to notice has started ``"ended"``.
    """
    try:
        # the name before the fields may hold spaces and brackets
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
