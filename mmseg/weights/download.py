"""Download of one file: resumed after a cut, retried, checked, and named only when it is complete."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from mmseg.errors import CheckpointError, DataError
from mmseg.io.files import open_bytes_to_append, write_text
from mmseg.io.json_files import read_json
from mmseg.system.printing import say, text_column
from mmseg.weights.addresses import Address
from mmseg.weights.web import COMMIT, LINKED_HASH, Answer, NothingMore, Passing, Unavailable, open_address

CHUNK = 1 << 18
# Failures in a row without a single new byte, and in all, before a download is given up.
ATTEMPTS, MOST_ATTEMPTS = 5, 100
# Seconds before the next attempt if the server names none, and the longest that it may name.
PAUSES = (1.0, 2.0, 4.0, 8.0)
LONGEST_PAUSE = 60.0
# A server that is not reached at all is tried only this often.
OFFLINE_ATTEMPTS = 2
# Bytes that must stay free next to a download.
SPARE = 64 << 20
SHA256 = re.compile(r"[0-9a-f]{64}")
pause = time.sleep


@dataclass(frozen=True)
class Known:
    """What is known of a file before it is downloaded.

    Attributes:
        sha256, size: according to the table of weights; '' and None if unknown.
        recorded: SHA-256 at an earlier download from the same address; '' if there was none.
    """

    sha256: str = ""
    size: int | None = None
    recorded: str = ""


@dataclass(frozen=True)
class Downloaded:
    """A complete file.

    Attributes:
        sha256: of its content.
        size: in bytes.
        commit: revision on Hugging Face; '' elsewhere.
    """

    sha256: str
    size: int
    commit: str = ""


class NoSpace(CheckpointError):
    """The disk of the cache is full."""


class WrongContent(Unavailable):
    """A complete file that is not the one that is expected."""


class Changed(Exception):
    """A complete file that is not the one that the same address gave before."""


class Partial:
    """The part of a file that has arrived, next to its target, and what identifies the file at the server.

    Attributes:
        path: the bytes.
        validator: ``ETag`` or ``Last-Modified`` of the file; '' if the server gives none.
        total: bytes of the whole file, if the server says so.
        restarts: how often bytes that had arrived were given up.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f".{target.name}.part")
        self._note = target.with_name(f".{target.name}.part.json")
        self.validator, self.total = "", None
        self.restarts = 0
        with suppress(DataError):
            note = read_json(self._note)
            validator, total = note.get("validator"), note.get("total")
            if isinstance(validator, str) and validator.isprintable() and validator.isascii():
                self.validator = validator
                self.total = total if type(total) is int else None

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def resumable(self) -> int:
        """Bytes that a request may leave out; 0 if nothing tells whether the rest would belong to them."""
        return self.size if self.validator else 0

    def begin(self, validator: str, total: int | None) -> None:
        """Start from the first byte."""
        self.discard()
        self.validator, self.total = validator, total
        write_text(self._note, json.dumps({"validator": validator, "total": total}) + "\n")

    def discard(self) -> None:
        """Remove what has arrived."""
        self.restarts += self.size > 0
        self.validator, self.total = "", None
        for path in (self.path, self._note):
            path.unlink(missing_ok=True)

    def complete(self, target: Path) -> None:
        """Give the file its name."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, target)
        self._note.unlink(missing_ok=True)


def download(address: Address, target: Path, known: Known, console: Console | None = None) -> Downloaded:
    """Download a file.

    After an interruption of any kind, the bytes that have arrived stay in a hidden file next to the target, and the
    next call continues there, if the server still has the same file and can send a part of it.

    Args:
        address: where it is.
        target: where it goes, in an existing folder.
        known: what its content must be.
        console: shows progress; stderr by default.

    Raises:
        Unavailable: the source does not have the file, or another one.
        Changed: it has another file than before.
        Passing: it could not be reached after several attempts.
        NoSpace: the disk is full. What has arrived is removed.
    """
    part = Partial(target)
    console = console or Console(stderr=True)
    with _progress(console, address) as show:
        linked = _until_complete(address, part, known, show)
    found = Downloaded(file_sha256(part.path), part.size, linked.get(COMMIT, ""))
    promised = linked.get(LINKED_HASH, "")
    for sha256, origin in ((known.sha256, "the table of weights"), (promised, "Hugging Face")):
        if SHA256.fullmatch(sha256) and sha256 != found.sha256:
            part.discard()
            raise WrongContent(f"its SHA-256 is {found.sha256}, and {sha256} according to {origin}")
    if known.recorded and known.recorded != found.sha256:
        part.discard()
        raise Changed(f"its SHA-256 is {found.sha256}, and was {known.recorded}")
    part.complete(target)
    return found


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


Show = Callable[[int, int | None], None]


@contextmanager
def _progress(console: Console, address: Address) -> Iterator[Show]:
    """Progress of a download: a bar in a terminal, else one line at the beginning."""
    if not console.is_terminal:
        begun = False

        def show_once(done: int, total: int | None) -> None:
            nonlocal begun
            if not begun:
                size = f" ({total / 1e6:.1f} MB)" if total else ""
                rest = f", resumed after {done / 1e6:.1f} MB" if done else ""
                say(console, f"downloading {address.text}{size}{rest}")
            begun = True

        yield show_once
        return
    columns = (text_column(), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(address.file, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _until_complete(address: Address, part: Partial, known: Known, show: Show) -> dict[str, str]:
    """Try until everything has arrived; returns the headers of Hugging Face."""
    failures = 0
    for _ in range(MOST_ATTEMPTS):
        before, restarts = part.size, part.restarts
        try:
            return _attempt(address, part, known, show)
        except Passing as error:
            failures = 1 if part.size > before and part.restarts == restarts else failures + 1
            too_long = error.wait is not None and error.wait > LONGEST_PAUSE
            if failures >= (OFFLINE_ATTEMPTS if error.offline else ATTEMPTS) or too_long:
                if too_long:
                    raise Passing(f"{error}; it asks to wait {error.wait:.0f} s: try again then") from error
                raise
            pause(error.wait if error.wait is not None else PAUSES[min(failures, len(PAUSES)) - 1])
    raise Passing(f"the connection was cut {MOST_ATTEMPTS} times")


def _attempt(address: Address, part: Partial, known: Known, show: Show) -> dict[str, str]:
    """One request, and as many bytes as come of it."""
    have = part.resumable
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": part.validator}
    try:
        with open_address(address, headers) as answer:
            total = _placed(answer, part, have, known)
            _check_space(part, total)
            show(part.size, total)
            _receive(answer, part, total, show)
            return answer.linked
    except NothingMore as error:
        # Either everything has arrived, or the file is another one.
        if have and have == part.total and error.content_range.endswith(f"/{have}"):
            return error.linked
        part.discard()
        raise Passing("it has no such part of the file", wait=0.0) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            part.discard()
            raise NoSpace(
                f"{part.path.parent}: no space left for {address.text}; free some, or set CMDA_HOME to another folder"
            ) from error
        raise


def _placed(answer: Answer, part: Partial, have: int, known: Known) -> int | None:
    """Make the partial file ready for the bytes of an answer; returns the size of the whole file, if it is known."""
    if answer.header("Content-Type").lower().startswith(("text/html", "application/xhtml")):
        raise Unavailable("it answers with a web page, not a file: a login, a confirmation, or an error")
    if answer.header("Content-Encoding").lower() not in ("", "identity"):
        raise Unavailable(f"it sends the file compressed ({answer.header('Content-Encoding')[:40]})")
    if answer.response.status == 206 and have:
        found = re.fullmatch(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15})", answer.header("Content-Range"))
        changed = _validator(answer) not in ("", part.validator)
        if found is None or int(found[1]) != have or changed or part.total not in (None, int(found[2])):
            part.discard()
            raise Passing("it sends another part of the file than it was asked for", wait=0.0)
        return int(found[2])
    if answer.response.status != 200:
        raise Unavailable(f"HTTP status {answer.response.status}")
    # Also the answer of a server that cannot send parts, or whose file has changed.
    length = answer.header("Content-Length")
    total = int(length) if re.fullmatch(r"\d{1,15}", length) else None
    if known.size is not None and total not in (None, known.size):
        raise WrongContent(f"it has {total} bytes, and {known.size} according to the table of weights")
    part.begin(_validator(answer), total)
    return total


def _validator(answer: Answer) -> str:
    """What tells versions of a file apart in a header ``If-Range``; weak ones do not."""
    etag, modified = answer.header("ETag").strip(), answer.header("Last-Modified").strip()
    if re.fullmatch(r'"[\x21\x23-\x7e]+"', etag):
        return etag
    return modified if re.fullmatch(r"[\x20-\x7e]{1,64}", modified) else ""


def _check_space(part: Partial, total: int | None) -> None:
    needed = total - part.size if total is not None else 0
    free = shutil.disk_usage(part.path.parent).free
    if needed + SPARE > free:
        if total is None:
            # No end is known, so waiting for space would not help.
            part.discard()
        raise NoSpace(
            f"{part.path.parent}: the file needs {needed / 1e6:.0f} MB more, and {free / 1e6:.0f} MB are free; free "
            "some space, or set CMDA_HOME to another folder"
        )


def _receive(answer: Answer, part: Partial, total: int | None, show: Show) -> None:
    """Append the bytes of an answer."""
    done = checked = part.size
    with open_bytes_to_append(part.path) as file:
        while True:
            try:
                block = answer.response.read(CHUNK)
            except http.client.IncompleteRead as error:
                file.write(error.partial)
                raise Passing("the connection was cut") from error
            except (OSError, http.client.HTTPException) as error:
                raise Passing("the connection was cut") from error
            if not block:
                break
            file.write(block)
            done += len(block)
            show(done, total)
            if total is None and done - checked >= SPARE:
                checked = done
                _check_space(part, total)
    if total is not None and done != total:
        if done > total:
            part.discard()
        raise Passing(f"the connection was cut after {done} of {total} bytes")
