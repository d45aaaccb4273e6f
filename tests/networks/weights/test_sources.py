"""Which sources of weights are read, and which are refused."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from spectrum.errors import FieldError
from spectrum.networks import inception_v3, resnet, vgg, xception
from spectrum.networks.weights import load_weights
from tests.networks.parts import norms, on_meta


def tiny(seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return xception(preset="tiny", num_classes=5, **options)


def same(first: nn.Module, second: nn.Module | Mapping[str, Tensor]) -> bool:
    state = second.state_dict() if isinstance(second, nn.Module) else second
    return all(torch.equal(tensor, state[name]) for name, tensor in first.state_dict().items())


def save_legacy(state: object, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": tensor for name, tensor in state.items()}


WRITERS: dict[str, Callable[[dict[str, Tensor], Path], object]] = {
    "state.safetensors": safetensors.torch.save_file,
    "state.pt": torch.save,
    "legacy.pth": save_legacy,
    "nested.bin": lambda state, path: torch.save({"model": state, "epoch": 3}, path),
    "checkpoint.tar": lambda state, path: torch.save(
        {"epoch": 3, "state_dict": prefixed(state), "optimizer": {"lr": 0.1}}, path
    ),
    "twice": lambda state, path: torch.save({"model": {"state_dict": state}}, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_file_is_read_whatever_its_name(name: str, tmp_path: Path) -> None:
    source, path = tiny(), tmp_path / name
    WRITERS[name](source.state_dict(), path)
    assert same(load_weights(tiny(1), path), source)
    renamed = path.rename(tmp_path / "weights")
    assert same(load_weights(tiny(1), str(renamed)), source)


@pytest.mark.parametrize("wrap", [dict, prefixed, lambda state: {"state_dict": state}])
def test_a_state_dict_is_taken_and_not_shared(wrap: Any) -> None:
    source = tiny()
    network = load_weights(tiny(1), wrap(dict(source.named_parameters()) | source.state_dict()))
    assert same(network, source)
    with torch.no_grad():
        network.classifier.weight.zero_()
    assert source.classifier.weight.any()


def test_a_network_on_the_meta_device_is_filled_in_its_own_precision() -> None:
    source = tiny()
    network = on_meta(tiny, 1)
    halves = {n: t.half() if t.is_floating_point() else t for n, t in source.state_dict().items()}
    load_weights(network, halves)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in network.parameters())
    assert same(network, {name: t.to(source.state_dict()[name]) for name, t in halves.items()})


@pytest.mark.parametrize(
    "make",
    [
        lambda: xception(3, preset="tiny", num_classes=5, hidden=(6,)),
        lambda: inception_v3(2, preset="tiny", num_classes=5),
        lambda: vgg(preset="small", width=0.1, batch_norm=True, num_classes=5),
        lambda: resnet(50, 3, width=0.1, num_classes=5),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
    ],
)
def test_a_networks_own_weights_are_taken_without_their_counts(make: Any) -> None:
    source, network = make(), make()
    before = [(norm.eps, norm.momentum) for norm in norms(network)]
    state = {n: t for n, t in source.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert same(load_weights(network, state), source)
    assert [(norm.eps, norm.momentum) for norm in norms(network)] == before


def refused(source: Any, network: nn.Module | None = None) -> str:
    """The one-line message of the refusal, which leaves the network unchanged."""
    network = tiny() if network is None else network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(FieldError, match=r"\Asource \(=[^\n]*\Z") as refusal:
        load_weights(network, source)
    assert same(network, before)
    return str(refusal.value)


def test_other_segments_and_missing_and_extra_tensors_are_named() -> None:
    state = tiny().state_dict()
    assert "middle.0.conv1.spatial.weight is" in refused(
        state, tiny(segments="entry=C+middle=1+exit=C")
    )
    assert "missing entry.0.conv2.spatial.convs.0.weight" in refused(state, tiny(segments=3))
    del state["classifier.bias"]
    assert "missing classifier.bias" in refused(state)
    state["classifier.bias"] = torch.zeros(5)
    state["classifier.scale"] = torch.zeros(5)
    assert "extra classifier.scale" in refused(state)
    everything = {f"a{i}.{name}": tensor for i in range(3) for name, tensor in state.items()}
    assert len(refused({**everything, **state})) < 300


class Evil:
    """Creates a file if unpickling runs its code."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("protocol", [0, 2, 4, "torch", "legacy"])
def test_a_pickle_that_wants_to_run_code_is_refused_and_not_run(
    protocol: Any, tmp_path: Path
) -> None:
    path, trace = tmp_path / "evil.pt", tmp_path / "trace"
    state = {**tiny().state_dict(), "evil": Evil(trace)}
    if protocol == "torch":
        torch.save(state, path)
    elif protocol == "legacy":
        save_legacy(state, path)
    else:
        path.write_bytes(pickle.dumps({"evil": Evil(trace)}, protocol=protocol))
    message = refused(path)
    assert not trace.exists()
    if protocol in (2, "torch", "legacy"):
        assert "asks for posix.system" in message
    elif protocol == 4:
        assert "is refused: its pickle" in message
    pickle.loads(pickle.dumps(Evil(trace)))
    assert trace.exists()  # an ordinary unpickling does run the code


def png() -> bytes:
    return b"\x89PNG\r\n\x1a\n" + bytes(200)


BAD_BYTES = {
    "text.pt": b"accuracy 0.7\n" * 40,
    "empty.safetensors": b"",
    "short.pt": b"PK",
    "picture.png": png(),
    "zeros": bytes(100),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_a_file_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(BAD_BYTES[name])
    assert "is no file of weights" in refused(path)


@pytest.mark.parametrize("name", ["state.safetensors", "state.pt", "legacy.pth"])
@pytest.mark.parametrize("part", [0.2, 0.99])
def test_a_truncated_file_is_refused(name: str, part: float, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](tiny().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert str(path) in refused(path)


def test_a_changed_byte_in_torchs_archive_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save(tiny().state_dict(), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "the sum of" in refused(path)


def test_an_archive_of_keras_says_what_to_save(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", b"")
    assert "save_weights" in refused(path)


def test_a_path_without_a_file_is_refused(tmp_path: Path) -> None:
    assert "must be an existing file" in refused(tmp_path / "none.pt")
    assert "can't be read: Is a directory" in refused(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    assert "can't be read: Not a directory" in refused(tmp_path / "file" / "none.pt")


NO_STATES: list[Any] = [{}, {"epoch": 3}, {"weight": [1.0]}, {3: torch.ones(2)}, {"model": {}}]


@pytest.mark.parametrize("state", NO_STATES, ids=str)
def test_a_mapping_that_is_no_state_dict_is_refused(state: Any, tmp_path: Path) -> None:
    assert "must hold" in refused(state)
    torch.save(state, tmp_path / "state.pt")
    assert "must hold" in refused(tmp_path / "state.pt")


@pytest.mark.parametrize("source", [None, 3, [torch.ones(2)], torch.ones(2), nn.Linear(2, 2)])
def test_anything_else_is_refused(source: Any) -> None:
    assert "must hold a state dict, which has names and tensors, or be a Keras" in refused(source)


def test_tensors_of_no_known_layout_are_refused_with_those_that_are() -> None:
    message = refused({"a.weight": torch.ones(2)})
    assert "tensors of no known layout (keras_xception, " in message
    assert message.endswith("network is of the class Xception")


def test_a_network_must_be_a_module() -> None:
    with pytest.raises(FieldError, match=r"\Anetwork \(='tiny'\) must be a torch module\Z"):
        load_weights("tiny", {})  # type: ignore[type-var]


def test_prefixes_of_wrappers_are_removed() -> None:
    state = nn.Linear(2, 3).state_dict()
    compiled = {f"_orig_mod.{name}": tensor for name, tensor in state.items()}
    parallel = {f"module.{name}": tensor for name, tensor in compiled.items()}
    for source in (compiled, parallel, {"model_state_dict": state, "epoch": 3}):
        filled = load_weights(nn.Linear(2, 3), source)
        assert torch.equal(filled.weight, state["weight"])


@pytest.mark.parametrize("odd", [torch.ones(3, 2, device="meta"), torch.ones(3, 2).to_sparse()])
def test_a_tensor_without_dense_values_is_named_and_nothing_is_loaded(odd: torch.Tensor) -> None:
    network = nn.Linear(2, 3)
    before = network.bias.clone()
    with pytest.raises(ValueError, match="must hold dense tensors of real numbers; not weight"):
        load_weights(network, {"weight": odd, "bias": torch.full((3,), 7.0)})
    assert torch.equal(network.bias, before)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_lazy_network_without_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match="lazy layers"):
        load_weights(nn.LazyLinear(3), nn.Linear(2, 3).state_dict())
