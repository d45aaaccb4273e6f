"""The default study as a plain script, with which ``python -m spectrum.bench study`` compares it.

    python benchmarks/plain_study.py --seeds 5 --epochs 10

It is written as one would with PyTorch alone: ``nn.Conv2d(groups=...)``, ``DataLoader``, float32,
the default memory layout and number of threads, one run after the other. The work is that of
``python -m spectrum.study --segments 1,4,32,C``: the same network, widths, images, splits,
optimiser, schedule, averaged weights and evaluations. It imports nothing of the package. The
widths, at which all points have about the same number of parameters, are copied as numbers.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

BATCH = 32
CLASSES = 10
WIDTHS = "1=0.3701,4=0.6275,32=0.9419,C=1"
Splits = dict[str, TensorDataset]


class GroupedConv(nn.Module):
    """A grouped 3x3 convolution; where groups can't be equal, the first are one channel wider."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        small, wider = divmod(channels, groups)
        runs = [(wider, small + 1), (groups - wider, small)]
        self.sizes = [n * width for n, width in runs if n]
        self.convs = nn.ModuleList(
            nn.Conv2d(n * width, n * width, 3, padding=1, groups=n, bias=False)
            for n, width in runs
            if n
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (N, channels, H, W)."""
        if len(self.convs) == 1:
            return self.convs[0](x)
        parts = x.split(self.sizes, dim=1)
        return torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], dim=1)


def separable(c_in: int, c_out: int, segments: str) -> nn.Sequential:
    """A grouped 3x3 convolution, a 1x1 convolution, and batch normalisation."""
    groups = c_in if segments == "C" else min(int(segments), c_in)
    pointwise = nn.Conv2d(c_in, c_out, 1, bias=False)
    return nn.Sequential(GroupedConv(c_in, groups), pointwise, nn.BatchNorm2d(c_out))


class Reducing(nn.Module):
    """Two separable convolutions and a max-pooling, with a strided 1x1 as the shortcut."""

    def __init__(self, c_in: int, c_mid: int, c_out: int, segments: str, first: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *([] if first else [nn.ReLU()]),
            separable(c_in, c_mid, segments),
            nn.ReLU(),
            separable(c_mid, c_out, segments),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(c_in, c_out, 1, stride=2, bias=False), nn.BatchNorm2d(c_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, c_in, H, W) to (N, c_out, ceil(H/2), ceil(W/2))."""
        return self.branch(x) + self.shortcut(x)


class Middle(nn.Module):
    """Three separable convolutions with a residual connection."""

    def __init__(self, channels: int, segments: str) -> None:
        super().__init__()
        layers = [(nn.ReLU(), separable(channels, channels, segments)) for _ in range(3)]
        self.branch = nn.Sequential(*(part for layer in layers for part in layer))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, channels, H, W) to the same shape."""
        return x + self.branch(x)


def tiny_xception(segments: str, width: float) -> nn.Sequential:
    """The tiny network with a number of segments and a width."""
    c = [int(n * width + 0.5) for n in (51, 64, 66, 109, 94, 108, 114)]
    return nn.Sequential(
        nn.Conv2d(1, c[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(c[0]),
        nn.ReLU(),
        Reducing(c[0], c[1], c[2], segments, first=True),
        Middle(c[2], segments),
        Reducing(c[2], c[3], c[4], segments, first=False),
        separable(c[4], c[5], segments),
        nn.ReLU(),
        separable(c[5], c[6], segments),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(c[6], CLASSES),
    )


def load_splits() -> Splits:
    """Split the digits: three fifths for training, a fifth each for validation and testing."""
    digits = load_digits()
    images, labels = digits.images.astype("float32")[:, None], digits.target
    fifth = round(0.2 * len(labels))
    rest, test = train_test_split(
        range(len(labels)), test_size=fifth, stratify=labels, random_state=0
    )
    train, val = train_test_split(rest, test_size=fifth, stratify=labels[rest], random_state=0)
    mean, deviation = images[train].mean(), images[train].std()
    normal = torch.from_numpy((images - mean) / deviation)
    targets = torch.from_numpy(labels)
    parts = {"train": train, "val": val, "test": test}
    return {name: TensorDataset(normal[part], targets[part]) for name, part in parts.items()}


def moving_average(decay: float) -> Callable[..., None]:
    """An exponential moving average of the weights, with a smaller decay for the first steps."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], n: int | Tensor) -> None:
        weight = min(decay, (1 + float(n)) / (10 + float(n)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - weight)
        else:
            for average, new in zip(averaged, current, strict=True):
                average.copy_(new)

    return update


@torch.no_grad()
def accuracy(network: nn.Module, split: TensorDataset) -> float:
    """The share of a split that is classified correctly."""
    network.eval()
    correct = 0
    for images, labels in DataLoader(split, batch_size=256):
        correct += (network(images).argmax(dim=1) == labels).sum().item()
    return correct / len(split)


def run(segments: str, width: float, seed: int, epochs: int, splits: Splits) -> dict[str, object]:
    """Train one network and return its row of the results."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    network = tiny_xception(segments, width)
    loader = DataLoader(splits["train"], batch_size=BATCH, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 4e-3, total_steps=len(loader) * epochs + 1
    )
    averaged = AveragedModel(network, multi_avg_fn=moving_average(0.98), use_buffers=True)
    for _ in range(epochs):
        network.train()
        for images, labels in loader:
            loss = F.cross_entropy(network(images), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(network)
        val_top1 = accuracy(averaged, splits["val"])
    return {
        "segments": segments,
        "seed": seed,
        "params": sum(p.numel() for p in network.parameters()),
        "val_top1": val_top1,
        "test_top1": accuracy(averaged, splits["test"]),
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    """Train every point with every seed, and write one row per run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="runs per point (5)")
    parser.add_argument("--epochs", type=int, default=10, help="epochs per run (10)")
    parser.add_argument("--widths", default=WIDTHS, help=f"points and their widths ({WIDTHS})")
    parser.add_argument("--out", type=Path, default=Path("plain_study.csv"), help="the rows")
    given = parser.parse_args()
    widths = dict(point.split("=") for point in given.widths.split(","))
    splits = load_splits()
    rows = []
    for seed in range(given.seeds):
        for segments, width in widths.items():
            rows.append(run(segments, float(width), seed, given.epochs, splits))
            print(
                f"segments {segments}, seed {seed}: test top-1 {rows[-1]['test_top1']:.4f}, "
                f"{rows[-1]['seconds']:.1f} s",
                flush=True,
            )
    with given.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
