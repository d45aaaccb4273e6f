"""Layers in a process without ``spectrum.kernels`` compute what they compute with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from spectrum.layers import BatchNorm2d, BatchNormReLU, SegmentedConv

ROOT = Path(__file__).parents[2]
WITHOUT_KERNELS = """
import sys
sys.modules["spectrum.kernels"] = None
import torch
from tests.layers.test_acceleration import outputs
torch.save(outputs(), sys.argv[1])
assert not any(name.startswith("spectrum.kernels.") for name in sys.modules)
"""


def outputs() -> list[Tensor]:
    """Outputs, gradients and statistics of layers that kernels execute where they can."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x = torch.randn(4, 24, 40, 40).to(memory_format=torch.channels_last)
    found = []
    for layer in (
        SegmentedConv(24, 30, segments="C"),
        SegmentedConv(24, 30, segments=6),
        SegmentedConv(24, 30, segments=7, activation="relu", stride=2),  # of uneven sizes
        BatchNormReLU(24),
        BatchNorm2d(24),
    ):
        layer.to(memory_format=torch.channels_last)
        y = layer(x)
        y.square().mean().backward()
        found += [y.detach(), *(p.grad for p in layer.parameters()), *layer.buffers()]
        with torch.no_grad():
            found.append(layer.eval()(x))
    return found


def test_a_process_without_kernels_gives_the_same_outputs(tmp_path: Path) -> None:
    path = tmp_path / "outputs.pt"
    command = [sys.executable, "-c", WITHOUT_KERNELS, str(path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    for one, other in zip(outputs(), torch.load(path, weights_only=True), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_batch_norm_with_a_relu_equals_torchs_modules() -> None:
    torch.manual_seed(0)
    ours, norm, x = BatchNormReLU(6), nn.BatchNorm2d(6), torch.randn(3, 6, 5, 4)
    for tensor in (ours.weight, ours.bias):
        nn.init.uniform_(tensor, -1, 1)
    norm.load_state_dict(ours.state_dict())
    for mode in (True, False):
        torch.testing.assert_close(ours.train(mode)(x), norm.train(mode)(x).relu())
    assert list(ours.state_dict()) == list(norm.state_dict())
    torch.testing.assert_close(BatchNorm2d(6)(x), nn.BatchNorm2d(6)(x))
    assert (BatchNormReLU(6).relu, BatchNorm2d(6).relu) == (True, False)
