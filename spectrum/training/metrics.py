"""Evaluation: how well a network classifies the examples of a split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spectrum.data import Examples
from spectrum.training.distributed import all_gather_rows, rank, world_size
from spectrum.training.loss import criterion
from spectrum.training.ranking import average_precision
from spectrum.training.recipe import PRECISIONS, Precision

__all__ = ["Metrics", "autocast", "evaluate"]

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Metrics:
    """The metrics of a network on a split.

    Attributes:
        top1: the share of examples whose highest logit is that of their class, or of one of their
            labels if they have several.
        top5: the same for any of the five highest logits (of all, if there are fewer classes).
        loss: the mean cross-entropy without label smoothing; the binary one if examples have
            several labels.
        correct: (N,) bool, on the CPU, whether each example counts in ``top1``.
        map: the mean of ``average_precision``; None if each example has one class.
        average_precision: (N,) float32, on the CPU, the average precision (AP@k) of each example,
            NaN for one without labels; None if each example has one class.
    """

    top1: float
    top5: float
    loss: float
    correct: Tensor
    map: float | None = None
    average_precision: Tensor | None = None


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a forward pass runs in ``precision``.

    Raises:
        ValueError: the precision is unknown.
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
    """Evaluate a classifier on a split, in evaluation mode; its modules' modes are restored.

    Processes that train together share the examples, and all of them get the metrics.

    Args:
        network: maps images (N, C, H, W) to logits (N, classes); the split moves to its device.
        split: the examples.
        precision: of the forward pass; the loss is computed in float32.
        class_weights: (classes,), the weights of the classes in the average precision of examples
            with several labels; None for equal weights.
        map_at: k, how many of the highest logits the average precision (AP@k) looks at.

    Raises:
        ValueError: the split is empty, or the precision is unknown.
    """
    if len(split) == 0:
        raise ValueError("split (=0 examples) must have at least one example")
    modes = [(module, module.training) for module in network.modules()]
    device = next((p.device for p in network.parameters()), split.labels.device)
    split = split.to(device)
    own = torch.arange(rank(), len(split), world_size()) if world_size() > 1 else None
    logits = []
    network.eval()
    try:
        for images, _ in split.batches(EVALUATION_BATCH, own):
            with autocast(device, precision):
                logits.append(network(images).float())
    finally:
        for module, training in modes:
            module.training = training
    scores = all_gather_rows(torch.cat(logits), len(split))  # (N, classes)
    labels = split.labels
    ranked = scores.topk(min(5, scores.shape[1]), dim=1).indices  # (N, 5)
    if labels.ndim == 2:
        hits = labels.gather(1, ranked)
        weights = None if class_weights is None else class_weights.to(device)
        precisions = average_precision(scores, labels, map_at, weights)
    else:
        hits, precisions = ranked == labels[:, None], None
    return Metrics(
        top1=hits[:, 0].float().mean().item(),
        top5=hits.any(dim=1).float().mean().item(),
        loss=criterion(scores, labels).item(),
        correct=hits[:, 0].cpu(),
        map=None if precisions is None else precisions.nanmean().item(),
        average_precision=None if precisions is None else precisions.float().cpu(),
    )
