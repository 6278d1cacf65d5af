"""Style transfer of the Image Motion-Extractor."""

from mmseg.models.style_transfer.resnet_generator import ResnetGenerator, load_generator

__all__ = ["ResnetGenerator", "load_generator"]
