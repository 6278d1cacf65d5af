"""The cache of downloaded weights, and the one function that turns what a user gives into a file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mmseg.errors import CheckpointError, DataError
from mmseg.io.files import write_text
from mmseg.io.json_files import read_json
from mmseg.system.printing import say
from mmseg.weights.addresses import Address, BadAddress
from mmseg.weights.archives import weights_in
from mmseg.weights.download import SHA256, Changed, Known, Passing, Unavailable, download, file_sha256
from mmseg.weights.table import Reference, Source, reference_of

# Names in the cache never begin with a dot.
RECORD, LOCK = ".record.json", ".lock"
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Stored:
    """A file of the cache.

    Attributes:
        path: the file.
        address: where it came from, in canonical form.
        sha256, size: of its content when it arrived.
        commit: revision on Hugging Face; '' elsewhere.
        since: local time of the download.
    """

    path: Path
    address: str
    sha256: str
    size: int
    commit: str = ""
    since: str = ""


def cache_folder() -> Path:
    """Folder of the cache: ``CMDA_HOME``, or ``cmda`` in the cache folder of the platform."""
    chosen = os.environ.get("CMDA_HOME")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "cmda"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "cmda"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cmda"


def local_file(given: str | Path, console: Console | None = None) -> Path:
    """The file that a path, address or name of weights stands for, downloaded if it is not in the cache.

    Args:
        given: a path, which is returned as it is; ``https://...``; ``hf://<owner>/<repository>/<file>@<revision>``; or
            a name in ``mmseg/weights.toml``.
        console: shows progress; stderr by default.

    Raises:
        CheckpointError: the address cannot be used, or no source has the file.
    """
    reference = reference_of(given)
    return Path(given) if reference is None else weights_in(fetch(reference, console).path)


def fetch(reference: Reference, console: Console | None = None) -> Stored:
    """The file of a reference, from the cache or from the first source that has it.

    Raises:
        CheckpointError: no source has the file; the message names each, and where to put the file by hand.
        NoSpace: the disk is full.
    """
    found = stored(reference)
    if found is not None:
        return found
    console = console or Console(stderr=True)
    failures: list[str] = []
    for address, source in _places(reference):
        if failures:
            say(console, f"{failures[-1]}; trying {address.text}")
        try:
            return _fetch_from(address, source, console)
        except (Unavailable, Passing) as error:
            failures.append(f"{address.text}: {error}")
    failures += [f"{source.text} is {source.by_hand}" for source in reference.sources if source.by_hand]
    raise CheckpointError(f"{reference.text} cannot be downloaded ({'; '.join(failures)}); {_by_hand(reference)}")


def stored(reference: Reference) -> Stored | None:
    """The file of a reference if it is in the cache; nothing is downloaded.

    Raises:
        CheckpointError: a file that was put there by hand is not the one that the table knows.
    """
    found = (_in_cache(address, source) for address, source in _places(reference))
    return next((one for one in found if one is not None), None)


def stored_files() -> list[Stored]:
    """All complete files in the cache, by address."""
    records = (_record(path) for path in sorted((cache_folder() / "weights").glob("*")))
    return sorted((r for r in records if r is not None and r.path.is_file()), key=lambda r: r.address)


def check_stored(found: Stored) -> str:
    """What is wrong with a file of the cache, by its whole content; '' if nothing is."""
    sha256 = file_sha256(found.path)
    if sha256 == found.sha256:
        return ""
    return f"its SHA-256 is {sha256}, and was {found.sha256} when it arrived; remove {found.path}"


def description_of(given: str | Path) -> dict[str, Any]:
    """What identifies a weight file, for the record of a run: as given, SHA-256, and its origin if it was downloaded.

    Args:
        given: see :func:`local_file`; it must be there already.

    Raises:
        CheckpointError: a file of the cache is not what it was when it arrived.
    """
    reference = reference_of(given)
    found = stored(reference) if reference is not None else None
    if found is None:
        path = Path(given)
        return {"given": str(given), **({"sha256": file_sha256(path)} if path.is_file() else {})}
    fault = check_stored(found)
    if fault:
        raise CheckpointError(f"{found.address}: {fault}")
    origin = {"from": found.address, **({"commit": found.commit} if found.commit else {})}
    return {"given": str(given), "sha256": found.sha256, **origin}


def _places(reference: Reference) -> list[tuple[Address, Source]]:
    """Addresses of a reference that a program can fetch, in the order in which they are tried."""
    try:
        return [(address, source) for source in reference.sources for address in source.addresses()]
    except BadAddress as error:
        raise CheckpointError(f"{reference.text}: {error}") from error


def _target(address: Address) -> Path:
    """Where the file of an address is in the cache."""
    key = hashlib.sha256(address.text.encode()).hexdigest()[:16]
    return cache_folder() / "weights" / key / address.file


def _by_hand(reference: Reference) -> str:
    address, _ = _places(reference)[0]
    return f"download it elsewhere and put it at {_target(address)}, or give the path of a file"


def _in_cache(address: Address, source: Source) -> Stored | None:
    """The file of an address if it is complete. One without a record was put there by hand, and gets one."""
    target = _target(address)
    try:
        size = target.stat().st_size
    except OSError:
        return None
    record = _record(target.parent)
    if record is None or record.path.name != target.name:
        if not target.is_file():
            return None
        record = Stored(target, address.text, file_sha256(target), size, since=_now())
        if source.sha256 and source.sha256 != record.sha256:
            raise CheckpointError(
                f"{target}: its SHA-256 is {record.sha256}, and {source.sha256} is expected; remove it, or put the "
                "right file there"
            )
        with suppress(OSError):
            _write_record(record)
        return record
    # A cut or overwritten file is downloaded again, and compared with the record then.
    return record if record.size == size else None


def _record(folder: Path) -> Stored | None:
    """Record of a download; None if there is none that can be read."""
    try:
        record = read_json(folder / RECORD)
        texts = [record[key] for key in ("address", "file", "sha256", "commit", "since")]
        sound = all(isinstance(text, str) for text in texts) and type(record["size"]) is int
        if not sound or not SHA256.fullmatch(record["sha256"]) or Path(record["file"]).name != record["file"]:
            return None
    except (DataError, KeyError):
        return None
    file = folder / record.pop("file")
    known = {key: record[key] for key in ("address", "sha256", "size", "commit", "since")}
    return Stored(file, **known)


def _write_record(found: Stored) -> None:
    record = {**asdict(found), "path": None, "file": found.path.name}
    record.pop("path")
    write_text(found.path.parent / RECORD, json.dumps(record, indent=1) + "\n")


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _fetch_from(address: Address, source: Source, console: Console) -> Stored:
    """Download from one address; of several processes that want it, one does."""
    target = _target(address)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target, console):
            found = _in_cache(address, source)
            if found is not None:
                return found
            return _download_to(target, address, source, console)
    except OSError as error:
        where = error.filename or target.parent
        raise CheckpointError(
            f"{where} cannot be written ({error.strerror or error}); set CMDA_HOME to a folder that can"
        ) from error


def _download_to(target: Path, address: Address, source: Source, console: Console) -> Stored:
    before = _record(target.parent)
    known = Known(source.sha256, source.size, before.sha256 if before else "")
    try:
        got = download(address, target, known, console)
    except Changed as error:
        since = before.since if before else ""
        raise CheckpointError(
            f"{address.text} has changed since {since}: {error}. If that is right, remove {target.parent} and try "
            "again; on Hugging Face, a commit given as @<revision> does not change"
        ) from error
    found = Stored(target, address.text, got.sha256, got.size, got.commit, _now())
    _write_record(found)
    return found


@contextmanager
def _locked(target: Path, console: Console) -> Iterator[None]:
    """Context that one process at a time enters. The lock ends with its process, however that ends."""
    with open(target.parent / LOCK, "a+b") as file:
        told = False
        while not _try_lock(file.fileno()):
            if not told:
                say(console, f"waiting for another process that downloads {target.name}")
            told = True
            time.sleep(POLL_SECONDS)
        yield


def _try_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False if another process has the lock."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if sys.platform == "win32" and error.errno == errno.EACCES:
            return False
        # A file system without locks: two processes at once may then download twice.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return True
