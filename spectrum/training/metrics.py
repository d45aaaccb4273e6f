"""How well a network classifies a split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.data import Split
from spectrum.training.recipe import PRECISIONS, Precision

__all__ = ["Metrics", "autocast", "evaluate"]

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Metrics:
    """Figures over a split.

    Attributes:
        top1: share of examples whose highest logit is their class's.
        top5: share whose class is among the five highest (or all, where there are fewer).
        loss: mean cross-entropy, without label smoothing.
        correct: (N,) bool, on the CPU, whether each example's highest logit is its class's.
    """

    top1: float
    top5: float
    loss: float
    correct: Tensor


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a forward pass runs in ``precision``.

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision (={precision!r}) must be one of {', '.join(PRECISIONS)}")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@torch.no_grad()
def evaluate(network: nn.Module, split: Split, *, precision: Precision = "float32") -> Metrics:
    """Measure a classifier on a split, in eval mode; its mode is given back.

    Args:
        network: images (N, C, H, W) to logits (N, classes); the split is taken to its device.
        split: the examples.
        precision: of the forward pass; the loss is computed in float32.

    Raises:
        ValueError: the split is empty, or an unknown precision.
    """
    if len(split) == 0:
        raise ValueError("split (=0 examples) must have at least one example")
    modes = [(module, module.training) for module in network.modules()]
    device = next((p.device for p in network.parameters()), split.images.device)
    split = split.to(device)
    logits = []
    network.eval()
    try:
        for images in split.images.split(EVALUATION_BATCH):
            with autocast(device, precision):
                logits.append(network(images).float())
    finally:
        for module, training in modes:
            module.training = training
    scores = torch.cat(logits)  # (N, classes)
    ranked = scores.topk(min(5, scores.shape[1]), dim=1).indices  # (N, 5)
    hits = ranked == split.labels[:, None]
    return Metrics(
        top1=hits[:, 0].float().mean().item(),
        top5=hits.any(dim=1).float().mean().item(),
        loss=F.cross_entropy(scores, split.labels).item(),
        correct=hits[:, 0].cpu(),
    )
