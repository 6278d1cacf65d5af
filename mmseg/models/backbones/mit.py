"""Mix Vision Transformer, the encoder of SegFormer (Xie et al., NeurIPS 2021), sizes b0 to b5.

Parameter names follow the published ImageNet weights. The mixture of LayerNorm epsilons (1e-6 in blocks and
stage norms, 1e-5 in patch embeddings and in the norm after spatial reduction) is that of the published network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmseg.models.kernels import TokenConv2d, TokenLinear, TokenNorm, residual_sum
from mmseg.models.stochastic_depth import DropPath, truncated_normal_
from mmseg.registry import BACKBONES

BLOCK_NORM_EPS = 1e-6

# depths of the four stages and channels of the embeddings
ARCHITECTURES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "mit_b0": ((2, 2, 2, 2), (32, 64, 160, 256)),
    "mit_b1": ((2, 2, 2, 2), (64, 128, 320, 512)),
    "mit_b2": ((3, 4, 6, 3), (64, 128, 320, 512)),
    "mit_b3": ((3, 4, 18, 3), (64, 128, 320, 512)),
    "mit_b4": ((3, 8, 27, 3), (64, 128, 320, 512)),
    "mit_b5": ((3, 6, 40, 3), (64, 128, 320, 512)),
}
NUM_HEADS = (1, 2, 5, 8)
SR_RATIOS = (8, 4, 2, 1)


def init_transformer_weights(module: nn.Module) -> None:
    """Initialise one module as SegFormer does; use with ``nn.Module.apply``."""
    if isinstance(module, nn.Linear):
        truncated_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H*W, C)."""
    return x.flatten(2).transpose(1, 2)


def to_map(x: Tensor, height: int, width: int) -> Tensor:
    """(B, H*W, C) -> (B, C, H, W), a view with the channels last in memory."""
    return x.unflatten(1, (height, width)).permute(0, 3, 1, 2)


class DepthwiseConv(nn.Module):
    """3x3 depth-wise convolution over tokens laid out as a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = TokenConv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        return to_tokens(self.dwconv(to_map(x, height, width)))


class MixFFN(nn.Module):
    """Feed-forward layer that mixes neighbours: linear, depth-wise 3x3, GELU, linear.

    Tokens (B, H*W, in_features) -> (B, H*W, out_features).
    """

    def __init__(self, in_features: int, hidden_features: int, out_features: int | None = None) -> None:
        super().__init__()
        self.fc1 = TokenLinear(in_features, hidden_features)
        self.dwconv = DepthwiseConv(hidden_features)
        self.fc2 = TokenLinear(hidden_features, out_features or in_features)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        return self.fc2(F.gelu(self.dwconv(self.fc1(x), height, width)))


class EfficientSelfAttention(nn.Module):
    """Self-attention whose keys and values are taken from a map reduced by ``sr_ratio`` per side."""

    def __init__(self, dim: int, num_heads: int, sr_ratio: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = TokenLinear(dim, dim)
        self.kv = TokenLinear(dim, dim * 2)
        self.proj = TokenLinear(dim, dim)
        self.sr_ratio = sr_ratio
        if sr_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, sr_ratio, stride=sr_ratio)
            self.norm = TokenNorm(dim)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        context = x
        if self.sr_ratio > 1:
            context = self.norm(to_tokens(self.sr(to_map(x, height, width))))
        key, value = self.kv(context).chunk(2, dim=-1)
        attended = F.scaled_dot_product_attention(
            self._split_heads(self.q(x)), self._split_heads(key), self._split_heads(value)
        )
        return self.proj(attended.transpose(1, 2).flatten(2))


# branch (B, N, C) of a block, and the factor (B, 1, 1) on it or None
Branch = tuple[Tensor, Tensor | None]


class Block(nn.Module):
    """Transformer block on tokens (B, H*W, dim): attention and Mix-FFN, both residual and pre-normed."""

    def __init__(self, dim: int, num_heads: int, sr_ratio: int, mlp_ratio: float = 4.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = TokenNorm(dim, eps=BLOCK_NORM_EPS)
        self.attn = EfficientSelfAttention(dim, num_heads, sr_ratio)
        self.drop_path = DropPath(drop_path)
        self.norm2 = TokenNorm(dim, eps=BLOCK_NORM_EPS)
        self.mlp = MixFFN(dim, int(dim * mlp_ratio))

    def forward(
        self, x: Tensor, pending: Branch | None, height: int, width: int, kept: Tensor | None
    ) -> tuple[Tensor, Branch]:
        """Run the block. The last branch of a block is added where the next one normalises the sum.

        Args:
            x: tokens (B, height * width, dim).
            pending: branch still to be added to them, and its factor; see :func:`residual_sum`.
            kept: factors (2, B, 1, 1) on the branches of this block, see :func:`draw_paths`; None for 1.

        Returns:
            Tokens, and the branch still to be added.
        """
        attention, mix = (None, None) if kept is None else kept.unbind()
        x, normal = self.norm1(x, pending or (None, None))
        x, normal = self.norm2(x, (self.attn(normal, height, width), attention))
        return x, (self.mlp(normal, height, width), mix)


def closed(opened: tuple[Tensor, Branch | None]) -> Tensor:
    """Tokens of a block with its last branch added, if there is one."""
    x, pending = opened
    return residual_sum(x, *(pending or (None, None)))


# Cached without limit, as a recorded graph reads them at their address.
@cache
def _keep_shares(rates: tuple[float, ...], device: torch.device) -> Tensor:
    """(blocks, 1, 1, 1, 1). Cached, since a copy to a GPU would stall the step."""
    return 1 - torch.tensor(rates, device=device).view(-1, 1, 1, 1, 1)


def draw_paths(blocks: Sequence[Block], x: Tensor) -> Sequence[Tensor | None]:
    """Draw stochastic depth (Huang et al., ECCV 2016) for the branches of several blocks at once.

    It is drawn outside the blocks, so that a block that is recomputed for its gradients drops the same branches.

    Args:
        blocks: their ``drop_path`` holds the rate, and whether anything is dropped.
        x: tensor whose first dimension is the batch.

    Returns:
        For every block the factors (2, B, 1, 1) of a sample's branches, 0 or 1 / (1 - rate), in the format in which
        branches are computed. None for blocks that drop nothing.
    """
    rates = tuple(block.drop_path.drop_prob if block.drop_path.training else 0.0 for block in blocks)
    if not any(rates):
        return [None] * len(blocks)
    shares = _keep_shares(rates, x.device)
    drawn = torch.rand((len(blocks), 2, len(x), 1, 1), device=x.device)
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    return (torch.where(drawn < shares, 1 / shares, 0.0).to(dtype)).unbind()


class OverlapPatchEmbed(nn.Module):
    """Strided convolution with overlap: (B, in_chans, H, W) -> tokens (B, h*w, dim) and their (h, w)."""

    def __init__(self, in_chans: int, dim: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, kernel, stride=stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> tuple[Tensor, int, int]:
        x = self.proj(x)
        height, width = x.shape[2:]
        return self.norm(to_tokens(x)), height, width


class MixVisionTransformer(nn.Module):
    """Four stages of overlapping patch embeddings and transformer blocks.

    If the attribute ``gradient_checkpointing`` is set, training keeps only the inputs of the blocks and recomputes the
    rest in the backward pass.

    Args:
        arch: one of ``mit_b0`` .. ``mit_b5``.
        in_chans: channels of the input.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0 over all blocks.
        style: key of the published configs; not used.
    """

    def __init__(self, arch: str, in_chans: int = 3, drop_path_rate: float = 0.1, style: str = "pytorch") -> None:
        super().__init__()
        depths, dims = ARCHITECTURES[arch]
        self.channels = dims
        self.gradient_checkpointing = False
        last = sum(depths) - 1
        rates = (drop_path_rate * i / last for i in range(last + 1))
        previous = (in_chans, *dims)
        for i, dim in enumerate(dims):
            kernel, stride = (7, 4) if i == 0 else (3, 2)
            setattr(self, f"patch_embed{i + 1}", OverlapPatchEmbed(previous[i], dim, kernel, stride))
        for i, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            blocks = [Block(dim, NUM_HEADS[i], SR_RATIOS[i], drop_path=next(rates)) for _ in range(depth)]
            setattr(self, f"block{i + 1}", nn.ModuleList(blocks))
            setattr(self, f"norm{i + 1}", nn.LayerNorm(dim, eps=BLOCK_NORM_EPS))
        self.apply(init_transformer_weights)
        for i in range(1, 5):
            self._spread_bias(getattr(self, f"patch_embed{i}").proj)

    @staticmethod
    def _spread_bias(conv: nn.Conv2d) -> None:
        """Give a fresh embedding small random biases instead of zeros.

        The content map of a featureless crop is zero everywhere. With zero biases so is every token, and the
        gradient of a LayerNorm without variance, 1/sqrt(eps), multiplies from layer to layer until it overflows.
        """
        bound = (conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]) ** -0.5
        if conv.bias is not None:
            nn.init.uniform_(conv.bias, -bound, bound)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the feature maps at strides 4, 8, 16 and 32 of ``x`` (B, in_chans, H, W)."""
        features = []
        kept = iter(draw_paths([block for i in range(1, 5) for block in getattr(self, f"block{i}")], x))
        for i in range(1, 5):
            x, height, width = getattr(self, f"patch_embed{i}")(x)
            pending = None
            for block in getattr(self, f"block{i}"):
                given = (x, pending, height, width, next(kept))
                if self.gradient_checkpointing and torch.is_grad_enabled():
                    # a block draws no random numbers
                    x, pending = checkpoint(block, *given, use_reentrant=False, preserve_rng_state=False)
                else:
                    x, pending = block(*given)
            x = closed((x, pending))
            # Consumers of the features are faster with the channels first, above all the dilated convolutions.
            x = to_map(getattr(self, f"norm{i}")(x), height, width).contiguous()
            features.append(x)
        return features


def _register(arch: str) -> None:
    class Encoder(MixVisionTransformer):
        def __init__(self, in_chans: int = 3, drop_path_rate: float = 0.1, style: str = "pytorch") -> None:
            super().__init__(arch, in_chans, drop_path_rate, style)

    Encoder.__name__ = Encoder.__qualname__ = arch
    Encoder.__doc__ = f"MiT-{arch[-2:]}, see :class:`MixVisionTransformer`."
    BACKBONES.register_module(name=arch, module=Encoder)


for _arch in ARCHITECTURES:
    _register(_arch)
