"""Reading weights of other projects: torch files, safetensors files, and Hugging Face folders."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from mmseg.errors import CheckpointError
from mmseg.io.json_files import read_json
from mmseg.models.weights import load_weights_file
from mmseg.weights.addresses import HUB_FILES
from mmseg.weights.store import local_file


def read_weights(path: str | Path, model_type: str | None = "segformer") -> tuple[dict[str, Tensor], Path]:
    """Read a state dict, and the file that it came from. The kind of file is recognised by its content.

    Args:
        path: file or Hugging Face folder, or see :func:`mmseg.weights.store.local_file`.
        model_type: kind of model that a Hugging Face folder must hold; None for any.

    Raises:
        CheckpointError: missing, unreadable, or holding more than tensors and plain data.
    """
    path = local_file(path)
    if path.is_dir():
        path = _file_of_folder(path, model_type)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give a weight file or a Hugging Face folder")
    return load_weights_file(path), path


def _file_of_folder(folder: Path, model_type: str | None) -> Path:
    config = folder / "config.json"
    if not config.is_file():
        raise CheckpointError(f"{folder} holds no config.json, so it is not a Hugging Face folder")
    kind = read_json(config, "download the folder again", error=CheckpointError).get("model_type")
    if model_type is not None and kind != model_type:
        raise CheckpointError(f"{config} is of a model of type {kind!r}; a {model_type!r} is needed")
    for name in HUB_FILES:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder} holds neither {' nor '.join(HUB_FILES)}; download one of them")
