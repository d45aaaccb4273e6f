"""Splits images into training, validation and test, with regard to the splits they come with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spectrum.data.source import TEST, TRAIN, UNASSIGNED, VALIDATION, Numbers
from spectrum.errors import FieldError

Targets = Numbers | npt.NDArray[np.bool_]


def split_indices(
    targets: Targets,
    splits: npt.NDArray[np.int8],
    *,
    classes: Sequence[str],
    validation: float,
    test: float,
    test_seed: int,
    seed: int,
    train_images: int | None = None,
) -> tuple[Numbers, Numbers, Numbers]:
    """Choose the images for training, validation and testing.

    A split that isn't given is drawn from the training images, stratified by class. If images have
    several labels, by iterative stratification (Sechidis et al., ECML PKDD 2011). A validation
    split that comes without a test split is used for testing, because others report their metrics
    on it.

    Args:
        targets: (N,) the class of each image, or (N, K) bool.
        splits: (N,) the split of each image, as in ``Source``.
        classes: the names of the labels.
        validation: the share for validation, of all images if no split is given, else of the
            training images.
        test: the share of the images for testing, if no split is given.
        test_seed: of the draw of test images.
        seed: of the draw of validation and training images.
        train_images: the number of training images, out of those that are left; None for all.

    Returns:
        The indices of the training, the validation and the test images.

    Raises:
        ValueError: there are no training images, a split would have fewer images than there are
            classes, a class has too few images to be split, or there are fewer training images
            than are asked for.
    """
    numbers = np.arange(len(targets))
    given = numbers[splits == VALIDATION], numbers[splits == TEST]
    pool = numbers[(splits == TRAIN) | (splits == UNASSIGNED)]
    if not len(pool):
        raise ValueError("must have images for training, all are in the validation or test split")
    present = 1 if targets.ndim == 2 else len(np.unique(targets[pool]))
    has_validation, has_test = len(given[0]) > 0, len(given[1]) > 0
    shares = [] if has_validation and has_test else [("validation", validation)]
    if not has_validation and not has_test:
        shares.insert(0, ("test", test))
    for name, share in shares:
        if round(share * len(pool)) < present:
            for_each = f" for each of {present} classes" if targets.ndim == 1 else ""
            least = f"{present / len(pool):.3g}, one image of {len(pool)}{for_each}"
            raise FieldError(name, share, f"must be at least {least}")
    sizes = [round(share * len(pool)) for _, share in shares]
    if len(pool) - sum(sizes) < present:
        others = "".join(f"and {name} (={share}) " for name, share in shares[1:])
        allowed = f"{others}must leave at least {present} of {len(pool)} images to train on"
        raise FieldError(*shares[0], allowed)
    rest, drawn = pool, []
    for i, ((name, _), size) in enumerate(zip(shares, sizes, strict=True)):
        _check_class_sizes(targets, pool, rest, len(sizes) - i + 1, classes)
        rest, subset = _split_in_two(rest, targets, size, test_seed if name == "test" else seed)
        drawn.append(subset)
    _check_class_sizes(targets, pool, rest, 1, classes)
    if has_validation and has_test:
        validation_indices, test_indices = given
    elif has_validation or has_test:
        validation_indices, test_indices = drawn[0], given[0] if has_validation else given[1]
    else:
        test_indices, validation_indices = drawn
    if train_images is not None:
        rest = _subsample(rest, targets, train_images, present, seed)
    return rest, validation_indices, test_indices


def draw_seed(split_seed: int, draw: int) -> int:
    """The seed of one of many draws of training and validation images out of the same images."""
    return int(np.random.SeedSequence((split_seed, draw)).generate_state(1)[0])


def split_notes(splits: npt.NDArray[np.int8]) -> tuple[str, ...]:
    """What a user should know about how ``split_indices`` uses the given splits."""
    if not np.any(splits == VALIDATION) or np.any(splits == TEST):
        return ()
    return (
        "there is no test split: the given validation split is used for testing, and a share of "
        "the training images for validation",
    )


def _split_in_two(
    indices: Numbers, targets: Targets, size: int, seed: int
) -> tuple[Numbers, Numbers]:
    """Split indices in two, stratified by class; the second part has ``size``."""
    strata = targets[indices]
    if strata.ndim == 2:
        drawn, order = _stratify_iteratively(np.asarray(strata, bool), size, seed)
        return indices[order[~drawn[order]]], indices[order[drawn[order]]]
    first, second = _draw_by_class(np.asarray(strata, np.int64), size, seed)
    return indices[first], indices[second]


def _draw_by_class(classes: Numbers, size: int, seed: int) -> tuple[Numbers, Numbers]:
    """Draw positions of images so that each class is drawn in proportion.

    The draw is that of ``sklearn.model_selection.train_test_split`` with ``stratify``, which a test
    compares it with. It is part of what a run is, so it follows no other library's versions.

    Args:
        classes: (N,) the class of each image.
        size: the number of images to draw.
        seed: of the draw.

    Returns:
        The positions that are left and those that are drawn, each in random order.
    """
    rng = np.random.RandomState(seed)
    _, numbers, counts = np.unique(classes, return_inverse=True, return_counts=True)
    left = _share_out(counts, len(classes) - size, rng)
    drawn = _share_out(counts - left, size, rng)
    firsts, seconds = [], []
    for number, (n_left, n_drawn) in enumerate(zip(left, drawn, strict=True)):
        (members,) = np.nonzero(numbers == number)
        members = members[rng.permutation(len(members))]
        firsts.append(members[:n_left])
        seconds.append(members[n_left : n_left + n_drawn])
    return rng.permutation(np.concatenate(firsts)), rng.permutation(np.concatenate(seconds))


def _share_out(counts: Numbers, total: int, rng: np.random.RandomState) -> Numbers:
    """Share out a total over classes in proportion to their counts.

    What rounding down leaves goes to the largest remainders, by lot where these are equal.
    """
    exact = counts / counts.sum() * total
    shares: Numbers = np.floor(exact).astype(np.int64)
    remainders = exact - shares
    for remainder in np.unique(remainders)[::-1]:
        missing = total - shares.sum()
        if missing == 0:
            break
        (tied,) = np.nonzero(remainders == remainder)
        shares[rng.choice(tied, min(len(tied), missing), replace=False)] += 1
    return shares


def _stratify_iteratively(
    targets: npt.NDArray[np.bool_], size: int, seed: int
) -> tuple[npt.NDArray[np.bool_], Numbers]:
    """Draw images so that each label is drawn in proportion (iterative stratification).

    The rarest label comes first. Each of its images goes to the part that needs more images of
    that label. Images without labels fill the room that is left.

    Args:
        targets: (n, K), the labels of each image.
        size: how many images are drawn.
        seed: of the random order.

    Returns:
        (n,) whether each image is drawn, and a random order (n,) of the images.
    """
    n = len(targets)
    order = np.random.default_rng(seed).permutation(n)
    left = targets.sum(axis=0)  # (K,) the images of each label that are in neither part yet
    wanted = np.array([left * (1 - size / n), left * (size / n)])  # (2, K)
    room = [n - size, size]
    part = np.full(n, -1)
    while left.any():
        rarest = int(np.where(left > 0, left, n + 1).argmin())
        for i in order[targets[order, rarest] & (part[order] < 0)]:
            best = max((0, 1), key=lambda p: (room[p] > 0, wanted[p][rarest], room[p]))
            part[i] = best
            room[best] -= 1
            wanted[best] -= targets[i]
            left = left - targets[i]
    rest = order[part[order] < 0]
    part[rest] = np.arange(len(rest)) < room[1]
    return part == 1, order


def _check_class_sizes(
    targets: Targets, pool: Numbers, subset: Numbers, least: int, classes: Sequence[str]
) -> None:
    """Raise a ValueError if a class of the pool has fewer than ``least`` images in the subset."""
    if targets.ndim == 2:
        return
    before, after = (np.bincount(targets[i], minlength=len(classes)) for i in (pool, subset))
    for i in np.flatnonzero((before > 0) & (after < least))[:1]:
        raise ValueError(f"has too few images of class {classes[i]} to be split: {before[i]}")


def _subsample(indices: Numbers, targets: Targets, n: int, present: int, seed: int) -> Numbers:
    """Draw ``n`` of the training images, stratified by class."""
    if not present <= n <= len(indices):
        allowed = f"must be in {present}..{len(indices)}, what the other splits leave"
        raise FieldError("train_images", n, allowed)
    if n > len(indices) - present:  # too few are left out to stratify them
        return indices[:n]
    return _split_in_two(indices, targets, len(indices) - n, seed)[0]
