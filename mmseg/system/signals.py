"""Signals that stop a process, and processes that end with their parent.

Does not import torch: every script handles signals from its first line.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# Ctrl-C, a batch system or `timeout`, a closed terminal, warnings of batch systems, the soft limit of CPU time
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
# Signal that processes of one training send each other.
RELAY = getattr(signal, "SIGUSR2", signal.SIGTERM)
# A launcher sets this to its process id for child processes that must end with it.
PARENT_VARIABLE = "CMDA_PARENT"
PR_SET_PDEATHSIG = 1
PARENT_POLL_SECONDS = 1.0
# Time after which a main thread that should have been interrupted counts as hanging.
HANG_SECONDS = 10.0
# After exiting for longer than this, a process ends at the next signal.
LEAVING_SECONDS = 5.0


class StopNow(KeyboardInterrupt):
    """A signal interrupted work that can be interrupted at once.

    Not an ``Exception``, so that no library handles it as an error.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal_name(number)}")
        self.number = int(number)


def signal_name(number: int) -> str:
    """Name such as ``SIGTERM``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def stop_now(number: int) -> None:
    """Interrupt the main thread.

    Raises:
        StopNow: always.
    """
    raise StopNow(number)


# Actions of the nested contexts, the innermost last, and the handlers from before the outermost one.
_actions: list[Callable[[int], None]] = []
_before: dict[int, Any] = {}
# When this process began to exit, its message and its exit status.
_leaving: tuple[float, str, int] | None = None


def _act(number: int, frame: FrameType | None) -> None:
    if _leaving is None:
        _actions[-1](number)
        return
    since, message, status = _leaving
    if time.monotonic() - since > LEAVING_SECONDS:
        say_and_exit(message, status)


def leave(message: str, status: int) -> None:
    """Mark this process as exiting: signals have no effect from now on, unless the exit takes long.

    Args:
        message: printed if a signal then ends it.
        status: exit status.
    """
    global _leaving
    if _actions:
        _leaving = _leaving or (time.monotonic(), message, status)


def ignore_signals() -> None:
    """Ignore all signals to stop, so that none changes the exit status."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_handled(action: Callable[[int], None]) -> Iterator[None]:
    """Context in which the main thread calls ``action(number)`` for every signal to stop.

    Of nested contexts the innermost applies. A signal that was ignored before stays ignored, as ``nohup`` needs it,
    except SIGINT, which shells ignore for every background process. Python handles signals in the main thread only: in
    other threads, the context has no effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    outermost = not _actions
    _actions.append(action)
    if outermost:
        for number in SIGNALS:
            current = signal.getsignal(number)
            if current is not None and (current != signal.SIG_IGN or number == signal.SIGINT):
                _before[number] = signal.signal(number, _act)
    try:
        yield
    finally:
        if outermost:
            _restore()
        else:
            _actions.remove(action)


def _restore() -> None:
    global _leaving
    _leaving = None
    for number, handler in _before.items():
        # code inside may have set another handler
        if signal.getsignal(number) is _act:
            signal.signal(number, handler)
    _before.clear()
    _actions.clear()


class Listener(threading.Thread):
    """Thread that receives signals at once, even while the main thread is in compiled code and cannot handle them.

    Args:
        heard: called with the number of every signal, and with None about once per second.
    """

    def __init__(self, heard: Callable[[int | None], None]) -> None:
        super().__init__(name="signal listener", daemon=True)
        self._heard = heard
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before = -1
        self._ended = False

    def __enter__(self) -> Listener:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alive():
            signal.set_wakeup_fd(self._before, warn_on_full_buffer=False)
            self._ended = True
            self._writer.send(b"\0")
            self.join()
        self._reader.close()
        self._writer.close()

    def run(self) -> None:
        while not self._ended:
            ready, _, _ = select.select([self._reader], [], [], 1.0)
            numbers = self._reader.recv(64) if ready else b""
            for number in numbers:
                if number in SIGNALS:
                    self._heard(number)
            self._heard(None)


@contextmanager
def signals_end(what: str) -> Iterator[None]:
    """Context of a wait in compiled code: a signal ends the process even if the main thread cannot handle it.

    Args:
        what: what this process is doing, for the message.
    """
    came: list[tuple[float, int]] = []

    def heard(number: int | None) -> None:
        if number is not None:
            came.append((time.monotonic(), number))
        elif came and time.monotonic() - came[0][0] > HANG_SECONDS:
            say_and_exit(f"interrupted by {signal_name(came[0][1])} while {what}", 128 + came[0][1])

    with Listener(heard):
        yield


def _after_fork() -> None:
    """A forked process does not handle signals for its parent."""
    if _actions:
        signal.set_wakeup_fd(-1)
        _restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def leave_signals_to_parent(parent: int) -> None:
    """Set up a child process that ignores signals to stop and ends with its parent, which ends it by SIGKILL.

    Args:
        parent: process id.
    """
    ignore_signals()
    end_with_parent(signal.SIGKILL, parent)


def end_with_parent(number: int, parent: int) -> None:
    """Send this process a signal when its parent has ended, for whatever reason.

    Args:
        number: number of the signal.
        parent: process id.
    """
    try:
        known = ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) == 0
    except (OSError, AttributeError, TypeError):
        known = False
    if not known:
        threading.Thread(target=_watch_parent, args=(number, parent), name="parent watch", daemon=True).start()
    # It may have ended already.
    elif os.getppid() != parent:
        os.kill(os.getpid(), number)


def _watch_parent(number: int, parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os.kill(os.getpid(), number)


def follow_launcher() -> None:
    """Send this process SIGTERM when the launcher that started it has ended; see ``PARENT_VARIABLE``."""
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if parent.isdigit():
        end_with_parent(signal.SIGTERM, int(parent))


def say_and_exit(message: str, status: int) -> None:
    """Exit from any thread without waiting for the main one, after printing one line on stderr."""
    with suppress(OSError, ValueError):
        os.write(2, f"error: {message}\n".encode(getattr(sys.stderr, "encoding", None) or "utf-8", "backslashreplace"))
    os._exit(status)
