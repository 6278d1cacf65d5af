"""One registry per kind of component; a config names a component by ``type``.

The modules in ``locations`` are imported on the first look-up, so importing this module stays cheap. A component from
outside is registered by its decorator, see ``docs/extend.md``; it must have what the Protocol of its registry lists.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import Any

from mmengine.registry import Registry, build_from_cfg

from mmseg.errors import ConfigError

PAGE = "docs/extend.md"


class ComponentRegistry(Registry):
    """Registry whose components are checked when they are built.

    Args:
        name: what the components are, for messages.
        locations: modules that register themselves.
        contract: ``module:Protocol`` of the components.
    """

    def __init__(self, name: str, locations: Sequence[str], contract: str) -> None:
        super().__init__(name, build_func=_build, scope="mmseg", locations=list(locations))
        self._contract = contract

    @property
    def contract(self) -> type:
        """Protocol that every component has."""
        module, name = self._contract.split(":")
        return getattr(import_module(module), name)


def _build(cfg: Mapping[str, Any], registry: ComponentRegistry) -> Any:
    """Build a component and check it.

    Raises:
        ConfigError: it lacks a method or an attribute.
    """
    registry.import_from_location()
    component = registry.module_dict.get(cfg["type"]) if isinstance(cfg.get("type"), str) else None
    if inspect.isclass(component) and inspect.isabstract(component):
        methods = ", ".join(sorted(getattr(component, "__abstractmethods__", ())))
        raise ConfigError(f"{registry.name}: {_named(component)} lacks the method {methods}; see {PAGE}")
    built = build_from_cfg(dict(cfg), registry)
    check_contract(built, registry.contract, registry.name)
    return built


def check_contract(component: Any, contract: type, what: str, optional: Collection[str] = ()) -> None:
    """Check that a component has all that a Protocol lists.

    Args:
        what: what the component is, for the message: the name of its registry, or its config key.
        optional: members of the Protocol that it need not have.

    Raises:
        ConfigError: naming the class, what it lacks, and the page that describes it.
    """
    lacking = [name for name in members(contract) if name not in optional and not hasattr(component, name)]
    if lacking:
        listed = ", ".join(map(repr, lacking))
        raise ConfigError(
            f"{what}: {_named(type(component))} has no {listed}; {PAGE} says what it needs "
            f"({contract.__module__}.{contract.__name__})"
        )


def members(contract: type) -> list[str]:
    """Names of the attributes and methods that a Protocol and the Protocols above it list."""
    names: dict[str, None] = {}
    for cls in reversed(contract.__mro__):
        if getattr(cls, "_is_protocol", False) and cls.__module__ not in ("typing", "collections.abc"):
            names |= dict.fromkeys([*vars(cls).get("__annotations__", {}), *vars(cls)])
    public = [name for name in names if not name.startswith("_")]
    return public + [name for name in ("__len__", "__getitem__", "__call__") if name in names]


def _named(component: type) -> str:
    return f"{component.__module__}.{component.__name__}"


_MODELS = "mmseg.models.contracts"
BACKBONES = ComponentRegistry("backbone", ["mmseg.models.backbones"], f"{_MODELS}:Encoder")
FUSION_MODULES = ComponentRegistry("fusion module", ["mmseg.models.fusion"], f"{_MODELS}:FusionModule")
HEADS = ComponentRegistry("decode head", ["mmseg.models.decode_heads"], f"{_MODELS}:DecodeHead")
LOSSES = ComponentRegistry("loss", ["mmseg.models.losses"], f"{_MODELS}:Loss")
SEGMENTORS = ComponentRegistry("segmentor", ["mmseg.models.segmentors"], f"{_MODELS}:Segmentor")
UDA = ComponentRegistry("adaptation method", ["mmseg.uda.cmda"], "mmseg.uda.contract:Method")
DATASETS = ComponentRegistry(
    "dataset",
    [f"mmseg.datasets.{name}" for name in ("cityscapes", "dark_zurich", "dsec_night", "frames", "uda")],
    "mmseg.datasets.base:AnyDataset",
)
REGISTRIES = (BACKBONES, FUSION_MODULES, HEADS, LOSSES, SEGMENTORS, UDA, DATASETS)
