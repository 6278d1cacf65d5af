"""Reading weight files without running code from them, and saying plainly what does not fit."""

from __future__ import annotations

import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmseg.errors import CheckpointError, address_remedy


def load_file(path: str | Path, hint: str = "") -> Any:
    """Read a torch file on the CPU, plain data and tensors only, after its checksums were compared.

    Raises:
        CheckpointError: the file is missing, cut short, damaged, or holds pickled code.
    """
    path = Path(path)
    remedy = f"; {hint}" if hint else ""
    if not path.is_file():
        hint = address_remedy(path) or hint
        raise CheckpointError(f"weight file {path} does not exist{f'; {hint}' if hint else ''}")
    with path.open("rb") as file:
        start = file.read(64)
    # A zip archive (torch >= 1.6) or a pickle; anything else is a page or a pointer that was saved instead.
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
            f"it again with tensors alone{remedy}"
        ) from error
    except Exception as error:  # torch's reader lets through whatever a strange pickle leads to
        raise CheckpointError(f"{path} is cut short or damaged; get it again{remedy}") from error


def has_right_checksums(path: str | Path) -> bool:
    """Whether all parts of a torch file (a zip archive) have the checksums that were stored with them.

    PyTorch writes the sums but does not look at them when it reads.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    # What zipfile raises depends on which bytes are damaged; each of these says that the sums cannot be right.
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zlib.error):
        return False


def load_weights_file(path: str | Path, hint: str = "") -> dict[str, Tensor]:
    """Read a state dict, bare or under the key ``state_dict``."""
    content = load_file(path, hint)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path} holds no state dict (names with tensors)")
    return dict(content)


def report_mismatch(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Describe missing and unexpected names and wrong shapes; empty when everything fits."""
    missing = [k for k in expected if k not in given]
    unexpected = [k for k in given if k not in expected]
    shapes = [
        f"{k} {tuple(given[k].shape)} instead of {tuple(v.shape)}"
        for k, v in expected.items()
        if k in given and given[k].shape != v.shape
    ]
    parts = []
    for title, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{len(names)} {title}: {', '.join(names[:3])}{more}")
    return "; ".join(parts)
