"""Export of a trained network to ONNX and ``torch.export``; files are compared with PyTorch before they are kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mmseg.config.components import LEAST_SIDE
from mmseg.config.load import check_values
from mmseg.engine.checkpoint import check_classes_of, checkpoint_to_test, load_segmentor
from mmseg.engine.checkpoint_config import config_of
from mmseg.engine.networks import empty_segmentor
from mmseg.errors import ConfigError
from mmseg.evaluation.test_set import default_output
from mmseg.inference.input_recipe import InputRecipe, describe
from mmseg.io.files import atomic_path, write_text
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.models.segmentors.fusion_encoder_decoder import OUTPUT_STREAMS
from mmseg.system.printing import say
from mmseg.uda.streams import uses_isr_fusion
from mmseg.weights.table import is_remote
from mmseg.work_dir.layout import WorkDir

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18
# Batch sizes that are compared; the exported batch size is free.
CHECKED_BATCHES = (1, 2)
# Largest difference from PyTorch: of logits relative to the range of PyTorch's, of the confidence absolute.
TOLERANCE = 1e-4
# Metadata key of the description in an ONNX file; a .pt2 file has it as an extra file of this name plus '.json'.
DESCRIPTION = "cmda"


@dataclass(frozen=True)
class Parity:
    """Largest differences of an exported network from PyTorch over all checked batches.

    Attributes:
        difference: largest absolute difference of a logit. With labels: largest amount by which PyTorch's logit of the
            exported label lies below PyTorch's largest logit.
        logit_range: largest minus smallest of PyTorch's logits.
        confidence_difference: largest absolute difference of a confidence; None without labels.
    """

    difference: float
    logit_range: float
    confidence_difference: float | None = None

    @property
    def is_close(self) -> bool:
        """Whether both differences are within :data:`TOLERANCE`. A NaN is not."""
        return self.difference <= TOLERANCE * self.logit_range and (self.confidence_difference or 0.0) <= TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for the description."""
        result: dict[str, Any] = {
            "against": "PyTorch on the CPU, 32 bits, random inputs",
            "batches": list(CHECKED_BATCHES),
        }
        if self.confidence_difference is None:
            result["largest_difference_of_logits"] = self.difference
        else:
            result["largest_logit_less_that_of_label"] = self.difference
            result["largest_difference_of_confidence"] = self.confidence_difference
        return {**result, "range_of_logits": self.logit_range, "limit": f"{TOLERANCE:g} of the range"}

    def __str__(self) -> str:
        share = self.difference / self.logit_range if self.logit_range else self.difference
        amount = f"{self.difference:.2g} at most, {share:.1g} of the range of logits"
        if self.confidence_difference is None:
            return f"logits differ by {amount}"
        return (
            f"confidence differs by {self.confidence_difference:.2g}, the label's logit lies below the top by {amount}"
        )


class ExportedNetwork(nn.Module):
    """One output of a segmentor in the exported form: input streams by name -> logits, or label and confidence.

    Args:
        segmentor: in eval mode.
        output: name of the output.
        labels: return the label (B, H, W) uint8 and its softmax probability (B, H, W) float32 in place of the logits
            (B, classes, H, W) float32.
    """

    def __init__(self, segmentor: BaseSegmentor, output: str, labels: bool) -> None:
        super().__init__()
        self.segmentor = segmentor
        self.output = output
        self.labels = labels

    def forward(
        self, image: Tensor | None = None, events: Tensor | None = None, img_self_res: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        given = {"image": image, "events": events, "img_self_res": img_self_res}
        required = self.segmentor.required_streams(self.output)
        streams = {name: value for name, value in given.items() if name in required and value is not None}
        logits = self.segmentor.predict_logits(streams, self.output)
        if not self.labels:
            return logits
        confidence, label = logits.softmax(dim=1).max(dim=1)
        return label.to(torch.uint8), confidence


def export_work_dir(work_dir: str | Path, out_dir: str | Path | None = None, **options: Any) -> list[Path]:
    """Export the network of a work dir, of ours or as published, by default into ``<work_dir>/export``.

    Args:
        work_dir: folder with config and checkpoint, see :func:`mmseg.apis.test_work_dir`.
        out_dir, options: see :func:`export`.
    """
    config_path = WorkDir(work_dir).find_config()
    return export(config_path, checkpoint_to_test(work_dir), out_dir or Path(work_dir) / "export", **options)


def export(
    config_path: str | Path | None,
    checkpoint: str | Path,
    out_dir: str | Path,
    model: str = "student",
    formats: Sequence[str] = tuple(FORMATS),
    outputs: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    labels: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> list[Path]:
    """Export outputs of a trained network, each as a file with a description ``<file>.json``.

    An exported network takes normalised inputs (B, 3, H, W) float32 with any B, named like its streams. Every file is
    loaded and compared with PyTorch before it is kept. No data are needed.

    Args:
        config_path: config of the training; None takes the one in the checkpoint.
        checkpoint: its checkpoint: a path, address or name, see :func:`mmseg.weights.store.local_file`.
        out_dir: folder of the files ``<model>_<output>_<height>x<width>[_labels].onnx`` and ``.pt2``.
        model: ``student`` or ``teacher``.
        formats: keys of :data:`FORMATS`.
        outputs: outputs of the model, or ``all``; by default the one that a test takes.
        size: (height, width) of inputs and outputs; by default that of the config's test.
        labels: see :class:`ExportedNetwork`.
        cfg_options: dotted key -> value.
        console: receives messages; stdout by default.

    Returns:
        The exported files.

    Raises:
        CMDAError: bad input, a missing package, or an exported network that differs from PyTorch.
    """
    console = console or Console()
    tell = partial(say, console)
    _check_formats(formats)
    if size is not None and min(size) < LEAST_SIDE:
        raise ConfigError(f"size {size[0]}x{size[1]} is too small; height and width are at least {LEAST_SIDE}")
    config, taken_from = config_of(config_path, checkpoint, cfg_options)
    check_values(config, for_training=False)
    recipe = InputRecipe(config)
    check_classes_of(checkpoint, recipe.classes)
    segmentor = empty_segmentor(config)
    chosen = _chosen_outputs(segmentor, config, recipe, outputs)
    loaded = load_segmentor(segmentor, checkpoint, model, recipe.classes)
    segmentor.eval().requires_grad_(False)
    tell(f"{checkpoint}: {len(loaded.state_dict)} weights of the {model}")
    height, width = shape = size or recipe.input_size
    origin = {
        "model": model,
        "config": Path(taken_from).name,
        "checkpoint": _name_of(checkpoint),
    }
    files = []
    try:
        Path(out_dir).mkdir(parents=True, exist_ok=True)
        for output in chosen:
            streams = segmentor.required_streams(output)
            about = {"output": output, **origin, **describe(recipe, streams, shape, labels)}
            stem = Path(out_dir) / f"{model}_{output}_{height}x{width}{'_labels' if labels else ''}"
            network = ExportedNetwork(segmentor, output, labels)
            for path, parity in _write_checked(network, _random_batches(streams, shape), stem, formats, about):
                tell(f"{path} ({path.stat().st_size / 2**20:.1f} MiB): {parity}")
                files.append(path)
    except OSError as error:
        raise ConfigError(f"{out_dir} cannot be written ({error.strerror or error}); choose another folder") from error
    return files


def _name_of(checkpoint: str | Path) -> str:
    path = Path(checkpoint)
    return str(checkpoint) if is_remote(checkpoint) else f"{path.resolve().parent.name}/{path.name}"


def _check_formats(formats: Iterable[str]) -> None:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ConfigError(f"format {unknown[0]!r} is unknown; choose from {', '.join(FORMATS)}")
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if "onnx" in formats and missing:
        raise ConfigError(
            f"format 'onnx' needs {', '.join(missing)}: pip install {' '.join(ONNX_PACKAGES)}; or choose only 'torch'"
        )


def _chosen_outputs(
    segmentor: BaseSegmentor, config: Config, recipe: InputRecipe, asked: Sequence[str] | None
) -> list[str]:
    """Names of the outputs to export; ``all`` means those that the config's training trained.

    Raises:
        ConfigError: the model has no such output.
    """
    if not asked:
        return [default_output(segmentor, recipe)]
    if "all" not in asked:
        for output in asked:
            segmentor.required_streams(output)
        return list(dict.fromkeys(asked))
    both = uses_isr_fusion(config.get("uda") or {})
    outputs = []
    for output in OUTPUT_STREAMS:
        with suppress(ConfigError):
            segmentor.required_streams(output)
            if both or output not in ("fusion_isr", "fusion_all"):
                outputs.append(output)
    return outputs


def _random_batches(streams: Sequence[str], size: tuple[int, int]) -> list[dict[str, Tensor]]:
    """Inputs (B, 3, H, W) by stream, one dictionary per checked batch size."""
    generator = torch.Generator().manual_seed(0)

    def draw(name: str, batch: int) -> Tensor:
        shape = (batch, 3, *size)
        if name == "image":
            return torch.randn(shape, generator=generator)
        # Event and content maps have one channel, repeated three times.
        return (2 * torch.rand((batch, 1, *size), generator=generator) - 1).expand(shape).contiguous()

    return [{name: draw(name, batch) for name in streams} for batch in CHECKED_BATCHES]


def _write_checked(
    network: ExportedNetwork,
    batches: Sequence[Mapping[str, Tensor]],
    stem: Path,
    formats: Iterable[str],
    about: Mapping[str, Any],
) -> Iterator[tuple[Path, Parity]]:
    """Write a network in every format, with its description; yield the files and their differences from PyTorch.

    Raises:
        ConfigError: a file that was written and loaded again does not compute the same as the network.
    """
    expected, unused = _expected_logits(network, batches)
    with _without(network, unused):
        program = _traced(network, batches[-1])
    for name in formats:
        path = stem.with_name(stem.name + FORMATS[name])
        write, run, packages = _WAYS[name]
        of_format = {"opset": OPSET} if name == "onnx" else {}
        versions = {package: metadata.version(package) for package in packages}
        described = {"file": path.name, "format": name, **of_format, **about, "made_with": versions}
        with atomic_path(path) as temporary:
            write(program, temporary, described)
            parity = _compare(run(temporary, batches), expected)
            if not parity.is_close:
                raise ConfigError(
                    f"{path} is not written, since it differs from PyTorch: {parity}; {TOLERANCE:g} is allowed. Try "
                    f"another version of {', '.join(packages)}"
                )
        write_text(f"{path}.json", json.dumps({**described, "checked": parity.as_dict()}, indent=1) + "\n")
        yield path, parity


def _expected_logits(
    network: ExportedNetwork, batches: Sequence[Mapping[str, Tensor]]
) -> tuple[list[Tensor], list[str]]:
    """PyTorch's logits for every batch, and the names of layers with weights that do not contribute to them."""
    modules = network.named_modules(remove_duplicate=False)
    layers = {name: layer for name, layer in modules if not [*layer.children()] and layer.state_dict()}
    used: set[nn.Module] = set()
    hooks = [layer.register_forward_hook(lambda layer, *_: used.add(layer)) for layer in set(layers.values())]
    try:
        with torch.inference_mode():
            expected = [network.segmentor.predict_logits(inputs, network.output) for inputs in batches]
    finally:
        for hook in hooks:
            hook.remove()
    return expected, [name for name, layer in layers.items() if layer not in used]


@contextmanager
def _without(network: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """Remove layers from a network temporarily, since a file would contain their weights even if unused."""
    layers = {name: network.get_submodule(name) for name in names}
    try:
        for name in layers:
            network.set_submodule(name, nn.Identity())
        yield
    finally:
        for name, layer in layers.items():
            network.set_submodule(name, layer)


def _traced(network: ExportedNetwork, inputs: Mapping[str, Tensor]) -> ExportedProgram:
    """Graph of a network for any batch size; ``inputs`` are an example of at least two images."""
    batch = Dim("batch")
    shapes = {name: {0: batch} for name in inputs}
    program = torch.export.export(network.eval(), (), dict(inputs), dynamic_shapes=shapes)
    # Files are shared: they must not contain paths of this machine.
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _write_onnx(program: ExportedProgram, path: Path, about: Mapping[str, Any]) -> None:
    exported = torch.onnx.export(
        program,
        input_names=[given["name"] for given in about["inputs"]],
        output_names=[given["name"] for given in about["outputs"]],
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    if exported is None or exported.model.graph.inputs[0].shape is None:
        raise ConfigError(f"{path} is not written: this version of torch exports no ONNX program")
    batch = exported.model.graph.inputs[0].shape[0]
    # The signature of rename_axes lacks int, which a dimension may also be.
    exported.rename_axes({batch: "batch"})  # type: ignore[dict-item]
    for node in exported.model.graph:
        # Every node holds names of our modules.
        node.metadata_props.clear()
    exported.model.metadata_props[DESCRIPTION] = json.dumps(about)
    exported.save(path, external_data=False)


def _run_onnx(path: Path, batches: Iterable[Mapping[str, Tensor]]) -> Iterator[tuple[Tensor, ...]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for inputs in batches:
        arrays = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        yield tuple(torch.from_numpy(array) for array in arrays)


def _write_torch(program: ExportedProgram, path: Path, about: Mapping[str, Any]) -> None:
    # With a path, torch would name the folder inside the archive after it.
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={f"{DESCRIPTION}.json": json.dumps(about)})


def _run_torch(path: Path, batches: Iterable[Mapping[str, Tensor]]) -> Iterator[tuple[Tensor, ...]]:
    network = torch.export.load(path).module()
    for inputs in batches:
        with torch.inference_mode():
            outputs = network(**inputs)
        yield outputs if isinstance(outputs, tuple) else (outputs,)


# format -> writer, runner, packages behind them
_WAYS = {
    "onnx": (_write_onnx, _run_onnx, ("torch", *ONNX_PACKAGES)),
    "torch": (_write_torch, _run_torch, ("torch",)),
}


def _compare(found: Iterable[tuple[Tensor, ...]], expected: Sequence[Tensor]) -> Parity:
    """Outputs of an exported network for every batch, against PyTorch's logits (B, classes, H, W)."""
    differences, confidence_differences = [], []
    for outputs, logits in zip(found, expected, strict=True):
        if len(outputs) == 1:
            differences.append((outputs[0] - logits).abs().max())
            continue
        label, confidence = outputs
        # If two classes are nearly equal, rounding may choose either.
        differences.append((logits.amax(dim=1) - logits.gather(1, label.long()[:, None])[:, 0]).max())
        confidence_differences.append((confidence - logits.softmax(dim=1).amax(dim=1)).abs().max())
    largest, least = (max(x.max().item() for x in expected), min(x.min().item() for x in expected))
    return Parity(
        torch.stack(differences).max().item(),
        largest - least,
        torch.stack(confidence_differences).max().item() if confidence_differences else None,
    )
