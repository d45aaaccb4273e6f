"""Average precision: how well scores rank the labels of images that may have several."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["average_precision"]

_CHUNK_SCORES = 1 << 24  # scores that are ranked at a time: 64 MB


def average_precision(
    scores: Tensor, targets: Tensor, k: int, weights: Tensor | None = None
) -> Tensor:
    """Compute the average precision of each image's ``k`` highest scores, AP@k.

    Let c_i be the class at rank i, w its weight, rel_i whether it is one of the image's n labels,
    and P@i the share of labels among the first i ranks. AP@k is the sum of w(c_i) rel_i P@i over
    the first k ranks, divided by the sum of the largest min(k, n) weights of the image's labels.
    So it is 1 if the labels come first, the heaviest of them if there are more than k. Of equal
    scores, the one of the earlier class ranks first.

    Its mean over images is the MAP@k of the paper's JFT experiments (arXiv:1610.02357, section
    4.1). The paper says that classes are weighted and gives no formula.

    Args:
        scores: (N, K) float, of N images for K classes.
        targets: (N, K) bool, the labels of each image.
        k: how many ranks count; all of them if there are fewer.
        weights: (K,), of the classes, 0 or more; None for equal weights.

    Returns:
        (N,) float32, in 0..1; NaN for an image without labels, or whose labels all weigh 0.

    Raises:
        ValueError: an argument has another shape or type, ``k`` is less than 1, or a weight is
            negative or not finite.
    """
    _check_arguments(scores, targets, k, weights)
    classes = scores.shape[1]
    class_weights = torch.ones(classes) if weights is None else weights.float()
    class_weights = class_weights.to(scores.device)
    k = min(k, classes)
    ranks = torch.arange(1, k + 1, device=scores.device)
    precisions = []
    rows = max(1, _CHUNK_SCORES // classes)
    for chunk, labels in zip(scores.split(rows), targets.split(rows), strict=True):
        top = _top_classes(chunk, k)  # (n, k)
        hits = labels.gather(1, top)
        gained = (class_weights[top] * hits * hits.cumsum(1) / ranks).sum(1)
        precisions.append(gained / (class_weights * labels).topk(k, dim=1).values.sum(1))
    return torch.cat(precisions).clamp(max=1)  # rounding may exceed 1 a little


def _top_classes(scores: Tensor, k: int) -> Tensor:
    """The classes of the ``k`` highest scores, the highest first, (n, k)."""
    highest, chosen = scores.topk(k, dim=1)
    # topk doesn't say which of equal scores it chooses, nor their order.
    chosen = chosen.sort(dim=1).values
    order = scores.gather(1, chosen).sort(dim=1, descending=True, stable=True).indices
    top = chosen.gather(1, order)
    tied = (scores >= highest[:, -1:]).sum(1) > k
    if tied.any():
        ranked = scores[tied].sort(dim=1, descending=True, stable=True).indices
        top[tied] = ranked[:, :k]
    return top


def _check_arguments(scores: Tensor, targets: Tensor, k: int, weights: Tensor | None) -> None:
    if scores.ndim != 2 or scores.shape[1] == 0 or not scores.is_floating_point():
        raise ValueError(
            f"scores (={scores.dtype} {tuple(scores.shape)}) must be floating-point, (N, K), with "
            "at least one class"
        )
    if targets.shape != scores.shape or targets.dtype != torch.bool:
        raise ValueError(
            f"targets (={targets.dtype} {tuple(targets.shape)}) must be bool, "
            f"{tuple(scores.shape)} as scores are"
        )
    if k < 1:
        raise ValueError(f"k (={k}) must be at least 1")
    if weights is None:
        return
    if weights.shape != scores.shape[1:]:
        raise ValueError(
            f"weights (={tuple(weights.shape)}) must be ({scores.shape[1]},), one per class"
        )
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ValueError("weights must be finite and 0 or more")
