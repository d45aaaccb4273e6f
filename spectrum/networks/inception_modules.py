"""The modules of Inception V2 and V3: figures 5, 6, 7, 8 and 10 of arXiv:1512.00567.

The classes and their branches have torchvision's names; the branches are in Keras's order. Channel
counts are the paper's, to which ``scale`` applies the network's width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.networks.blocks import ConvNormReLU, Pool, conv1x1
from spectrum.networks.factory import SegmentedConvFactory
from spectrum.networks.options import Pooling


class AvgPool(Pool):
    """Average pooling 3x3 that keeps the resolution.

    ``"symmetric"`` counts the padding in the averages at the border, as torchvision does;
    ``"keras"`` does not.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``x`` (N, C, H, W) to the same shape."""
        counted = self.pooling == "symmetric"
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=counted)


class InceptionA(nn.Module):
    """Figure 5: a 5x5 convolution as two 3x3, beside a branch with one k x k convolution.

    Args:
        c_in: channels of the input.
        factory: makes the segmented convolutions, three in all.
        scale: gives the number of channels at the network's width.
        pooled: channels of the pooling branch, at width 1.
        kernel: k; V3 keeps a 5x5 convolution there, V2 has a 3x3.
        pooling: how the pooling branch pads.

    Attributes:
        out_channels: channels of the output.
    """

    def __init__(
        self,
        c_in: int,
        factory: SegmentedConvFactory,
        scale: Callable[[int], int],
        *,
        pooled: int,
        kernel: int,
        pooling: Pooling,
    ) -> None:
        super().__init__()
        c48, c64, c96, c_pool = map(scale, (48, 64, 96, pooled))
        self.branch1x1 = ConvNormReLU(conv1x1(c_in, c64))
        self.branch5x5_1 = ConvNormReLU(conv1x1(c_in, c48))
        self.branch5x5_2 = ConvNormReLU(factory.conv(c48, c64, kernel))
        self.branch3x3dbl_1 = ConvNormReLU(conv1x1(c_in, c64))
        self.branch3x3dbl_2 = ConvNormReLU(factory.conv(c64, c96, 3))
        self.branch3x3dbl_3 = ConvNormReLU(factory.conv(c96, c96, 3))
        self.branch_pool = ConvNormReLU(conv1x1(c_in, c_pool))
        self.pool = AvgPool(pooling)
        self.out_channels = c64 + c64 + c96 + c_pool

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, c_in, H, W) to (N, out_channels, H, W)."""
        branch1x1 = self.branch1x1(x)
        branch5x5 = self.branch5x5_2(self.branch5x5_1(x))
        branch3x3dbl = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        branch_pool = self.branch_pool(self.pool(x))
        return torch.cat([branch1x1, branch5x5, branch3x3dbl, branch_pool], dim=1)


class InceptionB(nn.Module):
    """Figure 10: the first grid reduction, strided branches beside a pooling.

    Args:
        c_in: channels of the input.
        factory: makes the segmented convolutions, three in all.
        scale: gives the number of channels at the network's width.
        padded: whether the strided convolutions and the pooling pad.

    Attributes:
        out_channels: channels of the output.
    """

    def __init__(
        self,
        c_in: int,
        factory: SegmentedConvFactory,
        scale: Callable[[int], int],
        *,
        padded: bool,
    ) -> None:
        super().__init__()
        c64, c96, c384 = map(scale, (64, 96, 384))
        padding = None if padded else 0
        self.branch3x3 = ConvNormReLU(factory.conv(c_in, c384, 3, stride=2, padding=padding))
        self.branch3x3dbl_1 = ConvNormReLU(conv1x1(c_in, c64))
        self.branch3x3dbl_2 = ConvNormReLU(factory.conv(c64, c96, 3))
        self.branch3x3dbl_3 = ConvNormReLU(factory.conv(c96, c96, 3, stride=2, padding=padding))
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=int(padded))
        self.out_channels = c384 + c96 + c_in

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, c_in, H, W) to (N, out_channels, about H/2, about W/2)."""
        branch3x3 = self.branch3x3(x)
        branch3x3dbl = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([branch3x3, branch3x3dbl, self.pool(x)], dim=1)


class InceptionC(nn.Module):
    """Figure 6: n x n convolutions as 1 x n and n x 1.

    Args:
        c_in: channels of the input.
        factory: makes the segmented convolutions, six in all.
        scale: gives the number of channels at the network's width.
        inner: channels inside the factorised branches, at width 1.
        n: length of the convolutions, 7 in the paper.
        pooling: how the pooling branch pads.

    Attributes:
        out_channels: channels of the output.
    """

    def __init__(
        self,
        c_in: int,
        factory: SegmentedConvFactory,
        scale: Callable[[int], int],
        *,
        inner: int,
        n: int,
        pooling: Pooling,
    ) -> None:
        super().__init__()
        c, c192 = scale(inner), scale(192)
        self.branch1x1 = ConvNormReLU(conv1x1(c_in, c192))
        self.branch7x7_1 = ConvNormReLU(conv1x1(c_in, c))
        self.branch7x7_2 = ConvNormReLU(factory.conv(c, c, (1, n)))
        self.branch7x7_3 = ConvNormReLU(factory.conv(c, c192, (n, 1)))
        self.branch7x7dbl_1 = ConvNormReLU(conv1x1(c_in, c))
        self.branch7x7dbl_2 = ConvNormReLU(factory.conv(c, c, (n, 1)))
        self.branch7x7dbl_3 = ConvNormReLU(factory.conv(c, c, (1, n)))
        self.branch7x7dbl_4 = ConvNormReLU(factory.conv(c, c, (n, 1)))
        self.branch7x7dbl_5 = ConvNormReLU(factory.conv(c, c192, (1, n)))
        self.branch_pool = ConvNormReLU(conv1x1(c_in, c192))
        self.pool = AvgPool(pooling)
        self.out_channels = 4 * c192

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, c_in, H, W) to (N, out_channels, H, W)."""
        branch1x1 = self.branch1x1(x)
        branch7x7 = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        branch7x7dbl = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        branch7x7dbl = self.branch7x7dbl_5(self.branch7x7dbl_4(branch7x7dbl))
        branch_pool = self.branch_pool(self.pool(x))
        return torch.cat([branch1x1, branch7x7, branch7x7dbl, branch_pool], dim=1)


class InceptionD(nn.Module):
    """The second grid reduction: as figure 10, with a factorised n x n convolution in a branch.

    Args:
        c_in: channels of the input.
        factory: makes the segmented convolutions, four in all.
        scale: gives the number of channels at the network's width.
        n: length of the factorised convolutions, 7 in the paper.
        padded: whether the strided convolutions and the pooling pad.

    Attributes:
        out_channels: channels of the output.
    """

    def __init__(
        self,
        c_in: int,
        factory: SegmentedConvFactory,
        scale: Callable[[int], int],
        *,
        n: int,
        padded: bool,
    ) -> None:
        super().__init__()
        c192, c320 = scale(192), scale(320)
        padding = None if padded else 0
        self.branch3x3_1 = ConvNormReLU(conv1x1(c_in, c192))
        self.branch3x3_2 = ConvNormReLU(factory.conv(c192, c320, 3, stride=2, padding=padding))
        self.branch7x7x3_1 = ConvNormReLU(conv1x1(c_in, c192))
        self.branch7x7x3_2 = ConvNormReLU(factory.conv(c192, c192, (1, n)))
        self.branch7x7x3_3 = ConvNormReLU(factory.conv(c192, c192, (n, 1)))
        self.branch7x7x3_4 = ConvNormReLU(factory.conv(c192, c192, 3, stride=2, padding=padding))
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=int(padded))
        self.out_channels = c320 + c192 + c_in

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, c_in, H, W) to (N, out_channels, about H/2, about W/2)."""
        branch3x3 = self.branch3x3_2(self.branch3x3_1(x))
        branch7x7x3 = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        branch7x7x3 = self.branch7x7x3_4(branch7x7x3)
        return torch.cat([branch3x3, branch7x7x3, self.pool(x)], dim=1)


class InceptionE(nn.Module):
    """Figure 7: the expanded filter bank, 1x3 and 3x1 convolutions side by side.

    Args:
        c_in: channels of the input.
        factory: makes the segmented convolutions, five in all.
        scale: gives the number of channels at the network's width.
        pooling: how the pooling branch pads.

    Attributes:
        out_channels: channels of the output.
    """

    def __init__(
        self,
        c_in: int,
        factory: SegmentedConvFactory,
        scale: Callable[[int], int],
        *,
        pooling: Pooling,
    ) -> None:
        super().__init__()
        c192, c320, c384, c448 = map(scale, (192, 320, 384, 448))
        self.branch1x1 = ConvNormReLU(conv1x1(c_in, c320))
        self.branch3x3_1 = ConvNormReLU(conv1x1(c_in, c384))
        self.branch3x3_2a = ConvNormReLU(factory.conv(c384, c384, (1, 3)))
        self.branch3x3_2b = ConvNormReLU(factory.conv(c384, c384, (3, 1)))
        self.branch3x3dbl_1 = ConvNormReLU(conv1x1(c_in, c448))
        self.branch3x3dbl_2 = ConvNormReLU(factory.conv(c448, c384, 3))
        self.branch3x3dbl_3a = ConvNormReLU(factory.conv(c384, c384, (1, 3)))
        self.branch3x3dbl_3b = ConvNormReLU(factory.conv(c384, c384, (3, 1)))
        self.branch_pool = ConvNormReLU(conv1x1(c_in, c192))
        self.pool = AvgPool(pooling)
        self.out_channels = c320 + 4 * c384 + c192

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, c_in, H, W) to (N, out_channels, H, W)."""
        branch1x1 = self.branch1x1(x)
        y = self.branch3x3_1(x)
        branch3x3 = [self.branch3x3_2a(y), self.branch3x3_2b(y)]
        y = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branch3x3dbl = [self.branch3x3dbl_3a(y), self.branch3x3dbl_3b(y)]
        branch_pool = self.branch_pool(self.pool(x))
        return torch.cat([branch1x1, *branch3x3, *branch3x3dbl, branch_pool], dim=1)


class InceptionAux(nn.Module):
    """Figure 8: the auxiliary classifier on the 17x17 grid, a regulariser.

    Args:
        c_in: channels of the input.
        scale: gives the number of channels at the network's width.
        num_classes: outputs of the classifier.
    """

    def __init__(self, c_in: int, scale: Callable[[int], int], num_classes: int) -> None:
        super().__init__()
        c128, c768 = scale(128), scale(768)
        self.conv0 = ConvNormReLU(conv1x1(c_in, c128))
        self.conv1 = ConvNormReLU(nn.Conv2d(c128, c768, kernel_size=5, bias=False))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(c768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``x`` (N, c_in, H, W): logits (N, num_classes)."""
        x = F.avg_pool2d(x, kernel_size=5, stride=3)  # (N, 768, 5, 5) of 17x17
        x = self.conv1(self.conv0(x))  # (N, 768, 1, 1)
        return self.fc(self.pool(x).flatten(1))  # type: ignore[no-any-return]
