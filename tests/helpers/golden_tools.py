"""Deterministic fills and inputs behind the golden numbers; tests/golden/README.md states the rules."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def u01(name: str, shape) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).random(tuple(shape))


def fill_value(name: str, shape) -> np.ndarray:
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape)
    u = u01(name, shape)
    if name.endswith("running_var"):
        return 1 + 0.1 * u
    if len(shape) == 1 and name.endswith("weight"):
        return 1 + 0.1 * (u - 0.5)
    if name.endswith(("bias", "running_mean")):
        return 0.1 * (u - 0.5)
    return (u - 0.5) * 2 * math.sqrt(3 / np.prod(shape[1:]))


class WithoutDraws(TorchFunctionMode):
    """Modules built in this context draw no initial weights; for those that :func:`fill` fills."""

    DRAWS = frozenset({Tensor.uniform_, Tensor.normal_, Tensor.erfinv_})

    def __torch_function__(self, function, types, arguments=(), settings=None):
        return arguments[0] if function in self.DRAWS else function(*arguments, **(settings or {}))


def fill(module: nn.Module, made: dict[str, Tensor] | None = None) -> nn.Module:
    """Fill a module by the names of its state dict; of aliased tensors the first name wins.

    Args:
        made: values for modules with the same names and shapes; those that are missing are added.
    """
    seen = set()
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.data_ptr() in seen and tensor.numel() > 0:
                continue
            seen.add(tensor.data_ptr())
            value = None if made is None else made.get(name)
            if value is None or value.shape != tensor.shape:
                value = torch.from_numpy(np.asarray(fill_value(name, tuple(tensor.shape))))
                if made is not None:
                    made[name] = value = value.to(tensor.dtype)
            tensor.copy_(value)
    return module


def image_input(name: str, shape) -> Tensor:
    return torch.from_numpy(((u01(f"input:{name}", shape) - 0.5) * 4).astype(np.float32))


def events_input(name: str, shape) -> Tensor:
    return torch.from_numpy(np.clip((u01(f"input:{name}", shape) - 0.5) * 4, -1, 1).astype(np.float32))


def label_input(name: str, n: int, height: int, width: int, block: int) -> Tensor:
    u = u01(f"input:{name}", (n, 1, -(-height // block), -(-width // block)))
    classes = np.floor(u * 21).astype(np.int64)
    classes[classes >= 19] = 255
    blocks = classes.repeat(block, axis=2).repeat(block, axis=3)
    return torch.from_numpy(blocks[:, :, :height, :width].copy())


def load_json(name: str):
    path = GOLDEN / name
    if path.suffix == ".gz":
        return json.loads(gzip.decompress(path.read_bytes()))
    return json.loads(path.read_text())


# Forward passes in double precision against the reference's in single: its rounding is all that is left, on any CPU.
FORWARD = 2e-6

# what was compared -> worst share of its limit, value, limit, where; pytest --figures prints it
FIGURES: dict[str, tuple[float, float, float, str]] = {}


def double(value):
    """A module, a tensor, or a dict of them in double precision; integers stay what they are.

    Kernels of different CPUs agree to 1e-13 in it, so a comparison in double precision has one outcome everywhere.
    """
    if isinstance(value, dict):
        return {key: double(item) for key, item in value.items()}
    if isinstance(value, Tensor) and not value.is_floating_point():
        return value
    return value.double()


def assert_within(what: str, error: float, limit: float, where: str = "") -> None:
    """The error is within the limit, in either direction."""
    share = abs(error) / limit if limit else math.inf * bool(error)
    if share >= FIGURES.get(what, (0.0,))[0]:
        FIGURES[what] = (share, error, limit, where)
    assert abs(error) <= limit, f"{what}: {where} off by {error:.3g}, allowed {limit:.3g}"


def assert_clear_classes(what: str, labels, golden: np.ndarray, logits: Tensor, noise: float, where: str = "") -> None:
    """Classes (N, H, W) are the golden ones wherever the two best logits (N, C, H, W) lie further apart than ``noise``.

    Elsewhere rounding alone decides between them. Nearly all pixels must be clear.
    """
    best = logits.topk(2, dim=1).values
    apart = (best[:, 0] - best[:, 1]).detach().numpy()
    differing = np.asarray(labels) != golden
    assert differing.shape == apart.shape
    assert_within(f"{what} (distance of swapped logits)", float(apart[differing].max(initial=0.0)), noise, where)
    assert (apart > noise).mean() > 0.9, where


class GoldenArrays:
    """An npz of golden arrays, compared by the stored (perhaps strided) values and their statistics."""

    def __init__(self, name: str) -> None:
        self.name, self.data = name, np.load(GOLDEN / name)

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def __getitem__(self, key: str) -> np.ndarray:
        return self.data[key]

    def json(self, key: str):
        return json.loads(str(self.data[key]))

    def error(self, key: str, actual) -> float:
        """Largest difference to the stored values, as a share of their scale (largest magnitude)."""
        actual = np.asarray(actual.detach() if isinstance(actual, Tensor) else actual)
        expected = self.data[key]
        if f"{key}.shape" in self.data:
            assert tuple(self.data[f"{key}.shape"]) == actual.shape, key
        if f"{key}.step" in self.data:
            actual = actual[tuple(slice(None, None, int(s)) for s in self.data[f"{key}.step"])]
        assert actual.shape == expected.shape, (key, actual.shape, expected.shape)
        return float(np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max()) / self.scale(key)

    def scale(self, key: str) -> float:
        return max(float(np.abs(self.data[key]).max()), 1e-12)

    def assert_close(self, key: str, actual, rtol: float = 1e-5) -> None:
        """Stored values and their statistics differ by no more than ``rtol`` times the scale of the array."""
        what = f"{self.name.split('_')[0]} arrays"
        assert_within(what, self.error(key, actual), rtol, f"{self.name} {key}")
        if f"{key}.stats" in self.data:
            full = np.asarray(actual.detach() if isinstance(actual, Tensor) else actual).astype(np.float64)
            stats = np.array([full.mean(), np.abs(full).mean(), full.std(), full.min(), full.max()])
            error = float(np.abs(stats - self.data[f"{key}.stats"]).max()) / self.scale(key)
            assert_within(f"{what}, statistics", error, rtol, f"{self.name} {key}")


def assert_sample(golden: GoldenArrays, prefix: str, sample: dict) -> None:
    checked = 0
    for name, value in sample.items():
        key = f"{prefix}.{name}"
        if key not in golden or not isinstance(value, torch.Tensor):
            continue
        if golden.data.get(f"{key}.channels_equal", False):
            assert torch.equal(value, value[:1].expand_as(value))
            value = value[:1]
        if name == "label":
            assert (value[..., ::8, ::8].numpy() == golden[key]).all()
        else:
            compare(golden, key, value)
        checked += 1
    assert checked, prefix


def compare(golden: GoldenArrays, key: str, value: torch.Tensor) -> None:
    """Stored with spatial step 8; the shape is that of all three channels."""
    expected = golden[key]
    sampled = value[..., ::8, ::8].numpy()
    assert sampled.shape == expected.shape, key
    scale = max(np.abs(expected).max(), 1e-12)
    np.testing.assert_allclose(sampled, expected, rtol=0, atol=1e-5 * scale, err_msg=key)
    stats = golden.data.get(f"{key}.stats")
    if stats is not None:
        full = value.double()
        ours = [full.mean(), full.abs().mean(), full.std(correction=0), full.min(), full.max()]
        np.testing.assert_allclose(ours, stats, rtol=0, atol=1e-5 * scale, err_msg=key)
