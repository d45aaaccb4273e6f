"""Reads the tensors of a source by their names in it. Code in a file is never run."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeAlias

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from spectrum.errors import FieldError
from spectrum.networks.weights.keras import is_keras_model, read_hdf5, read_model

# A path, a state dict, or a Keras model, whose type doesn't exist if Keras isn't installed.
Source: TypeAlias = str | PathLike[str] | Mapping[str, Any] | Any

_NESTED_KEYS = ("state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile


def describe(source: Source) -> str | Path:
    """The name of a source in messages; of a file, its path."""
    if isinstance(source, str | PathLike):
        return Path(source)
    if isinstance(source, Mapping):
        return "a state dict"
    if is_keras_model(source):
        return f"Keras model {source.name}"
    return type(source).__name__


def read_tensors(source: Source) -> dict[str, Tensor]:
    """Read the tensors of a source by their names in it; Keras's become ``layer/weight``.

    The type of a file is recognised by its content. A state dict may be nested under
    ``"state_dict"``, ``"model"`` or ``"model_state_dict"``, and its names may have the prefix of
    ``DataParallel`` or ``torch.compile``.

    Raises:
        FieldError: the source holds no weights, is damaged or missing, or would have to run code.
    """
    label = describe(source)
    if isinstance(label, Path):
        return _unwrap(_read_file(label), label)
    return read_model(source) if is_keras_model(source) else _unwrap(source, label)


def _read_file(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:] == b"{":  # the header of a safetensors file, after its length
            return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise FieldError("source", path, "must be an existing file") from None
    except OSError as error:
        raise FieldError("source", path, f"can't be read: {error.strerror}") from None
    except SafetensorError as error:
        raise FieldError(
            "source", path, f"is a damaged safetensors file: {_first_line(error)}"
        ) from None
    if start.startswith(b"\x89HDF"):
        return read_hdf5(path)
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return _read_torch(path)
    raise FieldError(
        "source", path, "is no file of weights: safetensors, torch.save's or Keras's .h5"
    )


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    if "model.weights.h5" in archive.namelist():
                        raise RuntimeError("Keras's save_weights writes what can be read here")
                    damaged = archive.testzip()  # torch doesn't check the checksums
                if damaged is not None:
                    raise RuntimeError(f"the sum of {damaged} is wrong")
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        match = re.search(r"GLOBAL (\S+)", str(error))
        found = f"asks for {match[1]}" if match else "isn't torch.save's"
        raise FieldError(
            "source", path, f"is refused: its pickle {found}, and only tensors are read from one"
        ) from None
    except Exception as error:  # on arbitrary bytes torch may raise any exception
        raise FieldError(
            "source", path, f"is no file of weights that torch reads: {_first_line(error)}"
        ) from None


def _unwrap(state: Any, label: str | Path) -> dict[str, Tensor]:
    """The tensors of a state dict that may be nested and whose names may have a prefix."""
    while isinstance(state, Mapping):
        key = next((k for k in _NESTED_KEYS if isinstance(state.get(k), Mapping)), None)
        if key is None:
            break
        state = state[key]
    if not isinstance(state, Mapping) or not state:
        raise FieldError(
            "source",
            label,
            "must hold a state dict, which has names and tensors, or be a Keras model",
        )
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise FieldError(
                "source",
                label,
                f"must hold only names and tensors; {name} is of type {type(value).__name__}",
            )
        if value.is_meta or value.layout is not torch.strided:
            raise FieldError("source", label, f"must hold dense tensors with values; not {name}")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return {name: tensor.detach() for name, tensor in state.items()}


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
