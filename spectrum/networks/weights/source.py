"""Reads the tensors of a source by their names in it. Code in a file is never run."""

from __future__ import annotations

import re
import stat
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeAlias

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from spectrum.errors import FieldError
from spectrum.files import as_path
from spectrum.networks.weights.keras import (
    MAX_REPEATED_BYTES,
    MAX_REPEATS,
    is_keras_model,
    read_hdf5,
    read_model,
)
from spectrum.networks.weights.nests import find_state

# A path, a state dict, or a Keras model, whose type doesn't exist if Keras isn't installed.
Source: TypeAlias = str | PathLike[str] | Mapping[str, Any] | Any


_FLAT = (Tensor, str, bytes)  # what can be looped over but isn't looked into


def describe(source: Source) -> str | Path:
    """The name of a source in messages; of a file, its path."""
    if isinstance(source, str | PathLike):
        try:
            return as_path(Path(source))
        except ValueError as error:
            raise FieldError("source", source, str(error)) from None
    if isinstance(source, Mapping):
        return "a state dict"
    if is_keras_model(source):
        return f"Keras model {source.name}"
    return type(source).__name__


def read_tensors(source: Source, network: nn.Module | None = None) -> dict[str, Tensor]:
    """Read the tensors of a source by their names in it; Keras's become ``layer/weight``.

    The type of a file is recognised by its content. A state dict may lie in a nest of mappings and
    its names may have the prefixes of wrappers; ``find_state`` says which one is taken.

    Args:
        source: the source, as in ``load_weights``.
        network: the network that the weights are for, if it is known.

    Raises:
        FieldError: the source holds no weights, is damaged or missing, or would have to run code.
    """
    label = describe(source)
    if is_keras_model(source):
        return read_model(source)
    content = _read_file(label) if isinstance(label, Path) else source
    return _checked(find_state(content, label, network), label)


def _read_file(path: Path) -> Any:
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise FieldError("source", path, "must be a regular file, not a pipe or a device")
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:] == b"{":  # the header of a safetensors file, after its length
            return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise FieldError("source", path, "must be an existing file") from None
    except OSError as error:
        raise FieldError("source", path, f"can't be read: {error.strerror}") from None
    except (SafetensorError, ValueError, KeyError, MemoryError) as error:
        if isinstance(error, FieldError):
            raise
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
            is_archive = zipfile.is_zipfile(path)
            if is_archive:
                _check_archive(path)
            # Mapped into memory, a tensor can't be larger than its file.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
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


def _check_archive(path: Path) -> None:
    """Raise a RuntimeError if an archive is damaged, or larger than its file when unpacked."""
    with zipfile.ZipFile(path) as archive:
        if "model.weights.h5" in archive.namelist():
            raise RuntimeError("Keras's save_weights writes what can be read here")
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise RuntimeError("it is compressed, and torch.save doesn't compress")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise RuntimeError("its parts are larger than the file")
        damaged = archive.testzip()  # torch doesn't check the checksums
    if damaged is not None:
        raise RuntimeError(f"the sum of {damaged} is wrong")
    # On the meta device torch reads what the storages claim to be, and none of them.
    claimed = torch.load(path, map_location="meta", weights_only=True)
    if _storage_sizes(claimed) - Counter(member.file_size for member in members):
        raise RuntimeError("a storage claims another size than it has")


def _storage_sizes(content: Any) -> Counter[int]:
    """How many different storages of each size, in bytes, the tensors of a nest have."""
    found = {id(content): content}
    storages = {}
    queue = [content]
    for value in queue:
        if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_nested:
            storage = value.untyped_storage()
            storages[storage._cdata] = storage
        inner = value.values() if isinstance(value, Mapping) else value
        for item in inner if isinstance(inner, Iterable) and not isinstance(inner, _FLAT) else ():
            if id(item) not in found:
                found[id(item)] = item
                queue.append(item)
    return Counter(storage.nbytes() for storage in storages.values())


def _checked(state: Mapping[str, Tensor], label: str | Path) -> dict[str, Tensor]:
    """The tensors, detached, if each has plain numbers in memory."""
    storages: set[int] = set()
    stored = total = 0
    for name, tensor in state.items():
        if not _is_dense(tensor):
            raise FieldError(
                "source", label, f"must hold dense tensors of real numbers; not {name[:100]}"
            )
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in storages:
            storages.add(storage.data_ptr())
            stored += storage.nbytes()
        total += tensor.numel() * tensor.itemsize
        if total > MAX_REPEATS * stored + MAX_REPEATED_BYTES:
            raise FieldError(
                "source",
                label,
                f"must hold tensors whose values are all in memory; {name[:100]} repeats a few of "
                f"them to the shape {tuple(tensor.shape)}",
            )
    return {name: tensor.detach().resolve_neg() for name, tensor in state.items()}


def _is_dense(tensor: Tensor) -> bool:
    return not (
        is_lazy(tensor)
        or is_traceable_wrapper_subclass(tensor)
        or tensor.is_nested
        or tensor.layout is not torch.strided
        or tensor.is_meta
        or tensor.is_quantized
        or tensor.is_complex()
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
