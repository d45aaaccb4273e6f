"""Training, validation and test: those that are given, and those that are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from spectrum.data.source import TEST, TRAIN, UNDIVIDED, VALIDATION

__all__ = ["SPLIT_NAMES", "divide", "notes_of"]

SPLIT_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
}
"""What others call the splits."""

Indices = npt.NDArray[np.int64]
Targets = npt.NDArray[np.int64] | npt.NDArray[np.bool_]


def divide(
    targets: Targets,
    splits: npt.NDArray[np.int8],
    *,
    classes: Sequence[str],
    validation: float,
    test: float,
    seed: int,
    train_images: int | None = None,
) -> tuple[Indices, Indices, Indices]:
    """Which images are trained on, chosen by and tested on.

    What isn't given is drawn from the images for training, each class in proportion; where images
    have several labels, by iterative stratification (Sechidis et al., ECML PKDD 2011). A
    validation split without a test split is what others report their figures on, and so the test
    split.

    Args:
        targets: (N,) the class of each image, or (N, K) bool.
        splits: (N,) where each belongs, as in ``Source``.
        classes: the names of the labels.
        validation: the share for validation, of all images where no split is given and else of
            those for training.
        test: the share of the images for testing, where no split is given.
        seed: of the division, apart from any seed of training.
        train_images: how many of the rest are trained on; None for all.

    Returns:
        The numbers of the images of each split.

    Raises:
        ValueError: there are no images for training, a split would hold fewer images than there
            are classes, a class has too few to be divided, or more training images are asked for
            than are left.
    """
    numbers = np.arange(len(targets))
    given = numbers[splits == VALIDATION], numbers[splits == TEST]
    pool = numbers[(splits == TRAIN) | (splits == UNDIVIDED)]
    if not len(pool):
        raise ValueError("the images must have some for training, these have other splits alone")
    present = 1 if targets.ndim == 2 else len(np.unique(targets[pool]))
    has_validation, has_test = len(given[0]) > 0, len(given[1]) > 0
    wanted = [] if has_validation and has_test else [("validation", validation)]
    if not has_validation and not has_test:
        wanted.insert(0, ("test", test))
    for name, share in wanted:
        if round(share * len(pool)) < present:
            some = f" for each of {present} classes" if targets.ndim == 1 else ""
            raise ValueError(
                f"{name} (={share}) must be at least {present / len(pool):.3g}, "
                f"one image of {len(pool)}{some}"
            )
    sizes = [round(share * len(pool)) for _, share in wanted]
    if len(pool) - sum(sizes) < present:
        shares = " and ".join(f"{name} (={share})" for name, share in wanted)
        raise ValueError(
            f"{shares} must leave at least {present} of {len(pool)} images to train on"
        )
    rest, drawn = pool, []
    for i, size in enumerate(sizes):
        _enough(targets, pool, rest, len(sizes) - i + 1, classes)
        rest, part = _two(rest, targets, size, seed)
        drawn.append(part)
    _enough(targets, pool, rest, 1, classes)
    if has_validation and has_test:
        chosen, final = given
    elif has_validation or has_test:
        chosen, final = drawn[0], given[0] if has_validation else given[1]
    else:
        final, chosen = drawn
    if train_images is not None:
        rest = _fewer(rest, targets, train_images, present, seed)
    return rest, chosen, final


def notes_of(splits: npt.NDArray[np.int8]) -> tuple[str, ...]:
    """What a user should know of how ``divide`` takes the splits that are given."""
    if not np.any(splits == VALIDATION) or np.any(splits == TEST):
        return ()
    return (
        "there is no test split: the validation split that is given is for testing, and validation "
        "is by a share of the images for training",
    )


def _two(part: Indices, targets: Targets, size: int, seed: int) -> tuple[Indices, Indices]:
    """Two parts, the second of this size, each class in proportion."""
    by = targets[part]
    if by.ndim == 2:
        drawn, order = _iteratively(np.asarray(by, bool), size, seed)
        return part[order[~drawn[order]]], part[order[drawn[order]]]
    first, second = train_test_split(part, test_size=size, stratify=by, random_state=seed)
    return np.asarray(first), np.asarray(second)


def _iteratively(
    targets: npt.NDArray[np.bool_], size: int, seed: int
) -> tuple[npt.NDArray[np.bool_], Indices]:
    """Which of some images are drawn so that each label is, in proportion, and a random order.

    The rarest label comes first: each of its images goes where that label is wanted most. Those
    without labels fill what is left.
    """
    n = len(targets)
    order = np.random.default_rng(seed).permutation(n)
    left = targets.sum(axis=0)  # (K,) of each label, images that are nowhere yet
    wanted = np.array([left * (1 - size / n), left * (size / n)])  # (2, K)
    room = [n - size, size]
    place = np.full(n, -1)
    while left.any():
        rarest = int(np.where(left > 0, left, n + 1).argmin())
        for i in order[targets[order, rarest] & (place[order] < 0)]:
            best = max((0, 1), key=lambda p: (room[p] > 0, wanted[p][rarest], room[p]))
            place[i] = best
            room[best] -= 1
            wanted[best] -= targets[i]
            left = left - targets[i]
    rest = order[place[order] < 0]
    place[rest] = np.arange(len(rest)) < room[1]
    return place == 1, order


def _enough(
    targets: Targets, pool: Indices, part: Indices, least: int, classes: Sequence[str]
) -> None:
    """Raise a ValueError for a class of the pool with fewer images in a part of it."""
    if targets.ndim == 2:
        return
    before, after = (np.bincount(targets[i], minlength=len(classes)) for i in (pool, part))
    for i in np.flatnonzero((before > 0) & (after < least))[:1]:
        raise ValueError(f"class {classes[i]} has too few images (={before[i]}) to be divided")


def _fewer(part: Indices, targets: Targets, n: int, present: int, seed: int) -> Indices:
    """Some of the training images, each class in proportion."""
    if not present <= n <= len(part):
        raise ValueError(
            f"train_images (={n}) must be in {present}..{len(part)}, what the other splits leave"
        )
    if n > len(part) - present:  # too few left over to take out in proportion
        return part[:n]
    if targets.ndim == 2:
        return _two(part, targets, len(part) - n, seed)[0]
    kept, _ = train_test_split(part, train_size=n, stratify=targets[part], random_state=seed)
    return np.asarray(kept)
