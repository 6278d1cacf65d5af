"""The end of a training, whatever its cause: save what can be saved, print one message, set one exit status.

Every end passes through :class:`Shutdown`: a signal, a bad file, a full disk, a loss that is not finite, a killed
loader process, the end of another process, a bug in this program.
"""

from __future__ import annotations

import errno
import threading
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from mmseg.engine.data import LoaderDied, end_loaders
from mmseg.engine.interruptions import Interrupted, Interruptions, StopNow
from mmseg.engine.run_log import RunLog, SilentLog
from mmseg.errors import CheckpointError, CMDAError, first_line
from mmseg.parallel.distributed import ProcessRank, any_rank, gather, run_on_all_ranks
from mmseg.parallel.peers import is_saving_rank, notify_peers, peer_failure
from mmseg.system.signals import leave
from mmseg.work_dir.layout import WorkDir

# Settings that save memory.
MEMORY_REMEDY = (
    "set gradient_checkpointing=True, micro_batch=1 or precision=bf16 (docs/performance.md), or lower "
    "data.samples_per_gpu or the crops"
)

# Errors of a disk that is full, over quota, broken, gone or read-only.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE, errno.EROFS}


def as_message(error: BaseException) -> CMDAError | None:
    """Error with a message for the user; None for a bug, whose traceback is needed."""
    if isinstance(error, CMDAError):
        return error
    if isinstance(error, StopNow):
        return Interrupted("interrupted", error.number)
    # torch has no error class for a CPU that is out of memory
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error):
        return CMDAError(f"out of memory ({first_line(error)}); {MEMORY_REMEDY}")
    if isinstance(error, OSError) and (error.filename is not None or error.errno in DISK_ERRORS):
        return CMDAError(f"{error.filename or 'a file'} cannot be read or written ({error.strerror})")
    return None


class StepUndo:
    """Undoes what a step changes before its update: the teacher and the running statistics.

    Args:
        modules: modules whose buffers are kept, each with whether its parameters are kept too.
    """

    def __init__(self, *modules: tuple[nn.Module, bool]) -> None:
        self._tensors: list[Tensor] = []
        for module, with_parameters in modules:
            self._tensors += [p.data for p in module.parameters()] if with_parameters else []
            self._tensors += list(module.buffers())
        self._kept: list[Tensor] = []
        self._valid = False

    def keep(self) -> None:
        """Copy the state before a step."""
        if not self._kept:
            self._kept = [torch.empty_like(tensor) for tensor in self._tensors]
        for kept, tensor in zip(self._kept, self._tensors, strict=True):
            kept.copy_(tensor)
        self._valid = True

    def forget(self) -> None:
        """The update begins and cannot be undone."""
        self._valid = False

    def restore(self) -> bool:
        """Restore the state before the step; return whether that is possible."""
        if self._valid:
            for kept, tensor in zip(self._kept, self._tensors, strict=True):
                tensor.copy_(kept)
        return self._valid


class Saves(Protocol):
    """What :class:`Shutdown` asks of a training.

    Attributes:
        work_dir: folder of its checkpoints.
        first: number of finished iterations at its start.
        resume_hint: how to resume, for messages.
    """

    work_dir: WorkDir
    first: int
    log: RunLog | SilentLog
    process: ProcessRank
    resume_hint: str

    def save(self, done: int) -> None:
        """Write the checkpoint of ``done`` finished iterations; called in every process."""

    def write_checkpoint(self, done: int) -> None:
        """Write it from this process without the others, which may have ended."""

    def check_finite(self) -> None:
        """Raise a :class:`CMDAError` if the state must not be saved."""


class Shutdown:
    """Context in which a training runs, and through which it leaves.

    Args:
        training: what is saved.
        undo: restores what an unfinished step has changed; without it, only states between two iterations can be saved.
    """

    def __init__(self, training: Saves, undo: StepUndo | None = None) -> None:
        self.training, self.log, self.work_dir = training, training.log, training.work_dir
        self._undo = undo
        self.done = training.first
        # A run resumed from a checkpoint of another folder has none of its own yet.
        has_own = training.process.is_main and self.work_dir.checkpoint(self.done).is_file()
        self.saved = self.done if any_rank(has_own) else -1
        self.interruptions = Interruptions(self._rescue, end_loaders)
        self._whole = True
        # all processes leave at the same iteration
        self._agreed = False
        # saving this iteration has failed
        self._tried = False
        self._lock = threading.Lock()

    # ------------------------------------------------------------------------------------------------ for the loop

    def step_begins(self) -> None:
        """From now on the state is not that of ``done`` iterations."""
        self._whole = False
        if self._undo:
            self._undo.keep()

    def update_begins(self) -> None:
        """From now on the step cannot be undone."""
        if self._undo:
            self._undo.forget()

    def step_ended(self, done: int) -> None:
        """The state is that of ``done`` finished iterations."""
        self.done, self._whole = done, True

    def spoilt(self) -> None:
        """The state holds values that must not be saved."""
        self._whole = False

    # ------------------------------------------------------------------------------------------------ places to leave

    def checkpoint(self, must_succeed: bool) -> None:
        """Write the checkpoint of this iteration if there is none yet; called in every process.

        Raises:
            CheckpointError: it cannot be written and must be; otherwise the training continues and tries again later.
        """
        if self.done == self.saved:
            return
        self.training.check_finite()
        try:
            run_on_all_ranks(partial(self.training.save, self.done))
        except CheckpointError as error:
            if must_succeed:
                self._agreed = self._tried = True
                raise
            self.log.warning(f"{error}; the training continues and tries again at the next checkpoint")
        else:
            self.saved = self.done

    def all_or_none(self, problem: BaseException | None) -> None:
        """Continue if no process has a problem; otherwise all end here, between two iterations.

        Raises:
            BaseException: the problem of this process, or a :class:`CMDAError` that names that of another.
        """
        if not any_rank(problem is not None):
            return
        self._agreed = True
        number = getattr(problem, "number", 0)
        reports = gather(None if problem is None else (str(problem) or type(problem).__name__, number))
        if problem is not None:
            raise problem
        rank, (text, number) = next((rank, report) for rank, report in enumerate(reports) if report is not None)
        raise StopNow(number) if number else CMDAError(f"process {rank} of this training stopped: {text}")

    def leave_if_requested(self) -> None:
        """End here if any process received a signal to stop.

        Raises:
            StopNow: one did.
        """
        if self.interruptions.requested():
            self._agreed = True
            raise StopNow(self.interruptions.received or 15)

    # ------------------------------------------------------------------------------------------------ the way out

    def __enter__(self) -> Shutdown:
        self.interruptions.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        try:
            if error is not None:
                self._leave(error)
        finally:
            end_loaders()
            self.interruptions.__exit__()

    def _leave(self, error: BaseException) -> None:
        """Save, and raise what the script shows.

        Raises:
            CMDAError: always, except for a bug: that propagates with a note on what was saved.
        """
        cause = self._cause(error)
        if not self._agreed:
            notify_peers(cause or error)
        saved = self._saved_now()
        if cause is None:
            error.add_note(saved)
            return
        if isinstance(cause, Interrupted):
            message: CMDAError = Interrupted(self._interrupted(cause, saved), cause.number)
        else:
            message = type(cause)(f"{str(cause).rstrip('.')}. {saved[0].upper()}{saved[1:]}")
        leave(str(message), message.status)
        raise message from error

    def _cause(self, error: BaseException) -> CMDAError | None:
        cause = None if self._agreed or as_message(error) else peer_failure(error)
        if cause is not None:
            return cause
        # A signal to the whole process group also ends loader processes and connections.
        if self.interruptions.received and isinstance(error, (RuntimeError, LoaderDied)):
            error = StopNow(self.interruptions.received)
        return as_message(error)

    def _interrupted(self, cause: Interrupted, saved: str) -> str:
        who = "" if str(cause) == "interrupted" else f" ({cause})"
        return f"interrupted after iteration {self.done}{who}; {saved}"

    def _saved_now(self) -> str:
        """Save the state if possible, once; return a sentence that says what a resumed run will find."""
        with self._lock:
            return self._saved_sentence()

    def _saved_sentence(self) -> str:
        if not self._whole and self._undo and self._undo.restore():
            self._whole = True
        if self._whole and self.done and self.done != self.saved and not self._tried:
            if not self._agreed and not is_saving_rank(self.training.process.rank):
                return f"another process saves the state if possible. {self.training.resume_hint}"
            try:
                self.training.check_finite()
                if self._agreed:
                    run_on_all_ranks(partial(self.training.save, self.done))
                else:
                    self.training.write_checkpoint(self.done)
                self.saved = self.done
            except (Exception, StopNow) as error:
                reason = as_message(error) or error
                return f"its state cannot be saved: {reason}. {self._newest()}"
        if self._whole and self.done == self.saved:
            return f"saved {self.work_dir.checkpoint(self.done)}. {self.training.resume_hint}"
        if not self.done:
            return f"nothing was saved, as no iteration had finished. {self.training.resume_hint}"
        return self._newest()

    def _newest(self) -> str:
        found = self.work_dir.checkpoints()
        if not found:
            return "There is no checkpoint to resume from"
        return f"The newest checkpoint is {found[-1]}. {self.training.resume_hint}"

    def _rescue(self) -> str:
        """Save from the listening thread when the main thread hangs; see :class:`Interruptions`."""
        self._agreed = False
        return self._saved_now()
