"""Reading weight files without running code from them, with clear messages on what does not fit."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file as load_safetensors
from torch import Tensor

from mmseg.config.kinds import shown
from mmseg.errors import CheckpointError, did_you_mean, first_line
from mmseg.io.read_errors import READ_ERRORS
from mmseg.weights.kinds import is_safetensors
from mmseg.weights.store import local_file
from mmseg.weights.table import known_weights


def load_file(path: str | Path, hint: str = "") -> Any:
    """Read a torch or safetensors file on the CPU: plain data and tensors only, after checking its checksums.

    The one place where weights of any origin are read.

    Args:
        path: path, address or name, see :func:`mmseg.weights.store.local_file`.
        hint: remedy for a file that cannot be read.

    Raises:
        CheckpointError: the file is missing, cannot be downloaded, is cut short, damaged, or holds pickled code.
    """
    given, path = str(path), local_file(path)
    remedy = f"; {hint}" if hint else ""
    if not path.is_file():
        meant = did_you_mean(given, known_weights())
        raise CheckpointError(f"weight file {path} does not exist{meant}{remedy}")
    with path.open("rb") as file:
        start = file.read(64)
    if is_safetensors(start):
        return _read_safetensors(path, remedy)
    # A zip archive (torch >= 1.6) or a pickle; anything else is a web page or a pointer file saved instead.
    if not start.startswith((b"PK", b"\x80")):
        shown = start.decode("ascii", "replace").split("\n")[0][:40]
        raise CheckpointError(f"{path} is not a torch file (it starts with {shown!r}); download it again{remedy}")
    if start.startswith(b"PK") and not has_right_checksums(path):
        raise CheckpointError(f"{path} is cut short or damaged; get it again{remedy}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"(?:GLOBAL|global|class|function) `?([\w.]+)", str(error))
        what = f" ({refused[1]})" if refused else ""
        raise CheckpointError(
            f"{path} holds more than tensors and plain data{what}; it is not loaded, since that could run code. Save "
            f"it again with tensors only{remedy}"
        ) from error
    except Exception as error:  # torch's reader passes on any exception that a strange pickle causes
        raise CheckpointError(f"{path} is cut short or damaged; get it again{remedy}") from error


def _read_safetensors(path: Path, remedy: str) -> dict[str, Tensor]:
    try:
        weights = load_safetensors(path)
    # its own errors, and those for number formats that torch lacks
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path} is cut short or damaged ({first_line(error)}); get it again{remedy}") from error
    check_tensors(weights, path)
    return weights


def _at_least_16_bits(x: Tensor) -> Tensor:
    return x.float() if x.element_size() < 2 else x


def has_right_checksums(path: str | Path) -> bool:
    """Whether all parts of a torch file (a zip archive) match their stored checksums.

    PyTorch writes the checksums but does not verify them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # PyTorch stores its parts uncompressed; a compressed part is not PyTorch's, and could unpack to any size.
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in archive.infolist())
            return stored and archive.testzip() is None
    # The exception depends on which bytes are damaged.
    except READ_ERRORS:
        return False


def load_weights_file(path: str | Path, hint: str = "") -> dict[str, Tensor]:
    """Read a state dict, bare or under the key ``state_dict`` or ``model``."""
    return state_dict_in(load_file(path, hint), path)


def state_dict_in(content: Any, path: str | Path) -> dict[str, Tensor]:
    """State dict in the content of a file, bare or under the key ``state_dict`` or ``model``."""
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not is_state_dict(content):
        raise CheckpointError(f"{path} holds no state dict (names with tensors)")
    check_tensors(content, path)
    return dict(content)


def is_state_dict(content: Any) -> bool:
    """Whether something is a mapping from names to tensors."""
    return isinstance(content, Mapping) and all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    )


def check_tensors(tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Check that tensors are plain arrays of real numbers.

    Refused are tensors on the device ``meta``, which have only shapes, sparse, quantised and complex tensors, and views
    that repeat a small storage to a size that could exhaust memory.

    Args:
        tensors: tensors by name.
        where: file that they come from.

    Raises:
        CheckpointError: naming file, tensor and kind.
    """
    for name, tensor in tensors.items():
        kind = _strange_kind(tensor)
        if kind:
            raise CheckpointError(f"{where}: the tensor {shown(name)} {kind}; save the weights again as plain tensors")


def _strange_kind(tensor: Tensor) -> str:
    if tensor.device.type == "meta":
        return "is on the device 'meta': it has a shape but no numbers"
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return "is sparse or quantised"
    if tensor.is_complex():
        return "holds complex numbers"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "repeats the numbers of a smaller one"
    return ""


def check_finite(tensors: Mapping[str, Tensor], where: str | Path, remedy: str) -> None:
    """Check that weights are finite.

    Args:
        tensors: tensors by name, checked by :func:`check_tensors`.
        where: file that they come from.
        remedy: end of the message.

    Raises:
        CheckpointError: naming the first tensors.
    """
    # 8-bit formats have no isfinite()
    bad = [name for name, x in tensors.items() if x.is_floating_point() and not _at_least_16_bits(x).isfinite().all()]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise CheckpointError(
            f"{where}: {len(bad)} tensors hold NaN or infinite numbers: {', '.join(bad[:3])}{more}; {remedy}"
        )


def report_mismatch(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Describe missing and unexpected names, wrong shapes and types; empty when everything fits."""
    missing = [k for k in expected if k not in given]
    unexpected = [k for k in given if k not in expected]
    shapes = [
        f"{k} {tuple(given[k].shape)} instead of {tuple(v.shape)}"
        for k, v in expected.items()
        if k in given and given[k].shape != v.shape
    ]
    types = [
        f"{k} {given[k].dtype} instead of {v.dtype}"
        for k, v in expected.items()
        if k in given and given[k].is_floating_point() != v.is_floating_point()
    ]
    parts = []
    kinds = (("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes), ("wrong type", types))
    for title, names in kinds:
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{len(names)} {title}: {', '.join(names[:3])}{more}")
    return "; ".join(parts)
