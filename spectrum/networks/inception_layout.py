"""How the modules of Inception V2 and V3 are laid out: branches, channels, kernels.

Figures 5 to 7 and 10 and table 1 of arXiv:1512.00567. Names of branches are torchvision's, their
order is Keras's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from spectrum.layers import Pair

__all__ = ["POOL", "PRESETS", "V2", "Branch", "Conv", "Layout", "convs_of"]


class Conv(NamedTuple):
    """A convolution of a branch, with batch normalisation and ReLU after it."""

    name: str
    channels: int
    kernel: int | Pair
    stride: int = 1


POOL = "pool"
# A branch is a row of steps; the convolutions of one step stand side by side on the same input.
Branch: TypeAlias = tuple[tuple[Conv, ...] | str, ...]


@dataclass(frozen=True)
class Layout:
    """The sizes of a network at width 1.

    Attributes:
        stem: (channels, kernel, stride, padding) of each convolution before the modules; None is
            a max-pooling 3x3 by two without padding.
        pooled: for each module of the first kind, the channels of its pooling branch.
        wide: kernel of the second branch of the first kind: V3 keeps a 5x5 there.
        inner: for each module of the second kind, the channels inside its factorised branches.
        length: n of the second kind's 1xn and nx1 convolutions.
        expanded: how many modules of the third kind.
        padded: whether grid reductions pad, for maps too small to lose their border.
        scale: multiplier on the channel counts of the modules.
    """

    stem: tuple[tuple[int, int, int, int] | None, ...]
    pooled: tuple[int, ...]
    wide: int
    inner: tuple[int, ...]
    length: int
    expanded: int
    padded: bool = False
    scale: float = 1.0

    def grids(self) -> dict[str, list[tuple[Branch, ...]]]:
        """The modules on each grid; a reduction belongs to the grid that it makes."""
        return {
            "mixed5": [_first_kind(pooled, self.wide) for pooled in self.pooled],
            "mixed6": [_first_reduction(), *(_second_kind(n, self.length) for n in self.inner)],
            "mixed7": [_second_reduction(self.length), *[_third_kind()] * self.expanded],
        }


PRESETS = {
    "paper": Layout(
        stem=(
            (32, 3, 2, 0),
            (32, 3, 1, 0),
            (64, 3, 1, 1),
            None,
            (80, 1, 1, 0),
            (192, 3, 1, 0),
            None,
        ),
        pooled=(32, 64, 64),
        wide=5,
        inner=(128, 160, 160, 192),
        length=7,
        expanded=2,
    ),
    "small": Layout(
        stem=((32, 3, 1, 1), (64, 3, 1, 1)),
        pooled=(32, 64),
        wide=5,
        inner=(128, 160),
        length=7,
        expanded=1,
        padded=True,
        scale=0.5,
    ),
    "tiny": Layout(
        stem=((51, 3, 1, 1),),
        pooled=(64,),
        wide=5,
        inner=(128,),
        length=3,
        expanded=1,
        padded=True,
        scale=0.14,
    ),
}
# Table 1 of the paper gives V2's resolutions and channels between modules, not those inside its
# second kind: they rise from 128 to 192 as V3's do.
V2 = Layout(
    stem=(
        *((32, 3, 2, 0), (32, 3, 1, 0), (64, 3, 1, 1), None),
        *((80, 3, 1, 0), (192, 3, 2, 0), (288, 3, 1, 1)),
    ),
    pooled=(64, 64, 64),
    wide=3,
    inner=(128, 160, 160, 160, 192),
    length=7,
    expanded=2,
)


def _first_kind(pooled: int, wide: int) -> tuple[Branch, ...]:
    """Figure 5: a 5x5 as two 3x3 beside a smaller branch (V3's is one 5x5)."""
    return (
        ((Conv("branch1x1", 64, 1),),),
        ((Conv("branch5x5_1", 48, 1),), (Conv("branch5x5_2", 64, wide),)),
        (
            (Conv("branch3x3dbl_1", 64, 1),),
            (Conv("branch3x3dbl_2", 96, 3),),
            (Conv("branch3x3dbl_3", 96, 3),),
        ),
        (POOL, (Conv("branch_pool", pooled, 1),)),
    )


def _second_kind(inner: int, n: int) -> tuple[Branch, ...]:
    """Figure 6: nxn convolutions as 1xn and nx1."""
    return (
        ((Conv("branch1x1", 192, 1),),),
        (
            (Conv("branch7x7_1", inner, 1),),
            (Conv("branch7x7_2", inner, (1, n)),),
            (Conv("branch7x7_3", 192, (n, 1)),),
        ),
        (
            (Conv("branch7x7dbl_1", inner, 1),),
            (Conv("branch7x7dbl_2", inner, (n, 1)),),
            (Conv("branch7x7dbl_3", inner, (1, n)),),
            (Conv("branch7x7dbl_4", inner, (n, 1)),),
            (Conv("branch7x7dbl_5", 192, (1, n)),),
        ),
        (POOL, (Conv("branch_pool", 192, 1),)),
    )


def _third_kind() -> tuple[Branch, ...]:
    """Figure 7: the expanded filter bank, 1x3 and 3x1 side by side."""
    return (
        ((Conv("branch1x1", 320, 1),),),
        (
            (Conv("branch3x3_1", 384, 1),),
            (Conv("branch3x3_2a", 384, (1, 3)), Conv("branch3x3_2b", 384, (3, 1))),
        ),
        (
            (Conv("branch3x3dbl_1", 448, 1),),
            (Conv("branch3x3dbl_2", 384, 3),),
            (Conv("branch3x3dbl_3a", 384, (1, 3)), Conv("branch3x3dbl_3b", 384, (3, 1))),
        ),
        (POOL, (Conv("branch_pool", 192, 1),)),
    )


def _first_reduction() -> tuple[Branch, ...]:
    """Figure 10: strided branches beside a pooling one, to half the resolution."""
    return (
        ((Conv("branch3x3", 384, 3, 2),),),
        (
            (Conv("branch3x3dbl_1", 64, 1),),
            (Conv("branch3x3dbl_2", 96, 3),),
            (Conv("branch3x3dbl_3", 96, 3, 2),),
        ),
        (POOL,),
    )


def _second_reduction(n: int) -> tuple[Branch, ...]:
    """The same, with a factorised nxn before one of the strided convolutions."""
    return (
        ((Conv("branch3x3_1", 192, 1),), (Conv("branch3x3_2", 320, 3, 2),)),
        (
            (Conv("branch7x7x3_1", 192, 1),),
            (Conv("branch7x7x3_2", 192, (1, n)),),
            (Conv("branch7x7x3_3", 192, (n, 1)),),
            (Conv("branch7x7x3_4", 192, 3, 2),),
        ),
        (POOL,),
    )


def convs_of(modules: Sequence[Sequence[Branch]]) -> list[Conv]:
    """All convolutions of some modules, in order."""
    return [
        conv
        for branches in modules
        for branch in branches
        for step in branch
        if not isinstance(step, str)
        for conv in step
    ]
