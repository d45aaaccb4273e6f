"""How well a network classifies a split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spectrum.data import Examples
from spectrum.training.loss import criterion
from spectrum.training.processes import count, gather_rows, number
from spectrum.training.ranking import average_precision
from spectrum.training.recipe import PRECISIONS, Precision

__all__ = ["Metrics", "autocast", "evaluate"]

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Metrics:
    """Figures over a split.

    Attributes:
        top1: share of examples whose highest logit is their class's, or one of theirs where they
            have several labels.
        top5: share for which one of the five highest is (or of all, where there are fewer).
        loss: mean cross-entropy, without label smoothing; binary where there are several labels.
        correct: (N,) bool, on the CPU, whether each example's highest logit is its class's.
        map: mean of ``precision``; None where each example has one class.
        precision: (N,) float32, on the CPU, the average precision of each example's highest
            logits, NaN for one without labels; None where each has one class.
    """

    top1: float
    top5: float
    loss: float
    correct: Tensor
    map: float | None = None
    precision: Tensor | None = None


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a forward pass runs in ``precision``.

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision (={precision!r}) must be one of {', '.join(PRECISIONS)}")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@torch.no_grad()
def evaluate(
    network: nn.Module,
    split: Examples,
    *,
    precision: Precision = "float32",
    class_weights: Tensor | None = None,
    map_at: int = 100,
) -> Metrics:
    """Measure a classifier on a split, in eval mode; its mode is given back.

    Processes that train together share the examples, and all get the figures.

    Args:
        network: images (N, C, H, W) to logits (N, classes); the split is taken to its device.
        split: the examples.
        precision: of the forward pass; the loss is computed in float32.
        class_weights: (classes,), in the average precision of examples with several labels; None
            for equal ones.
        map_at: how many predictions that looks at.

    Raises:
        ValueError: the split is empty, or an unknown precision.
    """
    if len(split) == 0:
        raise ValueError("split (=0 examples) must have at least one example")
    modes = [(module, module.training) for module in network.modules()]
    device = next((p.device for p in network.parameters()), split.labels.device)
    split = split.to(device)
    own = torch.arange(number(), len(split), count()) if count() > 1 else None
    logits = []
    network.eval()
    try:
        for images, _ in split.batches(EVALUATION_BATCH, own):
            with autocast(device, precision):
                logits.append(network(images).float())
    finally:
        for module, training in modes:
            module.training = training
    scores = gather_rows(torch.cat(logits), len(split))  # (N, classes)
    labels = split.labels
    ranked = scores.topk(min(5, scores.shape[1]), dim=1).indices  # (N, 5)
    if labels.ndim == 2:
        hits = labels.gather(1, ranked)
        weights = None if class_weights is None else class_weights.to(device)
        each = average_precision(scores, labels, map_at, weights)
    else:
        hits, each = ranked == labels[:, None], None
    return Metrics(
        top1=hits[:, 0].float().mean().item(),
        top5=hits.any(dim=1).float().mean().item(),
        loss=criterion(scores, labels).item(),
        correct=hits[:, 0].cpu(),
        map=None if each is None else each.nanmean().item(),
        precision=None if each is None else each.float().cpu(),
    )
