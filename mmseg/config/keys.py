"""All keys of a config: those of :mod:`mmseg.config.run`, and those of published configs that nothing reads.

The checks of :mod:`mmseg.config.load`, the keys that are dropped and the paths that are re-rooted come from this table.
Needs the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmseg.config.components import BATCH_NORM, UNREAD
from mmseg.config.dotted import Loaded
from mmseg.config.fields import section_of
from mmseg.config.kinds import REQUIRED, Key, Off, PathText
from mmseg.config.run import EvalConfig, RunConfig
from mmseg.config.sections import Section, inner_section, walk

# Published configs carry these; nothing reads them, either in the reference too or because its frameworks are gone.
_REST = {
    "n_gpus": Key(
        Off(
            (1,),
            "a training runs on as many GPUs as it has processes, torchrun --nproc_per_node N tools/train.py "
            "CONFIG --launcher pytorch",
        ),
        1,
        "not used",
    ),
    "optimizer_config": Key(
        Off((None, {}), "hooks of the optimizer belong to a framework that is gone"), None, "not used"
    ),
    "norm_cfg": Key(BATCH_NORM, None, "not used: the model names its own", none=True, unread=True),
    **{
        name: UNREAD
        for name in (
            *("dist_params", "events_bins", "find_unused_parameters", "name_architecture", "name_dataset"),
            *("name_decoder", "name_encoder", "name_opt", "name_uda", "pretrained_type", "train_type"),
            *("use_ddp_wrapper", "workflow"),
        )
    },
}
CONFIG = section_of(RunConfig, _REST)
# Of a published folder, a test reads only these; the switches of its training do not concern it.
EVAL_CONFIG = section_of(EvalConfig)
# Keys that nothing reads; a resumed training may have others.
IGNORED_KEYS = tuple(dict.fromkeys(name for name, key in walk(CONFIG) if key.unread))
# Paths of data and weights, which are re-rooted when a config comes from another machine.
DATA_PATH_KEYS = tuple(
    dict.fromkeys(name for name, key in walk(CONFIG) if isinstance(key.kind, PathText) and key.kind.rooted)
)


def value_of(config: Mapping[str, Any] | Loaded, key: str) -> Any:
    """Value of a dotted key; where it is absent or None, its default; None without one."""
    values: Any = config if isinstance(config, Mapping) else config.to_dict()
    section: Section | None = CONFIG
    for part in key.split("."):
        known = section.keys.get(part) if section else None
        values = values.get(part) if isinstance(values, Mapping) else None
        if values is None and known and known.default is not REQUIRED:
            values = known.default
        section = inner_section(known.kind, values if values is not None else {}) if known else None
    return values
