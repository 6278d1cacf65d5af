"""Segmentors: encoders and a decode head put together."""

from mmseg.models.segmentors.encoder_decoder import EncoderDecoder
from mmseg.models.segmentors.fusion_encoder_decoder import FusionEncoderDecoder

__all__ = ["EncoderDecoder", "FusionEncoderDecoder"]
