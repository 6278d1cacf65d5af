"""One training in a work dir at a time.

The lock is a file that names its holder. It is made by a hard link, which network file systems make whole or not at
all, and its time of change is moved on while the holder lives. A lock whose holder has ended is taken over: on the same
machine by the number and the start of its process, elsewhere when nothing has moved the time for two minutes.
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
# A lock is a line; what is longer is none.
LARGEST_LOCK = 4096


class WorkDirInUse(ConfigError):
    """Another training writes into the work dir."""


@dataclass(frozen=True)
class Holder:
    """The process that a lock names.

    Attributes:
        token: drawn for this lock.
        machine: what :func:`mmseg.system.processes.host_mark` says there.
        host: name of the machine, for people.
        pid, started: number and start of the process.
        since: local time, for people.
    """

    token: str
    machine: str
    host: str
    pid: int
    started: str | None
    since: str

    @classmethod
    def of_this_process(cls) -> Holder:
        """A new holder."""
        pid = os.getpid()
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(secrets.token_hex(16), host_mark(), socket.gethostname(), pid, start_of(pid), since)

    @classmethod
    def read(cls, text: str) -> Holder | None:
        """What the text of a lock says; None where it is no lock of this program, or cut short."""
        try:
            holder = cls(**parse_json(text, "a lock"))
        except (DataError, TypeError):
            return None
        texts = (holder.token, holder.machine, holder.host, holder.since)
        sound = all(isinstance(t, str) for t in texts) and type(holder.pid) is int
        return holder if sound and isinstance(holder.started, str | None) else None

    def describe(self) -> str:
        """For messages."""
        return f"process {self.pid} on {self.host}, since {self.since}"


@dataclass(frozen=True)
class _Seen:
    """A lock as it was found."""

    text: str
    changed: float

    @property
    def holder(self) -> Holder | None:
        return Holder.read(self.text)

    @property
    def is_alive(self) -> bool | None:
        """Whether its holder runs; None where only time can tell."""
        holder = self.holder
        if holder is None or holder.machine != host_mark():
            return None
        return is_running(holder.pid, holder.started)


def _look(path: Path) -> _Seen | None:
    """The lock at a path, None where there is none.

    Raises:
        ConfigError: something else has the name.
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
    """The training that writes into a work dir at present, None where there is none.

    For a lock of another machine this waits until the lock shows life, two minutes at most.

    Args:
        tell: takes the note that it waits.

    Raises:
        ConfigError: something else has the name of the lock.
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
    """Whether a lock shows life within the time in which it must; it is watched no longer than that."""
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
    """The present time by the clock of the file system, which need not be that of this machine."""
    try:
        probe = create_temporary(path)
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()
    except OSError:
        return time.time()


def in_use(work_dir: str | Path, holder: Holder) -> WorkDirInUse:
    """Error that says who writes into a work dir."""
    return WorkDirInUse(
        f"{work_dir} is in use by a training ({holder.describe()}): wait for its end, or choose another work dir. If "
        f"it has ended for certain, remove {WorkDir(work_dir).lock}"
    )


class WorkDirLock:
    """Context in which no other training writes into a work dir.

    Args:
        work_dir: an existing folder.
        tell: takes the note that it waits for a sign of life of another holder.

    Raises:
        WorkDirInUse: another training does.
        ConfigError: something else has the name of the lock.
        OSError: the folder cannot be written.
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
        """Take the lock, waiting no longer than it takes to know whether another holder lives."""
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
        """Give it back; without effect where it is not held."""
        # A forked process leaves the lock to its parent.
        if os.getpid() == self.holder.pid:
            self._ended.set()
            with suppress(OSError, ConfigError):
                if self._is_mine():
                    self.path.unlink()

    def verify(self) -> None:
        """Make sure that the work dir is still this training's, before something in it is replaced.

        Raises:
            CMDAError: another training has taken it over while this one was held up.
        """
        try:
            if self._is_mine() or (not self.path.exists() and self._create()):
                return
        except OSError:
            # a disk that fails for the moment says nothing of other trainings
            return
        raise CMDAError(
            f"{self.path.parent} was taken over by another training while this one showed no sign of life; it stops, "
            "so that their files do not mix"
        )

    def _is_mine(self) -> bool:
        seen = _look(self.path)
        return seen is not None and seen.text == self._text

    def _create(self) -> bool:
        """Make the lock; False where there is one."""
        temporary = create_temporary(self.path)
        try:
            temporary.write_text(self._text, encoding="utf-8")
            try:
                os.link(temporary, self.path)
            except FileExistsError:
                # over NFS the answer to a link that was made may be lost, and the question asked again
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
        """Remove a lock whose holder has ended; of several that do, one succeeds."""
        aside = create_temporary(self.path)
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            aside.unlink()
            return
        found = _look(aside)
        if found is not None and found.text != stale.text:
            # Another process was faster and has made its own lock since: it gets that back.
            with suppress(OSError):
                os.link(aside, self.path)
        aside.unlink()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(OSError, ConfigError):
                if self._is_mine():
                    os.utime(self.path)
