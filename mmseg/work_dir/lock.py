"""Lock that lets only one training at a time use a work dir.

The lock is a file that names its holder. It is created by a hard link, which is atomic on network file systems, and its
modification time is refreshed while the holder is alive. A lock whose holder has ended is taken over. On the same
machine that is known from the pid and start time of the process; elsewhere, from two minutes without a refresh.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mmseg.errors import CMDAError, ConfigError, DataError
from mmseg.io.files import create_temporary
from mmseg.io.json_files import parse_json
from mmseg.system.processes import host_mark, is_running, start_of
from mmseg.work_dir.layout import WorkDir

BEAT_SECONDS = 10.0
STALE_SECONDS = 120.0
POLL_SECONDS = 1.0
# Bytes. A lock is one line; a longer file is not a lock.
LARGEST_LOCK = 4096


class WorkDirInUse(ConfigError):
    """Another training is using the work dir."""


@dataclass(frozen=True)
class Holder:
    """The process that a lock names.

    Attributes:
        token: random, drawn for this lock.
        machine: :func:`mmseg.system.processes.host_mark` there.
        host: name of the machine, for messages.
        pid, started: the process, see :func:`mmseg.system.processes.start_of`.
        since: local time, for messages.
    """

    token: str
    machine: str
    host: str
    pid: int
    started: str | None
    since: str

    @classmethod
    def of_this_process(cls) -> Holder:
        """A new holder for this process."""
        pid = os.getpid()
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(secrets.token_hex(16), host_mark(), socket.gethostname(), pid, start_of(pid), since)

    @classmethod
    def read(cls, text: str) -> Holder | None:
        """Parse the text of a lock; None if it is not a lock of this program, or truncated."""
        try:
            holder = cls(**parse_json(text, "a lock"))
        except (DataError, TypeError):
            return None
        texts = (holder.token, holder.machine, holder.host, holder.since)
        sound = all(isinstance(t, str) for t in texts) and type(holder.pid) is int
        return holder if sound and isinstance(holder.started, str | None) else None

    def describe(self) -> str:
        """Text for messages."""
        return f"process {self.pid} on {self.host}, since {self.since}"


@dataclass(frozen=True)
class _Seen:
    """Content and modification time of a lock."""

    text: str
    changed: float

    @property
    def holder(self) -> Holder | None:
        return Holder.read(self.text)

    @property
    def is_alive(self) -> bool | None:
        """Whether its holder is running; None if only time can tell."""
        holder = self.holder
        if holder is None or holder.machine != host_mark():
            return None
        return is_running(holder.pid, holder.started)


def _look(path: Path) -> _Seen | None:
    """The lock at a path, if any.

    Raises:
        ConfigError: the path is something else.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read as a lock ({error.strerror}); remove it") from error
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_size > LARGEST_LOCK:
            raise ConfigError(f"{path} is not a lock; remove it")
        return _Seen(os.read(descriptor, LARGEST_LOCK).decode("utf-8", "replace"), state.st_mtime)
    finally:
        os.close(descriptor)


def running_holder(work_dir: str | Path, tell: Callable[[str], None] = lambda text: None) -> Holder | None:
    """The training that is using a work dir, if any.

    A lock of another machine is watched for up to two minutes, until it is refreshed.

    Args:
        tell: called with a message before waiting.

    Raises:
        ConfigError: the path of the lock is something else.
    """
    path = WorkDir(work_dir).lock
    seen = _look(path)
    while seen is not None:
        alive = _watch(path, seen, tell) if seen.is_alive is None else seen.is_alive
        again = _look(path)
        if again is None or (again.text == seen.text and not alive):
            return None
        if again.text == seen.text:
            return seen.holder or Holder("", "", "an unknown machine", 0, None, "an unknown time")
        seen = again
    return None


def _watch(path: Path, seen: _Seen, tell: Callable[[str], None]) -> bool:
    """Watch a lock for as long as it takes to know whether its holder is alive."""
    age = _time_there(path) - seen.changed
    if age > STALE_SECONDS:
        return False
    who = seen.holder.describe() if seen.holder else "an unknown process"
    tell(f"{path} is of {who}: looking for up to {STALE_SECONDS:.0f} s whether it still runs")
    until = time.monotonic() + STALE_SECONDS
    while time.monotonic() < until:
        time.sleep(POLL_SECONDS)
        again = _look(path)
        if again is None or again != seen:
            return True
    return False


def _time_there(path: Path) -> float:
    """Current time by the clock of the file system, which may differ from that of this machine."""
    try:
        probe = create_temporary(path)
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()
    except OSError:
        return time.time()


def in_use(work_dir: str | Path, holder: Holder) -> WorkDirInUse:
    """Error that names the training that is using a work dir."""
    return WorkDirInUse(
        f"{work_dir} is in use by a training ({holder.describe()}): wait for its end, or choose another work dir. If "
        f"it has certainly ended, remove {WorkDir(work_dir).lock}"
    )


class WorkDirLock:
    """Context manager that reserves a work dir for this training.

    Args:
        work_dir: an existing folder.
        tell: called with a message before waiting for a sign of life from another holder.

    Raises:
        WorkDirInUse: another training is using it.
        ConfigError: the path of the lock is something else.
        OSError: the folder is not writable.
    """

    def __init__(self, work_dir: str | Path, tell: Callable[[str], None] = lambda text: None) -> None:
        self.path = WorkDir(work_dir).lock
        self.holder = Holder.of_this_process()
        self._text = json.dumps(asdict(self.holder)) + "\n"
        self._tell = tell
        self._ended = threading.Event()

    def __enter__(self) -> WorkDirLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, waiting only as long as it takes to know whether another holder is alive."""
        while not self._create():
            seen = _look(self.path)
            if seen is None:
                continue
            holder = running_holder(self.path.parent, self._tell)
            if holder is not None:
                raise in_use(self.path.parent, holder)
            self._take_away(seen)
        threading.Thread(target=self._beat, name="lock of the work dir", daemon=True).start()

    def release(self) -> None:
        """Release the lock; no effect if it is not held."""
        # in a forked process the lock belongs to the parent
        if os.getpid() == self.holder.pid:
            self._ended.set()
            with suppress(OSError, ConfigError):
                if self._is_mine():
                    self.path.unlink()

    def verify(self) -> None:
        """Check that this training still holds the work dir, before it replaces files there.

        Raises:
            CMDAError: another training took it over while this one was stalled.
        """
        try:
            if self._is_mine() or (not self.path.exists() and self._create()):
                return
        except OSError:
            # a temporary disk failure says nothing about other trainings
            return
        raise CMDAError(
            f"{self.path.parent} was taken over by another training while this one was stalled; stopping, so that "
            "their files do not mix"
        )

    def _is_mine(self) -> bool:
        seen = _look(self.path)
        return seen is not None and seen.text == self._text

    def _create(self) -> bool:
        """Create the lock; False if there is one."""
        temporary = create_temporary(self.path)
        try:
            temporary.write_text(self._text, encoding="utf-8")
            try:
                os.link(temporary, self.path)
            except FileExistsError:
                # over NFS the reply to a successful link may be lost, and the call repeated
                return temporary.stat().st_nlink == 2
            except OSError:
                return self._create_without_link()
            return True
        finally:
            temporary.unlink()

    def _create_without_link(self) -> bool:
        """The same on file systems without hard links."""
        try:
            with self.path.open("x", encoding="utf-8") as file:
                file.write(self._text)
        except FileExistsError:
            return False
        return True

    def _take_away(self, stale: _Seen) -> None:
        """Remove a lock whose holder has ended; of several processes that try, one succeeds."""
        aside = create_temporary(self.path)
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            aside.unlink()
            return
        found = _look(aside)
        if found is not None and found.text != stale.text:
            # another process was faster and has created its own lock since: put it back
            with suppress(OSError):
                os.link(aside, self.path)
        aside.unlink()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(OSError, ConfigError):
                if self._is_mine():
                    os.utime(self.path)
