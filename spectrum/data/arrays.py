"""A user's arrays of images and labels, checked and converted to a ``Source``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spectrum.data.source import Source
from spectrum.errors import counted
from spectrum.user_code import describe_error


def check_arrays(split: int, images: Any, labels: Any, classes: Any = ()) -> Source:
    """Check arrays or tensors, and convert them to a ``Source`` whose labels aren't numbered yet.

    Args:
        split: of all images.
        images: (N, C, H, W), uint8 or float32.
        labels: (N,) integers; or (N, K) of 0 and 1 if images have several labels.
        classes: the names of the labels 0, 1 and so on; empty if they have none.

    Raises:
        ValueError: an argument has another form.
    """
    pixels, targets = to_numpy(images, "images"), to_numpy(labels, "labels")
    allowed = "must return images (N, C, H, W) of uint8 or float32"
    if pixels.ndim != 4 or pixels.dtype not in (np.uint8, np.float32) or not pixels.size:
        raise ValueError(f"{allowed}, not {_form(pixels)}")
    _, c, h, w = pixels.shape
    if c == h > 4 and w in (1, 3):
        raise ValueError(f"{allowed}, not {_form(pixels)}, which looks like (N, H, W, C)")
    if pixels.dtype == np.float32:
        finite = np.array([np.isfinite(image).all() for image in pixels])
        if not finite.all():
            raise ValueError(f"must return finite pixels, those of image {finite.argmin()} aren't")
        if pixels.min() == pixels.max():
            raise ValueError("must return images that differ, every pixel is the same")
    if len(targets) != len(pixels):
        expected = counted(len(pixels), "label")
        raise ValueError(f"must return {expected}, as many as images, not {len(targets)}")
    splits = np.full(len(targets), split, np.int8)
    return Source(pixels, _check_labels(targets), _check_class_names(classes), splits)


def _check_labels(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    allowed = "must return labels (N,) of integers or (N, K) of 0 and 1"
    if labels.ndim == 1 and labels.dtype.kind in "iubf":
        whole = are_whole(labels)
        if not whole.all():
            bad = int(whole.argmin())
            raise ValueError(
                f"{allowed}, not {_form(labels)}, of which image {bad} has {labels[bad]}"
            )
        return labels.astype(np.int64)
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "iubf":
        raise ValueError(f"{allowed}, not {_form(labels)}")
    invalid = ~np.isin(labels, (0, 1)).all(axis=1)
    if invalid.any():
        raise ValueError(f"{allowed}, those of image {invalid.argmax()} aren't")
    return labels.astype(bool)


def are_whole(numbers: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which numbers (N,) are whole and exact as integers of 64 bits."""
    if numbers.dtype.kind != "f":
        return np.ones(len(numbers), bool)
    with np.errstate(invalid="ignore", over="ignore"):
        exact = numbers.astype(np.float64)
        whole: npt.NDArray[np.bool_] = (exact == np.rint(exact)) & (np.abs(exact) < 2**53)
    return whole


def _check_class_names(classes: Any) -> tuple[str, ...]:
    is_list = isinstance(classes, (list, tuple)) or hasattr(classes, "tolist")
    names = tuple(classes) if is_list else ()
    if not is_list or not all(isinstance(name, str) for name in names):
        raise ValueError(f"must return class names as a list of strings, not {str(classes)[:50]}")
    if len(set(names)) < len(names):
        raise ValueError("must return class names that differ")
    return tuple(map(str, names))


def concatenate(parts: Sequence[Source]) -> Source:
    """Concatenate what ``check_arrays`` returns for each split, with one numbering of the classes.

    Raises:
        ValueError: the splits don't fit each other, or a label is not the number of a class.
    """
    images, targets = [part.pixels for part in parts], [part.targets for part in parts]
    for what, arrays in (("images", images), ("labels", targets)):
        if len({(array.dtype, array.shape[1:]) for array in arrays}) > 1:
            found = " and ".join(map(_form, arrays))
            raise ValueError(f"must have {what} of one type and shape in all splits, not {found}")
    names = {part.classes for part in parts if part.classes}
    if len(names) > 1:
        raise ValueError("must return the same class names in all splits")
    labels: npt.NDArray[Any] = np.concatenate(targets)
    classes = names.pop() if names else ()
    if labels.ndim == 1:
        labels, classes = number_classes(labels, classes, lambda i: f"image {i}")
    elif not classes:
        classes = tuple(map(str, range(labels.shape[1])))
    elif len(classes) != labels.shape[1]:
        expected = counted(labels.shape[1], "class name")
        raise ValueError(f"must return {expected}, one per column of labels, not {classes}")
    return Source(
        images=np.concatenate(images) if len(images) > 1 else images[0],
        targets=labels,
        classes=classes,
        splits=np.concatenate([part.splits for part in parts]),
        notes=tuple(note for part in parts for note in part.notes),
    )


def number_classes(
    labels: npt.NDArray[Any], classes: Sequence[str], name_of: Callable[[int], str]
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Number the classes that integers stand for.

    Args:
        labels: (N,) integers.
        classes: the names of the labels 0, 1 and so on; empty if they have none.
        name_of: returns what a message calls the image with an index.

    Returns:
        The number of each label's class (N,), and the names of the classes: the given ones, or
        the values that occur, sorted.

    Raises:
        ValueError: a label is not the number of a class.
    """
    if not classes:
        found, numbers = np.unique(labels, return_inverse=True)
        return numbers.astype(np.int64), tuple(map(str, found.tolist()))
    outside = (labels < 0) | (labels >= len(classes))
    if outside.any():
        bad = int(outside.argmax())
        raise ValueError(
            f"must have labels in 0..{len(classes) - 1}, the numbers of the classes, but "
            f"{name_of(bad)} has {labels[bad]}"
        )
    return labels.astype(np.int64), tuple(classes)


def to_numpy(values: Any, what: str) -> npt.NDArray[Any]:
    """Convert an array, a tensor or nested lists to a NumPy array.

    Args:
        values: the values to convert.
        what: the name of the values in messages.

    Raises:
        ValueError: the values are something else.
    """
    is_tensor = isinstance(values, torch.Tensor)
    if not is_tensor and not isinstance(values, (np.ndarray, list, tuple)):
        raise ValueError(f"must return {what} as an array or a tensor, not {type(values).__name__}")
    try:
        if is_tensor:
            values = values.float() if values.dtype == torch.bfloat16 else values
            values = values.numpy(force=True)
        array = np.asarray(values)
    except Exception as error:  # sparse, quantised and other tensors raise various exceptions
        raise ValueError(f"must return {what} as a plain array: {describe_error(error)}") from None
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _form(array: npt.NDArray[Any]) -> str:
    return f"{array.shape} of {array.dtype}"
