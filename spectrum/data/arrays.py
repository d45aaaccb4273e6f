"""A user's arrays of images and labels, checked and converted to the form that splits need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["ImageArrays", "check_arrays", "concatenate_splits", "to_numpy"]


@dataclass(frozen=True)
class ImageArrays:
    """Images and labels in memory.

    Attributes:
        images: (N, C, H, W), uint8 or float32.
        labels: (N,) int64, the user's own integers or the numbers of the classes; (N, K) bool if
            images have several labels.
        classes: the names of the labels; empty if they have none.
        notes: what a user should know about how the images were found.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check_arrays(images: Any, labels: Any, classes: Any = ()) -> ImageArrays:
    """Check arrays or tensors, and convert them to ``ImageArrays``.

    Args:
        images: (N, C, H, W), uint8 or float32.
        labels: (N,) integers; or (N, K) of 0 and 1 if images have several labels.
        classes: the names of the labels 0, 1 and so on.

    Raises:
        ValueError: an argument has another form.
    """
    pixels, targets = to_numpy(images, "images"), to_numpy(labels, "labels")
    if pixels.ndim != 4 or pixels.dtype not in (np.uint8, np.float32) or not pixels.size:
        raise ValueError(f"images must be (N, C, H, W) of uint8 or float32, not {_form(pixels)}")
    _, c, h, w = pixels.shape
    if c == h > 4 and w in (1, 3):
        raise ValueError(
            f"images must be (N, C, H, W), not {_form(pixels)}, which looks like (N, H, W, C)"
        )
    if pixels.dtype == np.float32:
        finite = np.array([np.isfinite(image).all() for image in pixels])
        if not finite.all():
            raise ValueError(f"image {int(finite.argmin())} must have finite pixels")
        if pixels.min() == pixels.max():
            raise ValueError("images must differ; every pixel is the same")
    if len(targets) != len(pixels):
        raise ValueError(f"labels (={len(targets)}) must be as many as images (={len(pixels)})")
    return ImageArrays(pixels, _check_labels(targets), _check_class_names(classes))


def _check_labels(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if labels.ndim == 1 and labels.dtype.kind in "iub":
        return labels.astype(np.int64)
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "iubf":
        raise ValueError(f"labels must be (N,) integers or (N, K) of 0 and 1, not {_form(labels)}")
    invalid = ~np.isin(labels, (0, 1)).all(axis=1)
    if invalid.any():
        raise ValueError(
            f"labels (N, K) must be 0 and 1; those of image {int(invalid.argmax())} aren't"
        )
    return labels.astype(bool)


def _check_class_names(classes: Any) -> tuple[str, ...]:
    is_list = isinstance(classes, (list, tuple)) or hasattr(classes, "tolist")
    names = tuple(classes) if is_list else ()
    if not is_list or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class names must be a list of strings, not {str(classes)[:50]}")
    if len(set(names)) < len(names):
        raise ValueError("class names must differ")
    return tuple(map(str, names))


def concatenate_splits(
    splits: Mapping[int, ImageArrays],
) -> tuple[ImageArrays, npt.NDArray[np.int8]]:
    """Concatenate the arrays of all splits, with one numbering of the classes.

    Args:
        splits: the arrays of each split, whose number is a constant of ``source``.

    Returns:
        The arrays, and the split (N,) of each image.

    Raises:
        ValueError: the splits don't fit each other, or a label is not the number of a class.
    """
    arrays = list(splits.values())
    for what in ("images", "labels"):
        forms = {(getattr(a, what).dtype, getattr(a, what).shape[1:]) for a in arrays}
        if len(forms) > 1:
            found = " and ".join(_form(getattr(a, what)) for a in arrays)
            raise ValueError(f"{what} must have one type and shape in all splits, not {found}")
    names = {a.classes for a in arrays if a.classes}
    if len(names) > 1:
        raise ValueError("class names must be the same in all splits")
    images = arrays[0].images if len(arrays) == 1 else np.concatenate([a.images for a in arrays])
    labels, classes = _number_classes(
        np.concatenate([a.labels for a in arrays]), names.pop() if names else ()
    )
    numbers = np.repeat(list(splits), [len(a.labels) for a in arrays]).astype(np.int8)
    notes = tuple(note for a in arrays for note in a.notes)
    return ImageArrays(images, labels, classes, notes), numbers


def _number_classes(
    labels: npt.NDArray[Any], classes: tuple[str, ...]
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """The labels as numbers of classes, and the classes: the given ones, or those found."""
    if labels.ndim == 2:
        k = labels.shape[1]
        if classes and len(classes) != k:
            raise ValueError(
                f"class names (={len(classes)}) must be {k}, one for each column of the labels"
            )
        return labels, classes or tuple(map(str, range(k)))
    if not classes:
        values, numbers = np.unique(labels, return_inverse=True)
        return numbers.astype(np.int64), tuple(map(str, values.tolist()))
    outside = (labels < 0) | (labels >= len(classes))
    if outside.any():
        bad = int(outside.argmax())
        raise ValueError(
            f"labels must be in 0..{len(classes) - 1}, the numbers of the classes; that of image "
            f"{bad} is {labels[bad]}"
        )
    return labels, classes


def to_numpy(values: Any, what: str) -> npt.NDArray[Any]:
    """Convert an array, a tensor or nested lists to a NumPy array.

    Args:
        values: the values to convert.
        what: the name of the values in messages.

    Raises:
        ValueError: the values are something else.
    """
    if isinstance(values, torch.Tensor):
        try:
            values = values.detach().cpu()
            values = values.float() if values.dtype == torch.bfloat16 else values
            return np.asarray(values.contiguous().numpy())
        except Exception as error:  # sparse, quantised and other tensors raise various exceptions
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"{what} must be a plain tensor: {reason}") from None
    if not isinstance(values, (np.ndarray, list, tuple)):
        raise ValueError(f"{what} must be an array or a tensor, not {type(values).__name__}")
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{what} must be an array; the list's items differ in shape") from None
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def _form(array: npt.NDArray[Any]) -> str:
    return f"{array.shape} of {array.dtype}"
