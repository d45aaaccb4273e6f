"""Loads a data set: chooses the reader of its source, and makes the three splits."""

from __future__ import annotations

from pydantic import ValidationError

from spectrum.data.config import USER_KINDS, DataConfig
from spectrum.data.dataset import Dataset, dataset_from_arrays
from spectrum.data.digits import read_digits
from spectrum.data.planted import generate_planted, matched_filter
from spectrum.data.planted_config import NUM_CLASSES

__all__ = ["ceiling", "load_data"]


def load_data(data: str | DataConfig = "digits") -> Dataset:
    """Load the images and labels of a data set, normalised and split.

    Args:
        data: a name, as ``DataConfig`` takes it, or a configuration.

    Raises:
        ValueError: the name is unknown, images or labels don't exist or can't be read, or a split
            is too small for the number of classes.
        OSError: an image has changed since it was scanned.
    """
    try:
        config = data if isinstance(data, DataConfig) else DataConfig(name=data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"data (={data!r}) {reason}") from None
    if config.kind in USER_KINDS:
        return _load_user_data(config)
    if config.kind == "planted":
        images, labels = generate_planted(config.planted_config())
        classes = tuple(map(str, range(NUM_CLASSES)))
    else:
        images, labels, classes = read_digits()
    return dataset_from_arrays(
        images,
        labels,
        classes,
        validation=config.validation,
        test=config.test,
        seed=config.split_seed,
        train_images=config.train_images,
        label_noise=config.label_noise,
    )


def _load_user_data(config: DataConfig) -> Dataset:
    dataset = _read_user_data(config)
    for field in ("class_weights", "map_at"):
        value = getattr(config, field)
        if not dataset.is_multi_label and value != DataConfig.model_fields[field].default:
            raise ValueError(
                f"{field} (={value}) must not be given for {config.name}, whose images have one "
                "label each"
            )
    for split in ("train", "validation", "test"):
        labels = getattr(dataset, split).labels
        if dataset.is_multi_label and not labels.any():
            raise ValueError(f"data (={config.name}): no image of the {split} split has a label")
    return dataset


def _read_user_data(config: DataConfig) -> Dataset:
    # Each reader is imported when it is needed, because its libraries take long to import.
    rest = config.name.partition(":")[2]
    if config.kind == "code":
        from spectrum.data.code import read_callable

        return read_callable(config.name, config)
    from spectrum.data.assemble import assemble

    if config.kind == "folder":
        from spectrum.data.folder import read_folder

        return assemble(read_folder(rest, config), config)
    from spectrum.data.records import read_hub, read_parquet

    read = read_hub if config.kind == "hub" else read_parquet
    return assemble(read(rest, config), config)


def ceiling(data: DataConfig) -> float:
    """The accuracy on planted images of a matched filter, which knows their templates.

    Args:
        data: the configuration of planted images. All of them are classified, because nothing is
            fitted.

    Raises:
        ValueError: the data aren't planted.
    """
    if data.name != "planted":
        raise ValueError(f"data (={data.name}) must be planted, to have a known ceiling")
    config = data.planted_config()
    images, labels = generate_planted(config)
    return float((matched_filter(images, config) == labels).mean())
