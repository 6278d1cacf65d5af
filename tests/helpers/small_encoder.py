"""A MiT of one block per stage, registered as ``mit_test``, for tests where the size of the network does not matter.

Scripts that tests start know it, see :mod:`process_server`. A process that a script starts in turn does not.
"""

from __future__ import annotations

from mmseg.models.backbones.mit import ARCHITECTURES, MixVisionTransformer
from mmseg.registry import BACKBONES

TEST_ENCODER, TEST_CHANNELS = "mit_test", [16, 32, 80, 128]
ARCHITECTURES[TEST_ENCODER] = ((1, 1, 1, 1), tuple(TEST_CHANNELS))


@BACKBONES.register_module(name=TEST_ENCODER)
class TestEncoder(MixVisionTransformer):
    """See :data:`TEST_ENCODER`."""

    __test__ = False

    def __init__(self, in_chans: int = 3, drop_path_rate: float = 0.1, style: str = "pytorch") -> None:
        super().__init__(TEST_ENCODER, in_chans, drop_path_rate, style)
