"""The configuration of a run, and the id that names it in the store.

A study or search turns each of its points and seeds into a ``RunConfig``. ``RunConfig.id`` hashes
everything that the result of the run depends on:

- the network, its segments as they were written and its width as it was solved, and a fingerprint
  of the code of a user's own model;
- the data's settings and a fingerprint of their content;
- the recipe, the seed and the precision;
- a fingerprint of the initial weights, if training starts from given ones;
- the number of processes that share a batch, if it changes the result;
- the networks that share their weights, if the run trains a ``Supernet``;
- ``FORMAT``.

The name of the study, the device, the threads, the number of workers and the way in which a layer
is executed have no part in it. So studies and searches that ask for the same run share its result.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Self

from pydantic import ConfigDict, NonNegativeInt, PositiveInt, model_validator

from spectrum.data.config import DataConfig
from spectrum.errors import FieldError
from spectrum.fields import Config, field_facts
from spectrum.networks.config import NetworkConfig
from spectrum.runs.shared_training import SharedTraining
from spectrum.training.recipe import Precision, Recipe

FORMAT = 2
"""A part of every id. Raise it if the default of a field changes, or if the same fields give other
results for another reason than rounding."""


class RunConfig(Config):
    """One network, data set, recipe and seed: everything that the result depends on.

    Attributes:
        network: the network, with its width solved and the data's classes and channels.
        data: the data source and how it is split.
        fingerprint: a hash of the content of the data.
        recipe: how the network is trained.
        seed: the seed of the initial weights, the order of the data, augmentation and dropout.
        precision: the precision of the forward pass.
        code: a fingerprint of the source files of a user's own model; "" for other networks.
        start: a fingerprint of the weights that training starts from; "" for random ones.
        processes: the number of processes that share each batch if each normalises its own part
            of it, since the number then changes the result; otherwise 1.
        shared: the networks that share their weights, if the run trains a ``Supernet`` of
            ``network``, whose own segments aren't used then; otherwise None.
    """

    # Parts may be unvalidated copies, so they are validated again before their hash names a run.
    model_config = ConfigDict(revalidate_instances="always")

    network: NetworkConfig
    data: DataConfig
    fingerprint: str
    recipe: Recipe
    seed: NonNegativeInt
    precision: Precision = "float32"
    code: str = ""
    start: str = ""
    processes: PositiveInt = 1
    shared: SharedTraining | None = None

    @model_validator(mode="after")
    def _check_shared(self) -> Self:
        if self.shared is not None and self.start:
            raise FieldError("start", self.start, "must not be given to train a Supernet")
        return self

    def stored(self) -> dict[str, Any]:
        """The configuration as plain values, with ``FORMAT``, as ``config.json`` holds it."""
        return {"format": FORMAT, **self.model_dump(mode="json")}

    @property
    def id(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of what identifies the run.

        Fields at their default are left out, so a field that is added later changes no id.
        """
        unnamed = {
            field
            for field in DataConfig.model_fields
            if not field_facts(DataConfig, field).names_run
        }
        fields = self.model_dump(mode="json", exclude_defaults=True, exclude={"data": unnamed})
        fields["data"]["name"] = self.data.name_in_id
        text = json.dumps({"format": FORMAT, **fields}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
