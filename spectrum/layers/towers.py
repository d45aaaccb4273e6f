"""The simplified Inception module as drawn in figure 2 of the paper (arXiv:1610.02357).

Parallel towers are concatenated; each is a 1x1 convolution and a spatial one on its own channels.
The module is exactly equal to one large 1x1 convolution followed by a segmented spatial
convolution (figure 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spectrum.errors import FieldError
from spectrum.layers.arguments import MAX_CHANNELS, Activation, Pair, check_int
from spectrum.layers.spatial import SpatialModule


class Towers(SpatialModule):
    """Parallel towers on the same input, each a 1x1 and a spatial convolution, concatenated.

    ``SegmentedConv.to_towers`` and ``SegmentedConv.from_towers`` convert a layer to towers and
    back, with its weights.

    Args:
        in_channels: channels of the input.
        sizes: the channels of each tower.
        kernel_size: size of the spatial convolutions. This and all arguments below are as in
            ``SegmentedConv``.
        activation: activation between the two convolutions of a tower.
        stride: stride of the spatial convolutions.
        padding: zeros on either side, or None.
        dilation: dilation of the spatial convolutions.
        bias: whether the spatial convolutions have a bias.

    Attributes:
        towers: an ``nn.Sequential`` per tower: 1x1, activation, padding, spatial convolution.

    Raises:
        FieldError: an argument is out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        sizes: Sequence[int],
        kernel_size: int | Pair = 3,
        *,
        activation: Activation | None = None,
        stride: int | Pair = 1,
        padding: int | Pair | None = None,
        dilation: int | Pair = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, kernel_size, activation, stride, padding, dilation, bias)
        if not sizes:
            raise FieldError("sizes", sizes, "must be at least one whole number")
        self.sizes = tuple(check_int("sizes", size, maximum=MAX_CHANNELS) for size in sizes)
        self.towers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels, size, kernel_size=1, bias=False),
                self.activation_module(),
                nn.ZeroPad2d((self.before[1], self.after[1], self.before[0], self.after[0])),
                nn.Conv2d(
                    size,
                    size,
                    self.kernel_size,
                    stride=self.stride,
                    dilation=self.dilation,
                    bias=bias,
                ),
            )
            for size in self.sizes
        )

    def convs(self, place: int) -> list[nn.Conv2d]:
        """The convolutions at a place in the towers: 0 for the 1x1, -1 for the spatial ones."""
        return [tower[place] for tower in self.towers]  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, in_channels, H, W) to (N, sum of sizes, H', W')."""
        return torch.cat([tower(x) for tower in self.towers], dim=1)
