"""Print what five counters say of the same networks, and of single layers.

    make counts

sets up an environment with thop and ptflops, and runs this script after ``exact_counts.py``. Each
counter is called as its documentation shows, on one network or layer in eval mode, for one image.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from peers import import_peer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spectrum import count_costs, xception

Shape = tuple[int, int, int]


class Sum(nn.Module):
    """An image plus itself, as residual connections add."""

    def forward(self, x: Tensor) -> Tensor:
        """Add."""
        return x + x


class Product(nn.Module):
    """A matrix times itself for each channel, as attention multiplies."""

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return x @ x


def of_timm(name: str) -> nn.Module:
    """One of timm's networks with random weights."""
    return installed("timm").create_model(name)


def of_torchvision(name: str) -> nn.Module:
    """One of torchvision's networks with random weights."""
    return getattr(installed("torchvision").models, name)()


NETWORKS: tuple[tuple[str, Callable[[], nn.Module], Shape], ...] = (
    ("timm's Xception", lambda: of_timm("legacy_xception"), (3, 299, 299)),
    ("ours at C", lambda: xception("C"), (3, 299, 299)),
    ("ours at 1", lambda: xception(1), (3, 299, 299)),
    ("torchvision's ResNet-50", lambda: of_torchvision("resnet50"), (3, 224, 224)),
    ("torchvision's VGG-16", lambda: of_torchvision("vgg16"), (3, 224, 224)),
)
IMAGE = (16, 8, 8)
LAYERS: tuple[tuple[str, Callable[[], nn.Module]], ...] = (
    ("Conv2d(16, 16, 3)", lambda: nn.Conv2d(16, 16, 3, padding=1, bias=False)),
    ("  with a bias", lambda: nn.Conv2d(16, 16, 3, padding=1)),
    ("  with groups=16", lambda: nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)),
    ('  with padding="same"', lambda: nn.Conv2d(16, 16, 3, padding="same", bias=False)),
    ("Linear(8, 8)", lambda: nn.Linear(8, 8, bias=False)),
    ("  with a bias", lambda: nn.Linear(8, 8)),
    ("x @ x", Product),
    ("BatchNorm2d(16)", lambda: nn.BatchNorm2d(16)),
    ("ReLU()", nn.ReLU),
    ("MaxPool2d(2)", lambda: nn.MaxPool2d(2)),
    ("AdaptiveAvgPool2d(1)", lambda: nn.AdaptiveAvgPool2d(1)),
    ("x + x", Sum),
)


def installed(name: str) -> Any:
    """A library, which make counts installs."""
    library = import_peer(name)
    assert library is not None, f"{name} isn't installed; make counts installs it"
    return library


def by_spectrum(network: nn.Module, shape: Shape) -> int:
    """MACs of convolutions and linear layers."""
    return count_costs(network, shape).macs


def by_fvcore(network: nn.Module, shape: Shape) -> int:
    """What fvcore calls flops."""
    counts = FlopCountAnalysis(network, torch.zeros(1, *shape))
    return int(counts.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())


def by_torch(network: nn.Module, shape: Shape) -> int:
    """The FLOPs of torch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, *shape))
    return int(counter.get_total_flops())


def by_thop(network: nn.Module, shape: Shape) -> int:
    """What thop calls MACs."""
    thop = installed("thop")
    return int(thop.profile(network, (torch.zeros(1, *shape),), verbose=False)[0])


def by_ptflops(network: nn.Module, shape: Shape) -> int:
    """What ptflops calls MACs."""
    macs, _ = installed("ptflops").get_model_complexity_info(
        network, shape, backend="pytorch", as_strings=False, print_per_layer_stat=False
    )
    return int(macs or 0)


COUNTERS = {
    "spectrum": by_spectrum,
    "fvcore": by_fvcore,
    "torch": by_torch,
    "thop": by_thop,
    "ptflops": by_ptflops,
}


def row(title: str, make: Callable[[], nn.Module], shape: Shape) -> str:
    """Return a line of a table: a title, and what each counter says of a new module."""
    cells = []
    for count in COUNTERS.values():
        with contextlib.redirect_stdout(io.StringIO()):  # ptflops prints what it skips
            cells.append(count(make().eval(), shape))
    return f"{title:24}" + "".join(f"{cell:>16,}" for cell in cells)


def main() -> None:
    """Print the tables."""
    logging.disable(logging.WARNING)
    heads = "".join(f"{name:>16}" for name in COUNTERS)
    print(f"{'one image':24}{heads}")
    for title, make, shape in NETWORKS:
        print(row(title, make, shape))
    print(f"\n{'16 channels of 8x8':24}{heads}")
    for title, make in LAYERS:
        print(row(title, make, IMAGE))


if __name__ == "__main__":
    main()
