"""A config as one typed object, built once; everything that trains takes it.

Every key is a field of a dataclass below: its kind and range, its default, and one line of what it does. The names are
those of the config. Needs the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmseg.classes import ClassSet
from mmseg.config.class_sets import DEFAULT, ClassSetKind, class_set
from mmseg.config.components import DATASETS, MODELS, SHARE, TRAIN_SETS
from mmseg.config.fields import build, inline, key, section, section_of, shared
from mmseg.config.kinds import REQUIRED, Choice, Flag, Key, ListOf, Number, PathText, Text, Unread, Whole
from mmseg.config.sections import Either, MapOf, Sections, Variants
from mmseg.config.uda import METHODS, UDASettings

Component = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class EvalData:
    """What a test reads of the section ``data``."""

    workers_per_gpu: int = key(Whole(0, 1024), 0, "loader processes of each process")
    test: Component | None = key(DATASETS, None, "data set that my_test.py scores", none=True)


@dataclass(frozen=True, kw_only=True)
class Data(EvalData):
    """The data sets and how they are loaded."""

    samples_per_gpu: int = key(Whole(1, 4096), REQUIRED, "pairs of samples per iteration, in each process")
    train: Component = key(TRAIN_SETS, REQUIRED, "training set")
    val: Component | None = key(DATASETS, None, "data set of the evaluations during training", none=True)

    @property
    def skips_bad_samples(self) -> bool:
        """Whether files that cannot be used are left out; else they stop the training."""
        return TRAIN_SETS.value(self.train, "on_bad_sample") == "skip"


@dataclass(frozen=True, kw_only=True)
class Multipliers:
    """Factors of some parameters."""

    lr_mult: float = key(Number(0, 1e4, above=True), 1.0, "factor on the learning rate")
    decay_mult: float = key(Number(0, 1e4), 1.0, "factor on the weight decay")


@dataclass(frozen=True, kw_only=True)
class ParameterSettings:
    """Settings by parameter."""

    custom_keys: Mapping[str, Multipliers] = key(
        MapOf(section_of(Multipliers)), {}, "part of a parameter's name -> its factors; the longest match counts"
    )


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The optimiser."""

    type: str = key(Choice(("AdamW", "Adam", "SGD")), REQUIRED, "optimiser")
    lr: float = key(Number(0, 10, above=True), REQUIRED, "learning rate")
    weight_decay: float = key(Number(0, 100), 0.0, "weight decay")
    betas: tuple[float, float] = key(
        ListOf(Number(0, 1, below=True), 2, 2), (0.9, 0.999), "decay of the moments (Adam, AdamW)"
    )
    eps: float = key(Number(0, 1, above=True), 1e-8, "added to the denominator (Adam, AdamW)")
    momentum: float = key(Number(0, 1, below=True), 0.0, "momentum (SGD)")
    paramwise_cfg: ParameterSettings = section(ParameterSettings, "settings by parameter", none=True)

    def options(self) -> dict[str, Any]:
        """Settings of this type of optimiser, learning rate and weight decay aside."""
        return {name: getattr(self, name) for name in OPTIMIZER_OPTIONS[self.type]}

    def of_parameter(self, name: str) -> tuple[float, float]:
        """Learning rate and weight decay of a parameter.

        Of the ``custom_keys`` that occur in its name, the longest counts (the alphabetically first of equally long
        ones).
        """
        custom = self.paramwise_cfg.custom_keys
        for piece in sorted(sorted(custom), key=len, reverse=True):
            if piece in name:
                return self.lr * custom[piece].lr_mult, self.weight_decay * custom[piece].decay_mult
        return self.lr, self.weight_decay


# Settings that only some optimisers have.
OPTIMIZER_OPTIONS: dict[str, tuple[str, ...]] = {
    "AdamW": ("betas", "eps"),
    "Adam": ("betas", "eps"),
    "SGD": ("momentum",),
}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate over the iterations: linear warm-up, then polynomial decay or half a cosine."""

    policy: str = key(Choice(("poly", "cosine")), REQUIRED, "polynomial decay, or half a cosine")
    warmup: str | None = key(Choice(("linear",)), None, "kind of warm-up", none=True)
    warmup_iters: int | None = key(Whole(0), None, "iterations of the warm-up", none=True)
    warmup_ratio: float | None = key(SHARE, None, "share of the learning rate at the start of the warm-up", none=True)
    power: float = key(Number(0, 10), 1.0, "exponent of the decay (poly)")
    min_lr: float = key(Number(0, 10), 0.0, "learning rate at the end")
    by_epoch: bool = key(Choice((False,)), False, "by iteration", none=True)

    def learning_rate(self, iteration: int, base_lr: float, max_iters: int) -> float:
        """Learning rate at an iteration (from 0) of a training of ``max_iters``."""
        share = iteration / max_iters
        decay = (1 + math.cos(math.pi * share)) / 2 if self.policy == "cosine" else (1 - share) ** self.power
        regular = (base_lr - self.min_lr) * decay + self.min_lr
        if self.warmup and self.warmup_iters is not None and iteration < self.warmup_iters:
            lacking = (1 - iteration / self.warmup_iters) * (1 - (self.warmup_ratio or 0.0))
            return regular * (1 - lacking)
        return regular


# Settings that only some schedules have.
SCHEDULE_OPTIONS: dict[str, tuple[str, ...]] = {"poly": ("power",), "cosine": ()}


@dataclass(frozen=True, kw_only=True)
class Runner:
    """The length of the training."""

    type: str = key(Choice(("IterBasedRunner",)), "IterBasedRunner", "by iteration", none=True)
    max_iters: int = key(Whole(1), REQUIRED, "iterations of the training")


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Which checkpoints are written and kept."""

    by_epoch: bool = key(Choice((False,)), False, "by iteration", none=True)
    interval: int = key(Whole(0), 4000, "iterations between checkpoints; 0 for none")
    max_keep_ckpts: int | None = key(Whole(1), None, "how many are kept; None keeps all", none=True)


@dataclass(frozen=True, kw_only=True)
class Evaluations:
    """The evaluations during training."""

    interval: int = key(Whole(0), 4000, "iterations between evaluations; 0 for none")
    metric: str | Sequence[str] = key(
        Choice(("mIoU", ["mIoU"])), "mIoU", "not used: every score is computed", none=True
    )
    save_best: bool | str | None = key(
        Choice((True, False, "mIoU", "mIoU_18", "mAcc", "aAcc")),
        None,
        "score by which the best checkpoint is kept; None and True take the headline score, False keeps none",
        none=True,
    )


_HOOK = {
    "by_epoch": Key(Flag(), False, "not used"),
    "interval": Key(Whole(1), 50, "not used: log_config.interval is read"),
}
HOOKS: dict[str, dict[str, Key]] = {
    "TextLoggerHook": _HOOK,
    "TensorboardLoggerHook": {**_HOOK, "log_dir": Key(PathText(), None, "not used", none=True)},
    "WandbLoggerHook": {**_HOOK, "init_kwargs": Key(MapOf(Unread()), None, "arguments of wandb.init", none=True)},
    "MlflowLoggerHook": {**_HOOK, "exp_name": Key(Text(), None, "name of the experiment", none=True)},
}


@dataclass(frozen=True, kw_only=True)
class Logs:
    """What is logged and where."""

    interval: int = key(Whole(1), 50, "iterations between lines of the log")
    hooks: Sequence[Component] = key(
        Sections(Variants("logger hook", HOOKS), 16), [], "where metrics and images are sent", none=True
    )


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """Number formats, kernels, and what trades time for memory; the keys stand at the top of the config."""

    precision: str = key(
        Choice(("fp32", "tf32", "bf16", "fp16")), "fp32", "number format of the networks' matrix products", none=True
    )
    compile: bool = key(Flag(), False, "compile the networks with torch.compile", none=True)
    cuda_graphs: bool | str = key(Choice(("auto", True, False)), "auto", "replay a step's kernels as CUDA graphs")
    cudnn_benchmark: bool = key(Flag(), False, "let cuDNN measure which of its kernels is fastest", none=True)
    deterministic: bool = key(Flag(), False, "use deterministic kernels", none=True)
    gradient_checkpointing: bool = key(Flag(), False, "recompute activations to save memory", none=True)
    micro_batch: int | None = key(
        Whole(1, 4096), None, "samples per forward pass of the student; None takes the whole batch", none=True
    )
    sync_bn: bool = key(Flag(), False, "compute batch norm over the samples of all processes", none=True)

    @property
    def saves_memory(self) -> bool:
        """Whether time is traded for memory."""
        return self.gradient_checkpointing or self.micro_batch is not None


MODULE = Text("the dotted name of a module", r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, kw_only=True)
class CustomImports:
    """Modules from outside of this project that register components."""

    imports: str | Sequence[str] = key(
        Either((MODULE, ListOf(MODULE, 0, 100))), REQUIRED, "modules that are imported before the config is checked"
    )
    allow_failed_imports: bool = key(Flag(), False, "warn about a module that cannot be imported, and go on")

    @property
    def names(self) -> tuple[str, ...]:
        """The modules."""
        return (self.imports,) if isinstance(self.imports, str) else tuple(self.imports)


_CLASSES = Key(ClassSetKind(), DEFAULT, "the class set: a built-in one, or a file of one", none=True)


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What a test reads of a config."""

    model: Component = key(MODELS, REQUIRED, "the network")
    data: EvalData = section(EvalData, "the data sets", required=True)
    classes: str | Mapping[str, Any] = shared(_CLASSES)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that a training reads of a config."""

    model: Component = key(MODELS, REQUIRED, "the network")
    data: Data = section(Data, "the data sets")
    uda: UDASettings = key(METHODS, REQUIRED, "the training method")
    optimizer: Optimizer = section(Optimizer, "the optimiser")
    lr_config: Schedule = section(Schedule, "the learning-rate schedule")
    runner: Runner = section(Runner, "the length of the training")
    checkpoint_config: Checkpoints = section(Checkpoints, "the checkpoints", none=True)
    evaluation: Evaluations = section(Evaluations, "the evaluations during training", none=True)
    log_config: Logs = section(Logs, "the logs", none=True)
    log_level: str = key(
        Choice(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")), "INFO", "lowest level of messages that are logged"
    )
    classes: str | Mapping[str, Any] = shared(_CLASSES)
    numerics: Numerics = inline(Numerics)
    custom_imports: CustomImports | None = key(
        section_of(CustomImports), None, "modules that register components", none=True
    )
    name: str = key(Text("the name of the run"), "run", "name of the run")
    work_dir: str | None = key(PathText(empty=True), None, "folder of the run", none=True)
    load_from: str | None = key(
        PathText(empty=True, weights=True), None, "checkpoint whose weights the run starts from", none=True
    )
    resume_from: str | None = key(
        PathText(empty=True, weights=True), None, "checkpoint or work dir to resume from, or 'auto'", none=True
    )
    seed: int = key(Whole(0, 2**32 - 1), 0, "seed of all random draws", none=True)
    exp: str = key(Text("a text", r".*"), "", "name of the list of experiments", none=True)
    git_rev: str = key(Text("a text", r".*"), "", "revision of the code", none=True)

    @property
    def class_set(self) -> ClassSet:
        """The classes that the network tells apart."""
        return class_set(self.classes)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> RunConfig:
        """Build it from the config that :func:`mmseg.config.load.effective` gave for a training."""
        return build(cls, config)
