"""What Inception networks are made of: convolutions with their norms, modules, the second head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers import normalize
from spectrum.networks.inception_layout import POOL, Branch
from spectrum.networks.xception import Pooling

__all__ = ["Auxiliary", "AvgPool", "ConvNorm", "Mixed"]


class ConvNorm(nn.Module):
    """A convolution, batch normalisation and ReLU."""

    def __init__(self, conv: nn.Module, bn: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.bn = bn
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, C, H, W) to (N, C', H', W')."""
        return normalize(self.bn, self.conv(x), self.relu)


class AvgPool(nn.Module):
    """Average pooling 3x3 that keeps the resolution.

    Args:
        pooling: ``"symmetric"`` counts the padding in the averages at the border, as torchvision
            does; ``"keras"`` doesn't.

    Attributes:
        count_include_pad: whether it counts.
    """

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.count_include_pad = pooling == "symmetric"

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``x`` (N, C, H, W) to the same shape."""
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=self.count_include_pad)

    def extra_repr(self) -> str:
        """Whether it counts the padding."""
        return f"count_include_pad={self.count_include_pad}"


class Mixed(nn.Module):
    """An Inception module: branches on the same input, concatenated.

    Args:
        branches: the layout.
        convs: the modules of its convolutions by name.
        pool: of the pooling branch.
    """

    def __init__(
        self, branches: Sequence[Branch], convs: dict[str, nn.Module], pool: nn.Module
    ) -> None:
        super().__init__()
        self._steps = [
            [(POOL,) if isinstance(step, str) else tuple(c.name for c in step) for step in branch]
            for branch in branches
        ]
        for name, conv in convs.items():
            self.add_module(name, conv)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, C, H, W) to (N, C', H', W')."""
        outputs = []
        for branch in self._steps:
            ends = [x]
            for step in branch:
                ends = [self.get_submodule(name)(ends[0]) for name in step]
            outputs += ends
        return torch.cat(outputs, dim=1)


class Auxiliary(nn.Module):
    """The auxiliary classifier on the 17x17 grid (figure 8 of the paper), a regulariser."""

    def __init__(self, conv0: ConvNorm, conv1: ConvNorm, fc: nn.Linear) -> None:
        super().__init__()
        self.conv0 = conv0
        self.conv1 = conv1
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = fc

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``x`` (N, C, H, W): logits (N, num_classes)."""
        x = F.avg_pool2d(x, kernel_size=5, stride=3)  # (N, 768, 5, 5) of 17x17
        x = self.conv1(self.conv0(x))  # (N, 768, 1, 1)
        return self.fc(self.pool(x).flatten(1))  # type: ignore[no-any-return]
