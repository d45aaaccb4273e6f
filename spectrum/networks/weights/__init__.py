"""Reads weights from other libraries and loads them into this package's networks."""

from spectrum.networks.weights.layouts import (
    LAYOUTS,
    Layout,
    Preprocessing,
    recognise,
)
from spectrum.networks.weights.load import (
    Weights,
    load_weights,
    preprocessing,
    read_weights,
    source_settings,
)
from spectrum.networks.weights.source import Source, read_tensors
from spectrum.networks.weights.translate import translate

__all__ = [
    "LAYOUTS",
    "Layout",
    "Preprocessing",
    "Source",
    "Weights",
    "load_weights",
    "preprocessing",
    "read_tensors",
    "read_weights",
    "recognise",
    "source_settings",
    "translate",
]
