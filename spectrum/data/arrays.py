"""A user's arrays of images and labels, checked and brought to the form that splits have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Arrays", "joined", "read_arrays", "to_numpy"]


@dataclass(frozen=True)
class Arrays:
    """Images and labels in memory.

    Attributes:
        images: (N, C, H, W), uint8 or float32.
        labels: (N,) int64, as the user has them or numbers of the classes; (N, K) bool.
        classes: the names of the labels; empty where they have none.
        notes: what a user should know of how they were found.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_arrays(images: Any, labels: Any, classes: Any = ()) -> Arrays:
    """Arrays or tensors as ``Arrays``.

    Args:
        images: (N, C, H, W), uint8 or float32.
        labels: (N,) integers; or (N, K) of 0 and 1, where images have several labels.
        classes: the names of the labels 0, 1 and so on.

    Raises:
        ValueError: they are something else.
    """
    pixels, targets = to_numpy(images, "images"), to_numpy(labels, "labels")
    if pixels.ndim != 4 or pixels.dtype not in (np.uint8, np.float32) or not pixels.size:
        raise ValueError(f"images must be (N, C, H, W) of uint8 or float32, are {_form(pixels)}")
    _, c, h, w = pixels.shape
    if c == h > 4 and w in (1, 3):
        raise ValueError(f"images must be (N, C, H, W), {_form(pixels)} looks like (N, H, W, C)")
    if pixels.dtype == np.float32:
        finite = np.array([np.isfinite(image).all() for image in pixels])
        if not finite.all():
            raise ValueError(f"image {int(finite.argmin())} must have finite pixels")
        if pixels.min() == pixels.max():
            raise ValueError("images must differ, every pixel is the same")
    if len(targets) != len(pixels):
        raise ValueError(f"labels must be as many as images, {len(targets)} are not {len(pixels)}")
    return Arrays(pixels, _targets(targets), _names(classes))


def _targets(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if labels.ndim == 1 and labels.dtype.kind in "iub":
        return labels.astype(np.int64)
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "iubf":
        raise ValueError(f"labels must be (N,) integers or (N, K) of 0 and 1, are {_form(labels)}")
    odd = ~np.isin(labels, (0, 1)).all(axis=1)
    if odd.any():
        raise ValueError(
            f"labels (N, K) must be 0 and 1, those of image {int(odd.argmax())} aren't"
        )
    return labels.astype(bool)


def _names(classes: Any) -> tuple[str, ...]:
    is_list = isinstance(classes, (list, tuple)) or hasattr(classes, "tolist")
    names = tuple(classes) if is_list else ()
    if not is_list or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class names must be a list of text, not {str(classes)[:50]}")
    if len(set(names)) < len(names):
        raise ValueError("class names must differ")
    return tuple(map(str, names))


def joined(parts: Mapping[int, Arrays]) -> tuple[Arrays, npt.NDArray[np.int8]]:
    """The arrays of all splits as one, with classes numbered alike and named.

    Args:
        parts: by split, as ``Source`` numbers them.

    Returns:
        The arrays, and the split (N,) that each image is of.

    Raises:
        ValueError: they don't fit each other, or labels are none of the classes.
    """
    every = list(parts.values())
    for what in ("images", "labels"):
        forms = {(getattr(p, what).dtype, getattr(p, what).shape[1:]) for p in every}
        if len(forms) > 1:
            kinds = " and ".join(_form(getattr(p, what)) for p in every)
            raise ValueError(f"{what} must be alike in all splits, are {kinds}")
    names = {p.classes for p in every if p.classes}
    if len(names) > 1:
        raise ValueError("class names must be alike in all splits")
    images = every[0].images if len(every) == 1 else np.concatenate([p.images for p in every])
    labels, classes = _numbered(
        np.concatenate([p.labels for p in every]), names.pop() if names else ()
    )
    splits = np.repeat(list(parts), [len(p.labels) for p in every]).astype(np.int8)
    return Arrays(images, labels, classes, tuple(n for p in every for n in p.notes)), splits


def _numbered(
    labels: npt.NDArray[Any], classes: tuple[str, ...]
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    if labels.ndim == 2:
        k = labels.shape[1]
        if classes and len(classes) != k:
            raise ValueError(f"class names must be {k}, one for each column, are {len(classes)}")
        return labels, classes or tuple(map(str, range(k)))
    if not classes:
        found, ids = np.unique(labels, return_inverse=True)
        return ids.astype(np.int64), tuple(map(str, found.tolist()))
    outside = (labels < 0) | (labels >= len(classes))
    if outside.any():
        bad = int(outside.argmax())
        raise ValueError(
            f"labels must be in 0..{len(classes) - 1}, the classes' numbers; that of image {bad} "
            f"is {labels[bad]}"
        )
    return labels, classes


def to_numpy(values: Any, what: str) -> npt.NDArray[Any]:
    """An array or a tensor as an array.

    Raises:
        ValueError: it is neither, nor a list that makes one.
    """
    if isinstance(values, torch.Tensor):
        try:
            values = values.detach().cpu()
            values = values.float() if values.dtype == torch.bfloat16 else values
            return np.asarray(values.contiguous().numpy())
        except Exception as error:  # tensors of other kinds raise all kinds
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"{what} must be a plain tensor: {reason}") from None
    if not isinstance(values, (np.ndarray, list, tuple)):
        raise ValueError(f"{what} must be an array or a tensor, not {type(values).__name__}")
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{what} must be an array, the list's items differ in shape") from None
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def _form(array: npt.NDArray[Any]) -> str:
    return f"{array.shape} of {array.dtype}"
