"""Reading weights of other projects: torch files, safetensors files, and Hugging Face folders."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from mmseg.errors import CheckpointError, first_line
from mmseg.io.json_files import read_json
from mmseg.models.weights import check_tensors, load_weights_file

# Weight files of a Hugging Face folder, the safer format first.
FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")


def read_weights(path: str | Path, model_type: str | None = "segformer") -> tuple[dict[str, Tensor], Path]:
    """Read a state dict, and the file that it came from. The kind of file is recognised by its content.

    Args:
        path: file or Hugging Face folder.
        model_type: kind of model that a Hugging Face folder must hold; None for any.

    Raises:
        CheckpointError: missing, unreadable, or holding more than tensors and plain data.
    """
    path = Path(path)
    if path.is_dir():
        path = _file_of_folder(path, model_type)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give a weight file or a Hugging Face folder")
    with path.open("rb") as file:
        start = file.read(9)
    # safetensors: eight bytes for the length of the header, then the header, a JSON object
    if start[8:] == b"{":
        return _read_safetensors(path), path
    return load_weights_file(path), path


def _file_of_folder(folder: Path, model_type: str | None) -> Path:
    config = folder / "config.json"
    if not config.is_file():
        raise CheckpointError(f"{folder} holds no config.json, so it is not a Hugging Face folder")
    kind = read_json(config, "download the folder again", error=CheckpointError).get("model_type")
    if model_type is not None and kind != model_type:
        raise CheckpointError(f"{config} is of a model of type {kind!r}; a {model_type!r} is needed")
    for name in FOLDER_FILES:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder} holds neither {' nor '.join(FOLDER_FILES)}; download one of them")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file as load_safetensors
    except ImportError:
        raise CheckpointError(f"{path} is a safetensors file: install the package safetensors") from None
    try:
        weights = load_safetensors(path)
    # its own errors, and those for number formats that torch lacks
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path} is cut short or damaged ({first_line(error)}); get it again") from error
    check_tensors(weights, path)
    return weights
