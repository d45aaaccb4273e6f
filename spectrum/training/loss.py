"""The training loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from spectrum.training.recipe import Recipe

__all__ = ["AUXILIARY_WEIGHT", "criterion", "training_loss"]

AUXILIARY_WEIGHT = 0.4
"""The weight of an auxiliary head's loss, as in Inception V3's own training code."""


def criterion(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Compute the mean cross-entropy; for images with several labels, the binary one.

    Args:
        logits: (N, K), float32.
        labels: (N,) int64, or (N, K) bool if an image may have several labels.
        smoothing: the share of the target that is spread over all classes. With several labels,
            the share that is spread over the two answers (label or no label) for each class.
    """
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    targets = labels.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, targets)


def training_loss(output: Tensor | tuple[Tensor, ...], labels: Tensor, recipe: Recipe) -> Tensor:
    """Compute the loss of a network's output.

    Args:
        output: the logits (N, K), or a tuple of the main logits and those of auxiliary heads.
        labels: as ``criterion`` takes them.
        recipe: its label smoothing is used.
    """
    heads = output if isinstance(output, tuple) else (output,)
    losses = [criterion(logits.float(), labels, recipe.label_smoothing) for logits in heads]
    return losses[0] + AUXILIARY_WEIGHT * sum(losses[1:])
