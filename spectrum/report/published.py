"""The published networks that points of the dial are seen beside.

Parameters and multiply-adds of convolutions and linear layers, counted with fvcore on the networks
of torchvision (Inception V3 without its auxiliary head) and, for Xception, as in table 3 of its
paper (arXiv:1610.02357); each at the input that its authors use.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PUBLISHED", "Published"]


class Published(NamedTuple):
    """A network and its costs.

    Attributes:
        name: as in its paper.
        params: trainable parameters, 1000 classes.
        macs: multiply-adds of convolutions and linear layers for one image.
        side: of that image, in pixels.
    """

    name: str
    params: int
    macs: int
    side: int


PUBLISHED = (
    Published("Inception V3", 23_834_568, 5_713_216_096, 299),
    Published("VGG-16", 138_357_544, 15_470_264_320, 224),
    Published("ResNet-50", 25_557_032, 4_089_184_256, 224),
    Published("ResNeXt-50", 25_028_904, 4_230_479_872, 224),
    Published("Xception", 22_855_952, 8_357_403_496, 299),
)
