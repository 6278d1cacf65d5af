"""Config keys of a component, read off its constructor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from mmseg.config.kinds import REQUIRED
from mmseg.errors import ConfigError


def arguments_of(component: type) -> dict[str, Any]:
    """Config key -> default or ``REQUIRED``, from the fields of its settings or the arguments of its constructor."""
    settings = getattr(component, "settings_class", None)
    if settings is not None:
        return {one.name: _default(one) for one in fields(settings)}
    found: dict[str, Any] = {}
    for cls in inspect.getmro(component):
        constructor = vars(cls).get("__init__")
        if constructor is None:
            continue
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        for one in parameters:
            if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD) and one.name not in found:
                found[one.name] = REQUIRED if one.default is one.empty else one.default
        # Only **kwargs lets the keys of the next constructor through.
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return found


def _default(one: Field) -> Any:
    made = one.default_factory() if one.default_factory is not MISSING else one.default
    return REQUIRED if made is MISSING else made


def with_defaults(component: type, section: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Arguments of a component: those of its config section, else its defaults.

    Args:
        name: dotted key of the section, for messages.

    Raises:
        ConfigError: the section lacks a key that has no default.
    """
    values = {**arguments_of(component), **{key: value for key, value in section.items() if key != "type"}}
    missing = [key for key, value in values.items() if value is REQUIRED]
    if missing:
        raise ConfigError(f"{name} has no {', '.join(missing)}")
    return values
