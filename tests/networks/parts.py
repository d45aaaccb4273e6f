"""What the tests of the networks have in common."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spectrum.layers import SegmentedConv


def on_meta(build: Callable[..., nn.Module], *args: Any, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return build(*args, **options)


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def segmented_convs(network: nn.Module) -> dict[str, SegmentedConv]:
    return {n: m for n, m in network.named_modules() if isinstance(m, SegmentedConv)}


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


def images(n: int = 2, channels: int = 3, side: int = 8) -> Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(1))


def messages(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """What the log says of each layer, each in one line."""
    records = [r for r in caplog.records if r.name.startswith("spectrum")]
    assert {record.levelno for record in records} <= {logging.INFO}
    lines = [record.getMessage() for record in records]
    assert not any("\n" in line for line in lines)
    found = dict(line.split(": ", 1) for line in lines)
    assert len(found) == len(lines)
    return found


def gradients(network: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
    logits = network(x)
    (logits * torch.linspace(-1, 1, logits.shape[1])).sum().backward()
    return logits, {name: parameter.grad for name, parameter in network.named_parameters()}
