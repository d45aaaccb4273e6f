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

from spectrum.networks.weights.keras import is_keras_model, read_hdf5, read_model

__all__ = ["Source", "describe", "read_tensors"]

# A path, a state dict, or a Keras model, whose type doesn't exist if Keras isn't installed.
Source: TypeAlias = str | PathLike[str] | Mapping[str, Any] | Any

_NESTED_KEYS = ("state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile


def describe(source: Source) -> str:
    """The name of a source in messages."""
    if isinstance(source, str | PathLike):
        return str(source)
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
        ValueError: the source holds no weights, is damaged or missing, or would have to run code.
    """
    if isinstance(source, str | PathLike):
        return _read_file(Path(source))
    if is_keras_model(source):
        return read_model(source)
    if not isinstance(source, Mapping):
        raise ValueError(
            f"source (={describe(source)}) must be a path, a state dict or a Keras model"
        )
    return _unwrap(source, describe(source))


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except FileNotFoundError:
        raise ValueError(f"source (={path}) must be an existing file") from None
    except OSError as error:
        raise ValueError(f"source (={path}) can't be read: {error.strerror}") from None
    if start.startswith(b"\x89HDF"):
        return read_hdf5(path)
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return _unwrap(_read_torch(path), str(path))
    if start[8:] == b"{":  # the header, after its length
        return _read_safetensors(path)
    raise ValueError(
        f"source (={path}) is no file of weights: safetensors, torch.save's or Keras's .h5"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return _unwrap(safetensors.torch.load_file(path), str(path))
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"source (={path}) is a damaged safetensors file: {_first_line(error)}"
        ) from None


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
        reason = f"asks for {match[1]}" if match else "isn't torch.save's"
        raise ValueError(
            f"source (={path}) is refused: its pickle {reason}, and only tensors are read from one"
        ) from None
    except Exception as error:  # on arbitrary bytes torch may raise any exception
        raise ValueError(
            f"source (={path}) is no file of weights that torch reads: {_first_line(error)}"
        ) from None


def _unwrap(state: Any, label: str) -> dict[str, Tensor]:
    while isinstance(state, Mapping):
        key = next((k for k in _NESTED_KEYS if isinstance(state.get(k), Mapping)), None)
        if key is None:
            break
        state = state[key]
    if not isinstance(state, Mapping) or not state:
        raise ValueError(f"source (={label}) must hold a state dict: names and tensors")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            kind = type(value).__name__
            raise ValueError(
                f"source (={label}) must hold only names and tensors; {name} is of type {kind}"
            )
        if value.is_meta or value.layout is not torch.strided:
            raise ValueError(f"source (={label}) must hold dense tensors with values; not {name}")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return {name: tensor.detach() for name, tensor in state.items()}


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
