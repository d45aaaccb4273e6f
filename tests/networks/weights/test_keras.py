"""Keras's own networks, on its PyTorch backend, against what is loaded from them."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from keras.src.legacy.saving import legacy_h5_format
from torch import Tensor, nn

from spectrum.errors import FieldError
from spectrum.networks import inception_v3, xception
from spectrum.networks.blocks import Pool
from spectrum.networks.weights import load_weights, preprocessing, read_weights, source_settings
from tests.networks.parts import norms, on_meta

# Keras 3.15 turns tensors into arrays as NumPy 2.4 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

FORMATS = ("some.weights.h5", "nameless.weights.h5", "whole.h5", "older.h5", "parted.h5")


@dataclass
class Peer:
    make: Callable[..., nn.Module]
    keras: Callable[..., Any]
    model: Any
    files: dict[str, Path]

    def sized(self, side: int) -> Any:
        """A model for images of another size with the same weights."""
        model = self.keras(
            weights=None, classifier_activation=None, input_shape=(side, side, 3), classes=9
        )
        model.set_weights(self.model.get_weights())
        return model


def randomise(model: Any) -> None:
    """Draw every weight and statistic, so that signals neither die nor explode."""
    rng = np.random.default_rng(0)
    for weight in (weight for layer in model.layers for weight in layer.weights):
        if weight.name in ("gamma", "moving_variance"):
            values = rng.uniform(0.5, 1.5, weight.shape)
        elif len(weight.shape) == 1:
            values = rng.uniform(-0.3, 0.3, weight.shape)
        elif weight.name == "depthwise_kernel":
            values = rng.normal(size=weight.shape) / 3
        else:
            values = rng.normal(size=weight.shape) * np.sqrt(2 / np.prod(weight.shape[:-1]))
        weight.assign(values.astype("float32"))


@pytest.fixture(scope="module", params=["Xception", "InceptionV3"])
def peer(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    make = {"Xception": xception, "InceptionV3": inception_v3}[request.param]
    build = getattr(keras.applications, request.param)
    build(weights=None)  # so that the layers of the next one have other numbers
    model = build(weights=None, classifier_activation=None, classes=9)
    assert "conv2d" not in {layer.name for layer in model.layers}
    randomise(model)
    files = {kind: tmp_path_factory.mktemp("keras") / kind for kind in FORMATS}
    model.save_weights(files["some.weights.h5"])
    model.save_weights(files["nameless.weights.h5"])
    with h5py.File(files["nameless.weights.h5"], "a") as file:
        for layer in file["layers"].values():  # as Keras before 3.6 wrote files
            layer["vars"].attrs.clear()
    model.save(files["whole.h5"], include_optimizer=False)
    with h5py.File(files["older.h5"], "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    files["parted.h5"].write_bytes(files["older.h5"].read_bytes())
    with h5py.File(files["parted.h5"], "a") as file:
        names = file.attrs["layer_names"]  # as Keras splits long lists
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:70], names[70:]
        del file.attrs["layer_names"]
    yield Peer(make, build, model, files)
    keras.backend.clear_session()


def images(side: int) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(side))


def logits(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(x)  # type: ignore[no-any-return]


def difference(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("side", [299, 160])
def test_logits_are_those_of_keras(peer: Peer, side: int) -> None:
    model = peer.model if side == 299 else peer.sized(side)
    x = images(side)
    with torch.no_grad():
        theirs = model(x.permute(0, 2, 3, 1), training=False).detach()
    assert theirs.shape == (1, 9)
    network = load_weights(peer.make(num_classes=9), peer.model)
    assert difference(logits(network, x), theirs) < 1e-4
    # The other way of pooling gives other logits.
    for part in network.modules():
        if isinstance(part, Pool):
            part.pooling = "symmetric"
    assert difference(logits(network, x), theirs) > 1e-3


def test_every_format_gives_what_the_live_model_gives(peer: Peer) -> None:
    live = load_weights(on_meta(peer.make, num_classes=9), peer.model).state_dict()
    for kind in FORMATS:
        network = on_meta(peer.make, num_classes=9)
        assert load_weights(network, peer.files[kind]) is network
        state = network.state_dict()
        assert all(torch.equal(tensor, live[name]) for name, tensor in state.items()), kind


def test_settings_of_keras_are_set_and_logged(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    network = peer.make(num_classes=9, bn_eps=1e-5)
    with caplog.at_level(logging.INFO, "spectrum"):
        load_weights(network, peer.files["some.weights.h5"])
    assert {(norm.eps, norm.momentum) for norm in norms(network)} == {(1e-3, 0.01)}
    assert {m.pooling for m in network.modules() if isinstance(m, Pool)} == {"keras"}
    assert "Keras's" in caplog.text
    changes = ["eps set from 1e-05 to 0.001", "momentum set from 0.1 to 0.01"]
    for change in (*changes, "pooling set from symmetric to keras"):
        assert change in caplog.text
    expected = {"pooling": "keras", "bn_eps": 1e-3, "bn_momentum": 0.01}
    assert source_settings(peer.model) == expected
    assert logits(peer.make(num_classes=9, **expected), images(96)).shape == (1, 9)
    assert preprocessing(peer.files["older.h5"]).size == preprocessing(peer.model).crop == 299


def test_a_translated_state_has_the_shapes_of_the_network(peer: Peer) -> None:
    network = on_meta(peer.make, num_classes=9)
    state = read_weights(peer.files["whole.h5"]).state
    shapes = {n: t.shape for n, t in network.state_dict().items() if "num_batches" not in n}
    assert {name: tensor.shape for name, tensor in state.items()} == shapes
    load_weights(network, peer.files["whole.h5"])  # a network on the meta device is filled too
    assert not any(tensor.is_meta for tensor in network.state_dict().values())


def refuses(peer: Peer, source: Any, **options: Any) -> str:
    """The one-line message of the refusal, which leaves the network unchanged."""
    network = peer.make(**{"num_classes": 9, **options})
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(FieldError, match=r"\Asource \(=[^\n]*\Z") as refusal:
        load_weights(network, source)
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert {norm.momentum for norm in norms(network)} == {0.1}
    return str(refusal.value)


@pytest.mark.parametrize("peer", ["Xception"], indirect=True)
def test_other_classes_are_named_with_their_shapes(peer: Peer) -> None:
    message = refuses(peer, peer.model, num_classes=4)
    assert re.search(
        r"predictions/kernel .*\(9, 2048\) where the network's is \(4, 2048\)", message
    )


def edited(peer: Peer, kind: str, folder: Path, edit: Callable[[Any], object]) -> Path:
    path = folder / kind
    path.write_bytes(peer.files[kind].read_bytes())
    with h5py.File(path, "a") as file:
        edit(file)
    return path


@pytest.mark.parametrize("kind", ["some.weights.h5", "nameless.weights.h5"])
def test_a_tensor_that_a_weights_h5_lacks_is_named(peer: Peer, kind: str, tmp_path: Path) -> None:
    named = kind == "some.weights.h5"

    def drop(place: str) -> str:
        def edit(file: Any) -> None:
            del file[place]

        return refuses(peer, edited(peer, kind, tmp_path, edit))

    layer = "batch_normalization_3"
    with h5py.File(peer.files[kind]) as file:
        label = file[f"layers/{layer}/vars"].attrs["name"] if named else f"layers/{layer}"
    assert f"missing {label}/vars/0" in drop(f"layers/{layer}/vars/0")
    with h5py.File(peer.files["some.weights.h5"]) as file:
        label = file["layers/conv2d_3/vars"].attrs["name"]
    label = label if named else "layers/conv2d_3"
    assert f"missing {label}/kernel" in drop("layers/conv2d_3")


@pytest.mark.parametrize("peer", ["Xception"], indirect=True)
def test_a_tensor_that_an_older_file_lacks_is_named(peer: Peer, tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        name = file["predictions"].attrs["weight_names"][1]
        del file[f"predictions/{name}"]

    path = edited(peer, "older.h5", tmp_path, edit)
    assert "missing predictions/bias" in refuses(peer, path)


@pytest.mark.parametrize("peer", ["Xception"], indirect=True)
def test_a_model_without_its_top_lacks_the_classifier(peer: Peer) -> None:
    message = refuses(peer, peer.keras(weights=None, include_top=False))
    assert "missing predictions/kernel" in message


@pytest.mark.parametrize("peer", ["Xception"], indirect=True)
def test_an_extra_layer_and_an_odd_shape_are_named(peer: Peer, tmp_path: Path) -> None:
    top = keras.layers.Dense(3, name="another")(peer.model.output)
    assert "another/kernel" in refuses(peer, keras.Model(peer.model.input, top))
    name = peer.model.layers[1].name

    def edit(file: Any) -> None:
        del file[f"{name}/{name}/kernel"]
        file[f"{name}/{name}/kernel"] = np.zeros((5, 5, 3, 32), "float32")

    message = refuses(peer, edited(peer, "older.h5", tmp_path, edit))
    assert f"{name}/kernel" in message
    assert "(32, 3, 5, 5) where the network's is (32, 3, 3, 3)" in message


def test_another_family_is_named(peer: Peer) -> None:
    other = inception_v3 if peer.make is xception else xception
    network = on_meta(other, num_classes=9)
    with pytest.raises(FieldError, match=r"Keras's (Xception|Inception V3), and network[^\n]*\Z"):
        load_weights(network, peer.model)


@pytest.mark.parametrize("peer", ["InceptionV3"], indirect=True)
def test_an_auxiliary_head_isnt_in_keras_model(peer: Peer) -> None:
    assert "missing aux.conv0.conv.weight" in refuses(peer, peer.model, aux_logits=True)


def test_an_hdf5_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.h5"
    with h5py.File(path, "w") as file:
        file["table"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"\Asource \(=.*table.h5\) is an HDF5 file without the"):
        read_weights(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match=r"\Asource \(=.*table.h5\) is a damaged HDF5 file: .*\Z"):
        read_weights(path)


def test_without_h5py_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "some.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.zeros((2, 2))
    monkeypatch.setitem(sys.modules, "h5py", None)  # an import raises ImportError
    message = rf"source \(={path}\) is an HDF5 file, .* pip install 'segment-spectrum\[keras\]'"
    with pytest.raises(FieldError, match=rf"\A{message}\Z"):
        read_weights(path)
