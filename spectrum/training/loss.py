"""What a training step makes small."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from spectrum.training.recipe import Recipe

__all__ = ["AUXILIARY_WEIGHT", "criterion", "training_loss"]

AUXILIARY_WEIGHT = 0.4
"""Of an auxiliary head's loss beside the main one; what Inception V3's own training code takes."""


def criterion(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy; of images with several labels, the mean binary one over all classes.

    Args:
        logits: (N, K), float32.
        labels: (N,) int64, or (N, K) bool where an image has any number of labels.
        smoothing: the share of the target that is spread: over all classes, or, of each label that
            an image has or hasn't, over the two.
    """
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    targets = labels.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, targets)


def training_loss(output: Tensor | tuple[Tensor, ...], labels: Tensor, recipe: Recipe) -> Tensor:
    """The loss of a network's output: the main logits (N, K), or those and auxiliary heads'."""
    heads = output if isinstance(output, tuple) else (output,)
    losses = [criterion(logits.float(), labels, recipe.label_smoothing) for logits in heads]
    return losses[0] + AUXILIARY_WEIGHT * sum(losses[1:])
