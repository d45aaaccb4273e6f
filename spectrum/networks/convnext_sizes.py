"""The sizes of ConvNeXts. No torch is imported, since names of networks follow from them.

Liu et al., A ConvNet for the 2020s (arXiv:2201.03545), section 3; Woo et al., ConvNeXt V2
(arXiv:2301.00808), appendix A.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

Four: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class ConvNeXtSize:
    """The size of a ConvNeXt at width 1.

    Attributes:
        depths: blocks of each of the four stages.
        widths: channels of each stage.
        v2: whether blocks have global response normalisation, as in ConvNeXt V2, and no factor on
            each channel of their outputs.
        strides: kernel size and stride of the convolution before each stage; the first is the stem.
    """

    depths: Four
    widths: Four
    v2: bool = False
    strides: Four = (4, 2, 2, 2)


_V1 = {
    # Two reductions instead of five. The channel counts round at different widths, so budgets are
    # met closely.
    "small_images": ConvNeXtSize((1, 1, 2, 1), (20, 31, 43, 57), strides=(2, 2, 1, 1)),
    "tiny": ConvNeXtSize((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ConvNeXtSize((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ConvNeXtSize((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ConvNeXtSize((3, 3, 27, 3), (192, 384, 768, 1536)),
    "xlarge": ConvNeXtSize((3, 3, 27, 3), (256, 512, 1024, 2048)),
}
CONVNEXT_SIZES: dict[str, ConvNeXtSize] = {
    **_V1,
    "v2_small_images": replace(_V1["small_images"], v2=True),
    "v2_atto": ConvNeXtSize((2, 2, 6, 2), (40, 80, 160, 320), v2=True),
    "v2_femto": ConvNeXtSize((2, 2, 6, 2), (48, 96, 192, 384), v2=True),
    "v2_pico": ConvNeXtSize((2, 2, 6, 2), (64, 128, 256, 512), v2=True),
    "v2_nano": ConvNeXtSize((2, 2, 8, 2), (80, 160, 320, 640), v2=True),
    "v2_tiny": replace(_V1["tiny"], v2=True),
    "v2_base": replace(_V1["base"], v2=True),
    "v2_large": replace(_V1["large"], v2=True),
    "v2_huge": ConvNeXtSize((3, 3, 27, 3), (352, 704, 1408, 2816), v2=True),
}


def convnext_name(size: str) -> str:
    """The name of the network: ``convnext_tiny`` for ``"tiny"``, ``convnextv2_`` for ``"v2_"``."""
    return f"convnext{size}" if size.startswith("v2_") else f"convnext_{size}"
