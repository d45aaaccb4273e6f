"""Files that lie about their size or lead elsewhere are refused in one line that names them."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spectrum.networks import load_weights

h5py = pytest.importorskip("h5py")

HUGE = (1 << 20, 1 << 21)  # 2^41 numbers
pytestmark = pytest.mark.filterwarnings("ignore:.*(prototype|beta|Sparse CSR|deprecated)")


def refused(source: Any) -> str:
    network = nn.Linear(2, 3)
    before = network.weight.clone()
    with pytest.raises(ValueError, match=r"\Asource \(=[^\n\x1b]*\Z") as refusal:
        load_weights(network, source)
    assert torch.equal(network.weight, before)
    assert len(str(refusal.value)) < 700
    return str(refusal.value)


def weights(weight: Tensor) -> dict[str, Tensor]:
    return {"weight": weight, "bias": torch.zeros(3)}


TENSORS: dict[str, Callable[[], Tensor]] = {
    "expanded": lambda: torch.ones(1).expand(HUGE),
    "expanded rows": lambda: torch.ones(1, 1 << 10).expand(1 << 30, -1),
    "strided": lambda: torch.ones(9).as_strided(HUGE, (0, 0), 3),
    "complex": lambda: torch.ones(3, 2, dtype=torch.complex64),
    "conjugated": lambda: torch.ones(3, 2, dtype=torch.complex64).conj(),
    "sparse": lambda: torch.ones(3, 2).to_sparse(),
    "huge sparse": lambda: torch.sparse_coo_tensor(
        torch.zeros(2, 1), torch.ones(1), HUGE, check_invariants=True
    ),
    "sparse rows": lambda: torch.ones(3, 2).to_sparse_csr(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3, 2), 0.1, 0, torch.qint8),
    "meta": lambda: torch.ones(3, 2, device="meta"),
    "huge meta": lambda: torch.ones(HUGE, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "jagged": lambda: torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged),
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("zipped", [None, True, False])
def test_tensors_without_their_own_numbers(kind: str, zipped: Any, tmp_path: Path) -> None:
    state = weights(TENSORS[kind]())
    if zipped is None:
        assert "not weight" in refused(state) or "weight repeats" in refused(state)
        return
    path = tmp_path / "state.pt"
    try:
        torch.save(state, path, _use_new_zipfile_serialization=zipped)
    except (RuntimeError, NotImplementedError):
        pytest.skip("torch can't save it")
    assert str(path) in refused(path)


def test_negated_and_shared_numbers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save({"weight": torch._neg_view(torch.ones(3, 2)), "bias": torch.ones(1).expand(3)}, path)
    network = load_weights(nn.Linear(2, 3), path)
    assert network.weight.tolist() == [[-1, -1]] * 3
    assert network.bias.tolist() == [1] * 3


def test_many_names_of_one_large_tensor(tmp_path: Path) -> None:
    large = torch.ones(1 << 20)
    state = {f"a{i}": large for i in range(1000)}
    torch.save(state, tmp_path / "state.pt")
    assert "repeats" in refused(tmp_path / "state.pt")


def rewrite(source: Path, target: Path, change: Callable[[bytes], bytes], **options: Any) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name.endswith("data.pkl") else content)


def pickled(number: int) -> bytes:
    size = number.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + number.to_bytes(size, "little", signed=True)


@pytest.mark.parametrize("number", [1 << 41, 1 << 62, 1 << 16, 7, 5, 0, -1])
@pytest.mark.parametrize("what", ["storage", "shape"])
def test_numbers_that_an_archive_claims_but_does_not_hold(
    number: int, what: str, tmp_path: Path
) -> None:
    path = tmp_path / "state.pt"
    torch.save(weights(torch.ones(3, 2)), tmp_path / "true.pt")
    # The first storage has 6 numbers, and its tensor the shape (3, 2).
    old, new = {
        "storage": (b"X\x03\x00\x00\x00cpuq\x06K\x06", b"X\x03\x00\x00\x00cpuq\x06"),
        "shape": (b"K\x03K\x02\x86", b"K\x02"),
    }[what]
    end = pickled(number) + (b"\x86" if what == "shape" else b"")

    def change(content: bytes) -> bytes:
        assert content.count(old) == 1
        return content.replace(old, new + end)

    rewrite(tmp_path / "true.pt", path, change)
    assert str(path) in refused(path)


@pytest.mark.parametrize("name", ["state.pt", "model.keras"])
def test_archives_that_grow_when_unpacked(name: str, tmp_path: Path) -> None:
    torch.save(weights(torch.zeros(1 << 10, 1 << 10)), tmp_path / "true.pt")
    path = tmp_path / name
    options = {"compression": zipfile.ZIP_DEFLATED}
    rewrite(tmp_path / "true.pt", path, lambda content: content, **options)
    if name.endswith("keras"):
        with zipfile.ZipFile(path, "a", **options) as archive:
            archive.writestr("model.weights.h5", bytes(1 << 20))
    assert str(path) in refused(path)


def deep_pickle(content: bytes) -> bytes:
    return b"\x80\x02" + b"}X\x05\x00\x00\x00model" * 20_000 + b"}" + b"s" * 20_000 + b"."


def test_nests_in_files(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["a"] = [loop, {"model": loop}]
    torch.save(loop, tmp_path / "loop.pt")
    rewrite(tmp_path / "loop.pt", tmp_path / "deep.pt", deep_pickle)
    for name in ("loop.pt", "deep.pt"):
        assert name in refused(tmp_path / name)


def safetensors(path: Path, header: Any, content: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def entry(shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


HEADERS: dict[str, Any] = {
    "huge": {"weight": entry([1 << 41], 0, 1 << 43)},
    "overflow": {"weight": entry([1 << 32, 1 << 32], 0, 0)},
    "empty": {"weight": entry([0, 1 << 62], 0, 0)},
    "overlapping": {"weight": entry([3, 2], 0, 24), "bias": entry([3], 0, 12)},
    "backwards": {"weight": entry([3, 2], 24, 0)},
    "negative": {"weight": entry([-3, -2], 0, 24)},
    "deep": b"{" + b'"a":{' * 10_000 + b"}" * 10_001,
    "name": {"a\x1b[31m\n" * 1000: entry([6], 0, 24)},
    "list": b"{[" + b"[" * 10_000,
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_safetensors(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    safetensors(path, HEADERS[kind], bytes(24))
    assert str(path) in refused(path)


@pytest.mark.parametrize("length", [1 << 62, 1 << 40, 90_000_000])
def test_headers_longer_than_their_file(length: int, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    assert str(path) in refused(path)


STARTS = [b"", b"\x80\x02", b"\x80\x04\x8d" + b"\xff" * 8, b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"]


@pytest.mark.parametrize("start", [*STARTS, struct.pack("<Q", 100) + b"{"])
def test_large_files_with_holes(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state"
    with path.open("wb") as file:
        file.write(start)
        file.truncate(1 << 40)
    assert str(path) in refused(path)


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("what", ["pipe", "/dev/zero", "/dev/null", "~nobody-of-this-name/a"])
def test_what_is_no_regular_file(what: str, link: bool, tmp_path: Path) -> None:
    path = Path(what)
    if what == "pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)
    if link:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    assert "must" in refused(path)


def older(file: Any, kernel: Callable[[Any], object]) -> None:
    """Writes a file as Keras 2 did, with a kernel as given and a bias."""
    file.attrs["layer_names"] = ["dense"]
    layer = file.create_group("dense")
    layer.attrs["weight_names"] = ["dense/kernel:0", "dense/bias:0"]
    layer["dense/bias:0"] = np.ones(3)
    kernel(layer)


def newer(file: Any, kernel: Callable[[Any], object]) -> None:
    """Writes a file as Keras 3 does."""
    layer = file.create_group("layers/dense/vars")
    layer["1"] = np.ones(3)
    kernel(layer)


KERNEL = {older: "dense/kernel:0", newer: "0"}
ARRAYS: dict[str, Callable[[Any, str, Path], object]] = {
    "huge": lambda g, name, _: g.create_dataset(name, shape=HUGE, chunks=(1, 100)),
    "overflow": lambda g, name, _: g.create_dataset(name, shape=(1 << 32,) * 2, chunks=(1, 100)),
    "compressed": lambda g, name, _: g.create_dataset(
        name, data=np.zeros((1 << 12, 1 << 13), "f4"), compression="gzip", chunks=(1 << 10, 1 << 13)
    ),
    "elsewhere": lambda g, name, path: g.create_dataset(
        name, shape=(2, 3), dtype="f4", external=[(str(path), 0, 24)]
    ),
    "virtual": lambda g, name, _: g.create_virtual_dataset(
        name, h5py.VirtualLayout(shape=(2, 3), dtype="f4")
    ),
    "link": lambda g, name, path: g.__setitem__(name, h5py.ExternalLink(str(path), "/x")),
    "soft link": lambda g, name, _: g.__setitem__(name, h5py.SoftLink("/nowhere")),
    "group": lambda g, name, _: g.create_group(name),
    "itself": lambda g, name, _: g.__setitem__(name, g),
    "text": lambda g, name, _: g.create_dataset(name, data=["x"]),
    "records": lambda g, name, _: g.create_dataset(name, data=np.zeros(2, "f4,i4")),
    "nothing": lambda g, name, _: g.create_dataset(name, data=h5py.Empty("f4")),
}


@pytest.mark.parametrize("write", [older, newer])
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_hdf5(kind: str, write: Any, tmp_path: Path) -> None:
    path, pipe = tmp_path / "state.h5", tmp_path / "pipe"
    os.mkfifo(pipe)
    with h5py.File(path, "w") as file:
        write(file, lambda group: ARRAYS[kind](group, KERNEL[write], pipe))
    message = refused(path)
    assert str(path) in message
    assert "tensors of no known layout" not in message


def test_groups_of_hdf5(tmp_path: Path) -> None:
    path, pipe = tmp_path / "state.h5", tmp_path / "pipe"
    os.mkfifo(pipe)

    def deep(file: Any) -> None:
        for _ in range(3000):
            file = file.create_group("a")

    def linked(file: Any) -> None:
        file.attrs["layer_names"] = ["dense"]
        file["dense"] = file["model_weights"] = h5py.ExternalLink(str(pipe), "/x")

    def looped(file: Any) -> None:
        group = file.create_group("layers")
        group["a"] = group["b"] = file["c"] = group

    def odd(file: Any) -> None:
        file["model_weights"] = np.ones(3)
        file.attrs["layer_names"] = 3

    def far(file: Any) -> None:
        file["layers/dense/vars/999999999"] = np.ones(3)

    for write in (deep, linked, looped, odd, far):
        path.unlink(missing_ok=True)
        with h5py.File(path, "w") as file:
            write(file)
        assert str(path) in refused(path)
