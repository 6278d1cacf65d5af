"""The config stored in a checkpoint, for checkpoints without their config file."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg.config.files import config_from_data
from mmseg.config.load import load_config
from mmseg.errors import ConfigError
from mmseg.io.json_files import parse_json
from mmseg.models.weights import load_file
from mmseg.weights.store import local_file
from mmseg.work_dir.layout import WorkDir


def config_of(
    config: str | Path | None, checkpoint: str | Path, options: Mapping[str, Any] | None = None
) -> tuple[Config, str]:
    """Config to use with a checkpoint.

    Args:
        config: config file; None uses the config stored in the checkpoint.
        checkpoint: path, address or name, see :func:`mmseg.weights.store.local_file`.
        options: dotted key -> value.

    Returns:
        The config, and its origin for messages.

    Raises:
        CMDAError: the file cannot be read, or the checkpoint contains no config.
    """
    if config is not None:
        return load_config(config, options), str(config)
    carried = carried_config(checkpoint)
    carried.merge_from_dict(dict(options or {}))
    return carried, f"{checkpoint}, which carries it"


def carried_config(checkpoint: str | Path) -> Config:
    """Config in the ``meta`` of a checkpoint: JSON as written by this project, or the Python assignments written by
    MMSegmentation 0.x, which are parsed but not executed.

    Raises:
        CMDAError: the checkpoint cannot be read, or contains no config.
    """
    path = local_file(checkpoint)
    content = load_file(path)
    meta = content.get("meta") if isinstance(content, Mapping) else None
    text = meta.get("config") if isinstance(meta, Mapping) else None
    if not isinstance(text, str) or not text.strip():
        name = WorkDir(path).config.name
        raise ConfigError(
            f"{checkpoint} contains no config; give the config file of its training, or put it next to the checkpoint "
            f"as {name}, its name in a work dir"
        )
    try:
        where = f"the config in {checkpoint}"
        is_json = text.lstrip().startswith("{")
        values = parse_json(text, where, "give the config file", error=ConfigError) if is_json else _assignments(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ConfigError(f"the config in {checkpoint} cannot be read ({error}); give the config file") from error
    if not isinstance(values, dict):
        raise ConfigError(f"the config in {checkpoint} is not a dictionary; give the config file")
    return config_from_data(values, where, path.resolve().parent)


def _assignments(text: str) -> dict[str, Any]:
    """Names and values of ``name = value`` lines, whose values are literals and ``dict(key=value)``."""
    values = {}
    for line in ast.parse(text).body:
        if not isinstance(line, ast.Assign) or len(line.targets) != 1 or not isinstance(line.targets[0], ast.Name):
            raise ValueError(f"line {line.lineno} is not an assignment")
        values[line.targets[0].id] = _value(line.value)
    return values


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != "dict" or len(node.args) > 1:
            raise ValueError(f"line {node.lineno} calls more than dict(...)")
        # dict({'a.b': value}) for keys that are not identifiers
        first = _value(node.args[0]) if node.args else {}
        named = {keyword.arg: _value(keyword.value) for keyword in node.keywords}
        if None in named or not isinstance(first, dict):
            raise ValueError(f"line {node.lineno} makes a dictionary of something else")
        return {**first, **named}
    if isinstance(node, ast.Dict):
        keys = [key for key in node.keys if key is not None]
        if len(keys) < len(node.values):
            raise ValueError(f"line {node.lineno} unpacks a dictionary")
        return {ast.literal_eval(key): _value(value) for key, value in zip(keys, node.values, strict=True)}
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_value(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    return ast.literal_eval(node)
