"""Compilation of networks."""

from __future__ import annotations

from torch import nn

from mmseg.models.backbones.mit import Block
from mmseg.models.decode_heads.daformer_head import SeparableASPP
from mmseg.models.resnet_generator import ResnetGenerator


def compile_networks(networks: nn.Module) -> None:
    """Compile the networks of a module in place, block by block; names in the state dict do not change.

    Blocks of one stage share their compiled code: compiling a whole encoder takes minutes, compiling blocks seconds.
    """
    # here, as the import takes longer than that of torch itself
    import torch._dynamo

    # every stage, batch size and use (student, teacher) of a block is compiled separately
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    for module in networks.modules():
        if isinstance(module, (Block, SeparableASPP, ResnetGenerator)):
            module.compile(dynamic=False)
