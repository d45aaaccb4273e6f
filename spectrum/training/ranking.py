"""How well scores rank the labels of images that have any number of them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["average_precision"]

_HELD = 1 << 24  # scores ranked at a time: 64 MB


def average_precision(
    scores: Tensor, targets: Tensor, k: int, weights: Tensor | None = None
) -> Tensor:
    """The average precision of the ``k`` classes with the highest scores, AP@k, of each image.

    With c_i the class in place i, w its weight, rel_i whether it is one of the image's n labels
    and P@i the share of labels among the first i: the sum of w(c_i) rel_i P@i over the first k,
    divided by the sum of the largest min(k, n) weights of the image's labels. So it is 1 where
    the labels come first, the heaviest of them where they are more than k. Of equal scores the
    one of the earlier class comes first. Its mean over images is the MAP@k of the paper's JFT
    experiments (arXiv:1610.02357, section 4.1), which weights classes and leaves the rest open.

    Args:
        scores: (N, K) float, of N images for K classes.
        targets: (N, K) bool, the labels of each image, any number of them.
        k: how many classes are looked at, all where there are fewer.
        weights: (K,), of the classes, 0 or more; None for equal ones.

    Returns:
        (N,) float32, in 0..1; NaN for an image without a label, or with none that weighs anything.

    Raises:
        ValueError: an argument has another shape or type, ``k`` is less than 1, or a weight is
            negative or not finite.
    """
    _check(scores, targets, k, weights)
    classes = scores.shape[1]
    heavy = torch.ones(classes) if weights is None else weights.float()
    heavy = heavy.to(scores.device)
    k = min(k, classes)
    places = torch.arange(1, k + 1, device=scores.device)
    found = []
    for some, labels in zip(
        scores.split(max(1, _HELD // classes)), targets.split(max(1, _HELD // classes)), strict=True
    ):
        first = _first(some, k)  # (n, k)
        hits = labels.gather(1, first)
        gained = (heavy[first] * hits * hits.cumsum(1) / places).sum(1)
        found.append(gained / (heavy * labels).topk(k, dim=1).values.sum(1))
    return torch.cat(found).clamp(max=1)  # a sum in another order may be a little larger


def _first(scores: Tensor, k: int) -> Tensor:
    """The classes of the ``k`` highest scores, the best first, (n, k)."""
    highest, chosen = scores.topk(k, dim=1)
    # Which of equal scores are chosen, and their order, is left open there.
    chosen = chosen.sort(dim=1).values
    order = scores.gather(1, chosen).sort(dim=1, descending=True, stable=True).indices
    first = chosen.gather(1, order)
    tied = (scores >= highest[:, -1:]).sum(1) > k
    if tied.any():
        ranked = scores[tied].sort(dim=1, descending=True, stable=True).indices
        first[tied] = ranked[:, :k]
    return first


def _check(scores: Tensor, targets: Tensor, k: int, weights: Tensor | None) -> None:
    """Raise a ValueError for what can't be ranked."""
    if scores.ndim != 2 or scores.shape[1] == 0 or not scores.is_floating_point():
        raise ValueError(
            f"scores (={scores.dtype} {tuple(scores.shape)}) must be floating-point, (N, K), with "
            "a class at least"
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
            f"weights (={tuple(weights.shape)}) must be ({scores.shape[1]},), one a class"
        )
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise ValueError("weights must be finite and 0 or more")
