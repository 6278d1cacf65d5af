"""Conversion of MiT encoders of other projects to the names of the SegFormer authors (which are ours).

Known layouts, distinguished by their names:

* the SegFormer authors' (Xie et al., NeurIPS 2021): ``patch_embed1.proj.weight``;
* Hugging Face: ``encoder.patch_embeddings.0.proj.weight`` in files, ``stages.0.patch_embeddings.proj.weight`` in the
  modules of newer versions; query, key and value are separate;
* MMSegmentation 1.x: ``layers.0.0.projection.weight``; query, key and value are one matrix of
  ``torch.nn.MultiheadAttention``, and the linear layers of the Mix-FFN are 1x1 convolutions.

Heads are left out. The numbers never change, only their names and how they are stacked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmseg.errors import CheckpointError, first_line
from mmseg.models.backbones.mit import ARCHITECTURES
from mmseg.models.weights import check_finite, report_mismatch
from mmseg.registry import BACKBONES

HEADS = ("head", "classifier", "decode_head", "auxiliary_head")


@dataclass(frozen=True)
class Layout:
    """How a project names an encoder.

    Attributes:
        title: name for messages.
        marker: name of the first convolution's weight.
        places: patterns of names -> ours. ``stage`` counts from 0 in the pattern and from 1 in ours, ``part`` is
            translated by ``parts``, and ``kind`` is weight or bias.
        parts: name of a layer within a block -> ours. ``attn.k`` and ``attn.v`` are joined to ``attn.kv``;
            ``attn.qkv`` is cut to ``attn.q`` and ``attn.kv``.
    """

    title: str
    marker: str
    places: tuple[tuple[str, str], ...]
    parts: Mapping[str, str]


_KIND = r"\.(?P<kind>weight|bias)"
_OURS = ("patch_embed{stage}.{part}.{kind}", "block{stage}.{block}.{part}.{kind}", "norm{stage}.{kind}")
_HUGGING_FACE_PARTS = {
    "proj": "proj",
    "layer_norm": "norm",
    "layer_norm_1": "norm1",
    "layer_norm_2": "norm2",
    "attention.self.query": "attn.q",
    "attention.self.key": "attn.k",
    "attention.self.value": "attn.v",
    "attention.self.sr": "attn.sr",
    "attention.self.layer_norm": "attn.norm",
    "attention.output.dense": "attn.proj",
    "mlp.dense1": "mlp.fc1",
    "mlp.dwconv.dwconv": "mlp.dwconv.dwconv",
    "mlp.dense2": "mlp.fc2",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.q_proj": "attn.q",
    "attention.k_proj": "attn.k",
    "attention.v_proj": "attn.v",
    "attention.o_proj": "attn.proj",
    "attention.sequence_reduction.sequence_reduction": "attn.sr",
    "attention.sequence_reduction.layer_norm": "attn.norm",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_OUR_PARTS = (
    *("proj", "norm", "norm1", "norm2", "attn.q", "attn.kv", "attn.proj", "attn.sr", "attn.norm"),
    *("mlp.fc1", "mlp.dwconv.dwconv", "mlp.fc2"),
)
LAYOUTS = (
    Layout(
        "the SegFormer authors",
        "patch_embed1.proj.weight",
        (
            (r"patch_embed(?P<number>[1-4])\.(?P<part>\w+)" + _KIND, _OURS[0]),
            (r"block(?P<number>[1-4])\.(?P<block>\d+)\.(?P<part>.+)" + _KIND, _OURS[1]),
            (r"norm(?P<number>[1-4])" + _KIND, _OURS[2]),
        ),
        {part: part for part in _OUR_PARTS},
    ),
    Layout(
        "Hugging Face",
        "encoder.patch_embeddings.0.proj.weight",
        (
            (r"encoder\.patch_embeddings\.(?P<stage>[0-3])\.(?P<part>\w+)" + _KIND, _OURS[0]),
            (r"encoder\.block\.(?P<stage>[0-3])\.(?P<block>\d+)\.(?P<part>.+)" + _KIND, _OURS[1]),
            (r"encoder\.layer_norm\.(?P<stage>[0-3])" + _KIND, _OURS[2]),
        ),
        _HUGGING_FACE_PARTS,
    ),
    Layout(
        "Hugging Face (module names of transformers 5)",
        "stages.0.patch_embeddings.proj.weight",
        (
            (r"stages\.(?P<stage>[0-3])\.patch_embeddings\.(?P<part>\w+)" + _KIND, _OURS[0]),
            (r"stages\.(?P<stage>[0-3])\.blocks\.(?P<block>\d+)\.(?P<part>.+)" + _KIND, _OURS[1]),
            (r"stages\.(?P<stage>[0-3])\.layer_norm" + _KIND, _OURS[2]),
        ),
        _HUGGING_FACE_PARTS,
    ),
    Layout(
        "MMSegmentation 1.x",
        "layers.0.0.projection.weight",
        (
            (r"layers\.(?P<stage>[0-3])\.0\.(?P<part>\w+)" + _KIND, _OURS[0]),
            # nn.MultiheadAttention has in_proj_weight, without the usual dot.
            (r"layers\.(?P<stage>[0-3])\.1\.(?P<block>\d+)\.(?P<part>.+)[._](?P<kind>weight|bias)", _OURS[1]),
            (r"layers\.(?P<stage>[0-3])\.2" + _KIND, _OURS[2]),
        ),
        {
            "projection": "proj",
            "norm": "norm",
            "norm1": "norm1",
            "norm2": "norm2",
            "attn.attn.in_proj": "attn.qkv",
            "attn.attn.out_proj": "attn.proj",
            "attn.sr": "attn.sr",
            "attn.norm": "attn.norm",
            "ffn.layers.0": "mlp.fc1",
            "ffn.layers.1": "mlp.dwconv.dwconv",
            "ffn.layers.4": "mlp.fc2",
        },
    ),
)


@dataclass(frozen=True)
class ConvertedEncoder:
    """An encoder under our names.

    Attributes:
        arch: ``mit_b0`` .. ``mit_b5``.
        layout: title of the layout that was found.
        state_dict: float32 tensors, in the order of our encoder.
        left_out: first part of a name -> number of tensors left out.
    """

    arch: str
    layout: str
    state_dict: dict[str, Tensor]
    left_out: dict[str, int]


def find_layout(names: Mapping[str, Tensor], prefix: str | None = None) -> tuple[Layout, str]:
    """Layout of a state dict, and the prefix of the encoder's names.

    Args:
        prefix: which encoder, where there are several.

    Raises:
        CheckpointError: no encoder, several, or none with that prefix.
    """
    found = [
        (layout, name.removesuffix(layout.marker))
        for name in names
        for layout in LAYOUTS
        # A whole name, or the end of one after a dot: "encoder.stages.0..." is one encoder, not two.
        if name == layout.marker or name.endswith(f".{layout.marker}")
    ]
    prefixes = [p for _, p in found]
    if not found:
        first = ", ".join(list(names)[:3])
        raise CheckpointError(
            f"it holds no MiT encoder of a known layout (no {', '.join(x.marker for x in LAYOUTS)}); its names begin "
            f"with {first or 'nothing'}"
        )
    if prefix is not None:
        chosen = [(layout, p) for layout, p in found if p.rstrip(".") == prefix.rstrip(".")]
        if not chosen:
            raise CheckpointError(f"it holds no encoder below {prefix!r}; there are {', '.join(map(repr, prefixes))}")
        return chosen[0]
    if len(found) > 1:
        raise CheckpointError(f"it holds {len(found)} encoders ({', '.join(prefixes)}); choose one with --prefix")
    return found[0]


def convert_encoder(weights: Mapping[str, Tensor], prefix: str | None = None) -> ConvertedEncoder:
    """Extract the encoder from a state dict of any known layout.

    Raises:
        CheckpointError: none or several encoders, unknown, missing or unfit tensors. The text lacks the file's name.
    """
    layout, prefix = find_layout(weights, prefix)
    state: dict[str, Tensor] = {}
    left_out: dict[str, int] = {}
    unknown = []
    for name, tensor in weights.items():
        inner = name.removeprefix(prefix)
        own = _our_name(layout, inner) if name.startswith(prefix) else None
        if own:
            state[own] = tensor
        elif not name.startswith(prefix) or inner.split(".")[0] in HEADS:
            top = inner.split(".")[0]
            left_out[top] = left_out.get(top, 0) + 1
        else:
            unknown.append(name)
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise CheckpointError(f"names that do not belong to a MiT in the layout of {layout.title}: "
                              f"{', '.join(unknown[:3])}{more}")  # fmt: skip
    try:
        state = _restacked(state)
        arch = _architecture(state)
    except (IndexError, RuntimeError) as error:
        raise CheckpointError(
            f"tensors of the layout of {layout.title} have shapes that are not those of a MiT ({first_line(error)})"
        ) from error
    with torch.device("meta"):
        expected = BACKBONES.build({"type": arch}).state_dict()
    message = report_mismatch(expected, state)
    if message:
        raise CheckpointError(f"read as {arch} in the layout of {layout.title}, it does not fit (our names: {message})")
    check_finite(state, f"{arch} in the layout of {layout.title}", "get the weights again")
    return ConvertedEncoder(arch, layout.title, {name: state[name].float().contiguous() for name in expected}, left_out)


def _our_name(layout: Layout, name: str) -> str | None:
    for pattern, ours in layout.places:
        match = re.fullmatch(pattern, name)
        if match is None:
            continue
        groups = match.groupdict()
        stage = int(groups["number"]) if "number" in groups else int(groups["stage"]) + 1
        part = layout.parts.get(groups.get("part", ""))
        if part is None and "part" in groups:
            continue
        return ours.format(stage=stage, block=groups.get("block"), part=part, kind=groups["kind"])
    return None


def _restacked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring query, key and value into our two matrices, and 1x1 convolutions of the Mix-FFN into linear form."""
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        block = layer.rpartition(".attn.")[0]
        if layer.endswith(".attn.qkv"):
            query = tensor.shape[0] // 3
            result[f"{block}.attn.q.{kind}"], result[f"{block}.attn.kv.{kind}"] = tensor[:query], tensor[query:]
        elif layer.endswith(".attn.k"):
            value = f"{block}.attn.v.{kind}"
            # A key without its value is reported later, as the missing attn.kv.
            if value in state:
                result[f"{block}.attn.kv.{kind}"] = torch.cat((tensor, state[value]))
        elif layer.endswith((".mlp.fc1", ".mlp.fc2")) and kind == "weight":
            result[name] = tensor.flatten(1)
        elif not layer.endswith(".attn.v"):
            result[name] = tensor
    return result


def _architecture(state: Mapping[str, Tensor]) -> str:
    """Name of the encoder with these depths and channels."""
    depths, channels = [], []
    for stage in range(1, 5):
        blocks = {int(m[1]) for name in state if (m := re.match(rf"block{stage}\.(\d+)\.", name))}
        depths.append(max(blocks, default=-1) + 1)
        embedding = state.get(f"patch_embed{stage}.proj.weight")
        channels.append(0 if embedding is None else embedding.shape[0])
    for arch, known in ARCHITECTURES.items():
        if known == (tuple(depths), tuple(channels)):
            return arch
    raise CheckpointError(
        f"an encoder with depths {depths} and channels {channels} is not one of {', '.join(ARCHITECTURES)}"
    )
