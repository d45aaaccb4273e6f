"""Loads a data set: chooses the reader of its source, and makes the three splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from numbers import Integral

from pydantic import ValidationError

from spectrum.data.assemble import assemble
from spectrum.data.code import read_callable
from spectrum.data.config import DataConfig
from spectrum.data.dataset import Dataset
from spectrum.data.digits import read_digits
from spectrum.data.folder import read_folder
from spectrum.data.idx import read_fashion_mnist, read_idx
from spectrum.data.planted import generate_planted, matched_filter, read_planted
from spectrum.data.records import read_hub, read_parquet
from spectrum.data.source import Source
from spectrum.errors import DamagedFile, FieldError, first_field_error

_READERS: dict[str, Callable[[DataConfig], Source | Dataset]] = {
    "digits": read_digits,
    "fashion_mnist": read_fashion_mnist,
    "planted": read_planted,
    "folder": read_folder,
    "parquet": read_parquet,
    "idx": read_idx,
    "hub": read_hub,
    "code": read_callable,
}
"""What reads each kind of source. A ValueError of theirs says what the data must be or have."""


def load_data(data: str | DataConfig = "digits", draw: int = 0) -> Dataset:
    """Load the images and labels of a data set, normalised and split.

    Args:
        data: a name, as ``DataConfig`` takes it, or a configuration.
        draw: with ``resplit``, the number of the draw of training and validation images, from 0.
            A run takes its seed. Without ``resplit`` it has no effect.

    Raises:
        ValueError: the name is unknown, images or labels don't exist or can't be read, or a split
            is too small for the number of classes.
        OSError: an image has changed since it was scanned, or a process that decodes images died.
    """
    try:
        config = data if isinstance(data, DataConfig) else DataConfig(name=data)
    except ValidationError as error:
        raise first_field_error(error).renamed("data") from None
    if not isinstance(draw, Integral) or isinstance(draw, bool) or draw < 0:
        raise FieldError("draw", draw, "must be a whole number from 0")
    try:
        source = _READERS[config.kind](config)
        dataset = assemble(source, config, draw) if isinstance(source, Source) else source
        _check_labels(dataset, config)
    except (FieldError, DamagedFile):
        raise
    except ValueError as error:
        raise FieldError("data", config.name, str(error)) from None
    return replace(dataset, name=config.name)


def _check_labels(dataset: Dataset, config: DataConfig) -> None:
    """Raise a ValueError if fields don't fit the number of labels, or a split has no labels."""
    for field in ("class_weights", "map_at"):
        value = getattr(config, field)
        if not dataset.is_multi_label and value != DataConfig.model_fields[field].default:
            allowed = f"must not be given for {config.name}, whose images have one label each"
            raise FieldError(field, value, allowed)
    for split in ("train", "validation", "test"):
        if dataset.is_multi_label and not getattr(dataset, split).labels.any():
            raise ValueError(f"must have images with labels in the {split} split")


def ceiling(data: DataConfig) -> float:
    """The accuracy on planted images of a matched filter, which knows their templates.

    Args:
        data: the configuration of planted images. All of them are classified, because nothing is
            fitted.

    Raises:
        ValueError: the data aren't planted.
    """
    if data.kind != "planted":
        raise FieldError("data", data.name, "must be planted, to have a known ceiling")
    images, labels = generate_planted(data)
    return float((matched_filter(images, data) == labels).mean())
