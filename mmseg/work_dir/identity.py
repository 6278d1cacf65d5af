"""Which run a checkpoint belongs to, whatever folder it is in.

A run draws a random id when it starts. The id is stored in the work dir and in every checkpoint, so that a run does not
mistake the checkpoints of another run in the same folder for its own.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmseg.errors import CheckpointError, DataError
from mmseg.io.files import digest, write_text
from mmseg.io.json_files import read_json
from mmseg.work_dir.layout import WorkDir

# Stands for the id in checkpoints of earlier versions, which have none.
NO_ID = ""
LARGEST_RECORD = 1 << 20


@dataclass(frozen=True)
class RunIdentity:
    """A run.

    Attributes:
        id: random, drawn at the start.
        started: local time, for messages.
        seed: seed of the run.
        config: digest of its resolved config at the start.
        parents: (id, iteration) of runs in the same folder that it continues: their checkpoints up to that iteration
            count as its own.
    """

    id: str
    started: str
    seed: int
    config: str
    parents: tuple[tuple[str, int], ...] = ()

    @classmethod
    def new(cls, seed: int, config: str, parents: tuple[tuple[str, int], ...] = ()) -> RunIdentity:
        """A new run.

        Args:
            config: text of the resolved config.
        """
        return cls(secrets.token_hex(8), time.strftime("%Y-%m-%d %H:%M:%S"), seed, digest(config), parents)

    @classmethod
    def of_meta(cls, meta: Mapping[str, Any]) -> RunIdentity | None:
        """The run that a checkpoint names, if any."""
        run = run_of(meta)
        seed = run.get("seed")
        return (
            cls(run["id"], str(run.get("started")), seed if type(seed) is int else 0, str(run.get("config")))
            if run
            else None
        )

    def owns(self, meta: Mapping[str, Any]) -> bool:
        """Whether a checkpoint with this ``meta`` belongs to the run."""
        number, iteration = run_of(meta).get("id", NO_ID), meta.get("iter")
        if number == self.id:
            return True
        return isinstance(iteration, int) and any(number == p and iteration <= until for p, until in self.parents)

    def continued_from(self, meta: Mapping[str, Any]) -> RunIdentity:
        """This run as the continuation of an earlier checkpoint in its folder; later checkpoints are not its own.

        Args:
            meta: ``meta`` of the checkpoint.
        """
        return replace(self, parents=((run_of(meta).get("id", NO_ID), meta["iter"]), *self.parents))

    def as_meta(self) -> dict[str, Any]:
        """Entry ``run`` in the ``meta`` of a checkpoint."""
        return {"id": self.id, "started": self.started, "seed": self.seed, "config": self.config}

    def write(self, work_dir: Path) -> None:
        """Mark the work dir as this run's. Done at the first checkpoint, so that a start by mistake costs nothing.

        Raises:
            CheckpointError: the file cannot be written.
        """
        if read_identity(work_dir) == self:
            return
        path = WorkDir(work_dir).identity
        try:
            write_text(path, json.dumps(asdict(self)) + "\n")
        except OSError as error:
            raise CheckpointError(f"{path} cannot be written ({error.strerror}); free space there") from error


def read_identity(work_dir: Path) -> RunIdentity | None:
    """The run that a work dir was last started for; None if there is no valid record."""
    try:
        return _checked(read_json(WorkDir(work_dir).identity, max_bytes=LARGEST_RECORD))
    except (DataError, ValueError, TypeError, KeyError):
        return None


def _checked(found: Mapping[str, Any]) -> RunIdentity:
    parents = tuple((number, until) for number, until in found["parents"])
    kinds = [(found["id"], str), (found["started"], str), (found["seed"], int), (found["config"], str)]
    kinds += [pair for number, until in parents for pair in ((number, str), (until, int))]
    if not found["id"] or not all(isinstance(value, kind) for value, kind in kinds):
        raise ValueError("not the record of a run")
    return RunIdentity(found["id"], found["started"], found["seed"], found["config"], parents)


def state_of(work_dir: Path) -> tuple[str, ...]:
    """Changes when a run is started in a work dir, or writes a checkpoint there."""
    identity = read_identity(work_dir)
    return (identity.id if identity else "", *(path.name for path in WorkDir(work_dir).checkpoints()))


def run_of(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """Entry ``run`` in the ``meta`` of a checkpoint; empty in checkpoints of earlier versions."""
    run = meta.get("run")
    return run if isinstance(run, Mapping) and isinstance(run.get("id"), str) and run["id"] else {}
