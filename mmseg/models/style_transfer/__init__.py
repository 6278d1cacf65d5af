"""Style transfer of the Image Motion-Extractor."""

from mmseg.models.style_transfer.cyclegan import CycleGAN
from mmseg.models.style_transfer.discriminator import PatchDiscriminator
from mmseg.models.style_transfer.image_pool import ImagePool, PoolDraw
from mmseg.models.style_transfer.resnet_generator import ResnetGenerator, load_generator

__all__ = ["CycleGAN", "ImagePool", "PatchDiscriminator", "PoolDraw", "ResnetGenerator", "load_generator"]
