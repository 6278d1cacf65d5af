"""One way out of a training for all its ends: save what can be saved, one message, one exit status, no children left.

Whatever ends a training passes through :class:`Ending`: a signal, a bad file, a full disk, a loss that is not finite, a
loader process that was killed, the end of another process, a mistake in this program.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mmseg.engine.checkpoint import checkpoint_path, list_checkpoints
from mmseg.engine.data import LoaderDied, end_loaders
from mmseg.engine.interruptions import Interrupted, Interruptions, StopNow
from mmseg.engine.run_log import RunLog, SilentLog
from mmseg.errors import CheckpointError, CMDAError
from mmseg.parallel.distributed import SINGLE_PROCESS, ProcessRank, any_rank, gather, run_on_all_ranks
from mmseg.parallel.peers import is_saving_rank, notify_peers, peer_failure
from mmseg.system.signals import leave

# what trades time for memory
MEMORY_REMEDY = (
    "set gradient_checkpointing=True, micro_batch=1 or precision=bf16 (docs/performance.md), or lower "
    "data.samples_per_gpu or the crops"
)

# what a disk answers when it is full, limited, broken, gone or read-only
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE, errno.EROFS}


def as_message(error: BaseException) -> CMDAError | None:
    """The error for users behind any other; None for a mistake in this program, whose traceback is wanted."""
    if isinstance(error, CMDAError):
        return error
    if isinstance(error, StopNow):
        return Interrupted("interrupted", error.number)
    # torch has no class of its own for a machine without memory left
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error):
        told = (str(error).splitlines() or [type(error).__name__])[0]
        return CMDAError(f"the memory does not suffice ({told}); {MEMORY_REMEDY}")
    if isinstance(error, OSError) and (error.filename is not None or error.errno in DISK_ERRORS):
        return CMDAError(f"{error.filename or 'a file'} cannot be read or written ({error.strerror})")
    return None


class StepUndo:
    """Takes back what a step has changed before its update: the teacher and the running statistics.

    Args:
        modules: whose parameters and buffers to keep, and whether the parameters, too.
    """

    def __init__(self, *modules: tuple[nn.Module, bool]) -> None:
        self._tensors: list[Tensor] = []
        for module, with_parameters in modules:
            self._tensors += [p.data for p in module.parameters()] if with_parameters else []
            self._tensors += list(module.buffers())
        self._kept: list[Tensor] = []
        self._valid = False

    def keep(self) -> None:
        """Keep the state before a step."""
        if not self._kept:
            self._kept = [torch.empty_like(tensor) for tensor in self._tensors]
        for kept, tensor in zip(self._kept, self._tensors, strict=True):
            kept.copy_(tensor)
        self._valid = True

    def forget(self) -> None:
        """The update begins: it cannot be taken back."""
        self._valid = False

    def restore(self) -> bool:
        """Go back to the state before the step; whether that is possible."""
        if self._valid:
            for kept, tensor in zip(self._kept, self._tensors, strict=True):
                tensor.copy_(kept)
        return self._valid


class Ending:
    """Context in which a training runs, and through which it leaves.

    Args:
        work_dir: where its checkpoints lie.
        first: finished iterations at its start.
        save: writes the checkpoint of a number of finished iterations; called in every process.
        log: of the run.
        process: which of how many processes this is.
        undo: takes back a step that was begun; without one, only states between two iterations can be saved.
        check: called before every checkpoint; raises where the state must not be kept.
        go_on: what to do after an end.
        save_alone: writes a checkpoint without the other processes, which may have ended; by default ``save``.
    """

    def __init__(
        self,
        work_dir: Path,
        first: int,
        save: Callable[[int], None],
        log: RunLog | SilentLog,
        process: ProcessRank = SINGLE_PROCESS,
        undo: StepUndo | None = None,
        check: Callable[[], None] = lambda: None,
        go_on: str = "Go on with --resume auto",
        save_alone: Callable[[int], None] | None = None,
    ) -> None:
        self.work_dir, self.log, self.process = work_dir, log, process
        self._save, self._save_alone = save, save_alone or save
        self._undo, self._check, self._go_on = undo, check, go_on
        self.done = first
        # A run that goes on from a checkpoint of another folder has none of its own yet.
        self.saved = first if any_rank(process.is_main and checkpoint_path(work_dir, first).is_file()) else -1
        self.interruptions = Interruptions(self._rescue, end_loaders)
        self._whole = True
        self._agreed = False
        # a checkpoint of this iteration was tried in vain
        self._tried = False
        self._lock = threading.Lock()

    # ------------------------------------------------------------------------------------------------ the loop tells

    def step_begins(self) -> None:
        """From here on, the state is not that of ``done`` iterations."""
        self._whole = False
        if self._undo:
            self._undo.keep()

    def update_begins(self) -> None:
        """From here on, the step cannot be taken back."""
        if self._undo:
            self._undo.forget()

    def step_ended(self, done: int) -> None:
        """The state is that of ``done`` finished iterations."""
        self.done, self._whole = done, True

    def spoilt(self) -> None:
        """The state holds numbers that must not be kept."""
        self._whole = False

    # ------------------------------------------------------------------------------------------------ places to leave

    def checkpoint(self, must_succeed: bool) -> None:
        """Write the checkpoint of this iteration, unless that was done; all processes do.

        Raises:
            CheckpointError: it cannot be written and must be; else the training goes on, and tries again at the next.
        """
        if self.done == self.saved:
            return
        self._check()
        try:
            run_on_all_ranks(partial(self._save, self.done))
        except CheckpointError as error:
            if must_succeed:
                self._agreed = self._tried = True
                raise
            self.log.warning(f"{error}; the training goes on, and tries again at the next checkpoint")
        else:
            self.saved = self.done

    def all_or_none(self, problem: BaseException | None) -> None:
        """Go on if no process has a problem; else all end here, between two iterations.

        Raises:
            BaseException: the problem of this process, else a :class:`CMDAError` that names that of another.
        """
        if not any_rank(problem is not None):
            return
        self._agreed = True
        number = getattr(problem, "number", 0)
        words = gather(None if problem is None else (str(problem) or type(problem).__name__, number))
        if problem is not None:
            raise problem
        rank, (text, number) = next((rank, word) for rank, word in enumerate(words) if word is not None)
        raise StopNow(number) if number else CMDAError(f"process {rank} of this training stopped: {text}")

    def leave_if_requested(self) -> None:
        """End here if any process was told to stop.

        Raises:
            StopNow: it was.
        """
        if self.interruptions.requested():
            self._agreed = True
            raise StopNow(self.interruptions.received or 15)

    # ------------------------------------------------------------------------------------------------ the way out

    def __enter__(self) -> Ending:
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
            CMDAError: always, but for a mistake in this program: that goes its way, with a note on what was saved.
        """
        cause = self._cause(error)
        if not self._agreed:
            notify_peers(cause or error)
        saved = self._saved_now()
        if cause is None:
            error.add_note(saved)
            return
        if isinstance(cause, Interrupted):
            told: CMDAError = Interrupted(self._interrupted(cause, saved), cause.number)
        else:
            told = type(cause)(f"{str(cause).rstrip('.')}. {saved[0].upper()}{saved[1:]}")
        leave(str(told), told.status)
        raise told from error

    def _cause(self, error: BaseException) -> CMDAError | None:
        cause = None if self._agreed or as_message(error) else peer_failure(error)
        if cause is not None:
            return cause
        # A signal to a whole group ends helpers and connections, too.
        if self.interruptions.received and isinstance(error, (RuntimeError, LoaderDied)):
            error = StopNow(self.interruptions.received)
        return as_message(error)

    def _interrupted(self, cause: Interrupted, saved: str) -> str:
        who = "" if str(cause) == "interrupted" else f" ({cause})"
        return f"interrupted after iteration {self.done}{who}; {saved}"

    def _saved_now(self) -> str:
        """Save the state if that can be done, once; a sentence on what a resumption will find."""
        with self._lock:
            return self._saved_sentence()

    def _saved_sentence(self) -> str:
        if not self._whole and self._undo and self._undo.restore():
            self._whole = True
        if self._whole and self.done and self.done != self.saved and not self._tried:
            if not self._agreed and not is_saving_rank(self.process.rank):
                return f"another process saves the state, if that can be done. {self._go_on}"
            try:
                self._check()
                if self._agreed:
                    run_on_all_ranks(partial(self._save, self.done))
                else:
                    self._save_alone(self.done)
                self.saved = self.done
            except (Exception, StopNow) as error:
                told = as_message(error) or error
                return f"its state cannot be saved: {told}. {self._newest()}"
        if self._whole and self.done == self.saved:
            return f"saved {checkpoint_path(self.work_dir, self.done)}. {self._go_on}"
        if not self.done:
            return f"saved nothing, it had not begun. {self._go_on}"
        return self._newest()

    def _newest(self) -> str:
        found = list_checkpoints(self.work_dir)
        if not found:
            return "There is no checkpoint to go on from"
        return f"The newest checkpoint is {found[-1]}. {self._go_on}"

    def _rescue(self) -> str:
        """What the listening thread does where the main one hangs; see :class:`Interruptions`."""
        self._agreed = False
        return self._saved_now()
