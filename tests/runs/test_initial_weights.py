"""Training that starts from given weights, which are moved to each point of the dial."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from spectrum import NetworkConfig, StudyConfig, build, load_run, run_study
from spectrum.errors import FieldError
from spectrum.layers import SegmentedConv
from spectrum.networks.weights.stored import stored_segments
from spectrum.runs.initial_weights import InitialWeights, build_with_weights, read_initial_weights
from spectrum.study.plan import make_plan
from tests.small_studies import FIELDS

IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


STAGES = ("stage2", "stage3", "stage4", "stage5")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a run at C."""
    root = tmp_path_factory.mktemp("trained")
    fields = {**FIELDS, "segments": "C", "epochs": 1}
    run_study(StudyConfig(**fields, out=root / "out", runs=root / "runs"))
    return next(root.glob("runs/*/weights.safetensors"))


def logits(network: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(IMAGES)


def point(segments: str, **changes: object) -> NetworkConfig:
    fields = {"name": "tiny", "width": 0.2, "num_classes": 10, "in_channels": 1}
    return NetworkConfig(segments=segments, **{**fields, **changes})


def saved(path: Path, **fields: object) -> tuple[NetworkConfig, nn.Module]:
    """The weights of a network, in a file as of a run."""
    torch.manual_seed(0)
    config = NetworkConfig(num_classes=10, in_channels=1, **fields)
    made = build(config)
    metadata = {"spectrum.network": config.model_dump_json()}
    safetensors.torch.save_file(made.state_dict(), path, metadata=metadata)
    return config, made


@pytest.mark.parametrize("segments", ["C", "C/2", "4", "1", "entry=C+middle=2+exit=1"])
def test_a_run_starts_with_the_function_of_its_initial_weights(
    trained: Path, segments: str
) -> None:
    start = read_initial_weights(trained, "tiny")
    network = build_with_weights(start.configure(point(segments)), start.tensors)
    torch.testing.assert_close(logits(network), logits(load_run(trained.parent)))
    assert type(network) is type(build(point(segments)))
    assert network.state_dict().keys() == build(point(segments)).state_dict().keys()


def test_a_study_trains_on_from_the_weights(
    small_study: Callable[..., StudyConfig], trained: Path, tmp_path: Path
) -> None:
    fields = {"segments": "C,C/2", "epochs": 1, "recipe": {"lr": 1e-9, "average": 0.0}}
    fresh = run_study(small_study(**fields))
    config = small_study(**fields, start=trained, name="started")
    results = run_study(config)
    assert not set(results["run_id"]) & set(fresh["run_id"])
    # Steps this small leave the weights where they were; only batch statistics move.
    before = dict(load_run(trained.parent).named_parameters())
    after = dict(load_run(config.runs / results["run_id"][0]).named_parameters())
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    assert results["val_top1"].min() > fresh["val_top1"].max()
    assert len(list((config.runs / "starts").iterdir())) == 1


def test_a_run_hands_on_its_settings_and_its_solved_width(
    small_study: Callable[..., StudyConfig], tmp_path: Path
) -> None:
    network = {"name": "tiny", "hidden": [7]}
    changes = {"match": "params", "network": network, "activation": "relu", "segments": "1"}
    row = run_study(small_study(**changes, epochs=1)).iloc[0]
    assert row["width"] != 1
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(next(tmp_path.glob("runs/*/weights.safetensors")).read_bytes())
    plain = {"network": {"name": "tiny"}, "segments": "1", "start": moved}
    found = make_plan(small_study(**plain)).points[0].network
    assert (found.activation, found.width, found.hidden) == ("relu", row["width"], (7,))
    given = make_plan(small_study(**plain, activation="elu")).points[0].network
    assert given.activation == "elu"


@pytest.mark.parametrize("stored", ["C", "C/2"])
@pytest.mark.parametrize("segments", ["C", "3", "1"])
@pytest.mark.filterwarnings("ignore:segments")  # the first layer has one channel
def test_weights_are_moved_between_points_with_different_orders(
    stored: str, segments: str, tmp_path: Path
) -> None:
    # On grey images only the first convolution has no pointwise part at any point.
    shape = {"num_classes": 10, "in_channels": 1, "width": 0.05}
    made = build(NetworkConfig(name="vgg_small", segments=stored, **shape))
    start = InitialWeights(made.state_dict(), {}, "")
    config = start.configure(NetworkConfig(name="vgg_small", segments=segments, **shape))
    moved = build_with_weights(config, start.tensors)
    assert config.order is None
    assert moved.state_dict().keys() == build(config).state_dict().keys()
    if segments == "1" or stored == segments:
        torch.testing.assert_close(logits(moved), logits(made), atol=1e-5, rtol=1e-4)


def test_two_convolutions_with_an_activation_between_cannot_become_one() -> None:
    shape = {"name": "vgg_small", "num_classes": 10, "width": 0.05, "activation": "relu"}
    made = build(NetworkConfig(segments={"stage1": 1} | dict.fromkeys(STAGES, "C"), **shape))
    with pytest.raises(ValueError, match="consists of other convolutions than the layers at 1"):
        build_with_weights(NetworkConfig(segments="1", **shape), made.state_dict())


def test_a_classifier_without_bias_is_replaced_by_one_without_bias(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unbiased_model.py").write_text(
        "from torch import nn\n"
        "def net(num_classes=10):\n"
        "    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "        nn.Linear(6, num_classes, bias=False))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = NetworkConfig(name="unbiased_model:net", segments="1", num_classes=4, in_channels=1)
    made = build(config.model_copy(update={"num_classes": 9}))
    moved = build_with_weights(config, made.state_dict())
    assert logits(moved).shape == (4, 4)
    assert moved[-1].bias is None


def test_another_number_of_classes_gets_a_new_classifier(trained: Path) -> None:
    start = read_initial_weights(trained, "tiny")
    network = build_with_weights(point("4", num_classes=7), start.tensors)
    assert logits(network).shape == (4, 7)
    torch.testing.assert_close(
        network.stem[0].conv.weight.detach(),
        start.tensors["stem.0.conv.weight"],
    )


def test_settings_of_the_weights_are_used_unless_given(trained: Path) -> None:
    keras = {"pooling": "keras", "bn_eps": 1e-3, "bn_momentum": 0.01}
    start = replace(read_initial_weights(trained, "tiny"), settings=keras)
    assert start.configure(point("C")).pooling == "keras"
    assert start.configure(point("C", bn_eps=0.5)).bn_eps == 0.5
    assert start.configure(point("C", bn_eps=0.5)).bn_momentum == 0.01


@pytest.mark.parametrize("order", ["spatial_only", "spatial_first"])
def test_an_order_that_is_not_given_is_that_of_the_weights(order: str, tmp_path: Path) -> None:
    shape = {"num_classes": 10, "in_channels": 1, "width": 0.05}
    made = build(NetworkConfig(name="vgg_small", segments="C/2", order=order, **shape))
    path = tmp_path / "made.safetensors"
    safetensors.torch.save_file(made.state_dict(), path)
    start = read_initial_weights(path, "vgg_small")
    config = start.configure(NetworkConfig(name="vgg_small", segments="1", **shape))
    assert config.order == order
    torch.testing.assert_close(logits(build_with_weights(config, start.tensors)), logits(made))


@pytest.mark.filterwarnings("ignore")  # some layers saturate, others have no 1x1
@pytest.mark.parametrize("name", ["tiny", "vgg_small"])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("pointwise", ["1", "3", "C/4"])
def test_weights_of_a_1x1_in_segments_are_moved_with_their_shuffle(
    pointwise: str, shuffle: bool, name: str, tmp_path: Path
) -> None:
    shape = {"num_classes": 10, "in_channels": 1, "width": 0.2, "name": name}
    path = tmp_path / "made.safetensors"
    fields = {"pointwise_segments": pointwise, "shuffle": shuffle, "width": 0.2, "name": name}
    config, made = saved(path, segments="C", **fields)
    start = read_initial_weights(path, name)
    same = start.configure(NetworkConfig(segments="C", **shape))
    assert same == config
    # Back at its own point it has its own weights; one segment of the 1x1 holds all others.
    for other in (same, point("C/2", **shape, pointwise_segments="1", shuffle=True)):
        moved = build_with_weights(start.configure(other), start.tensors)
        torch.testing.assert_close(logits(moved), logits(made))
    torch.testing.assert_close(
        dict(build_with_weights(same, start.tensors).state_dict()), dict(made.state_dict())
    )
    if name == "vgg_small":  # a plain convolution holds both
        plain = build_with_weights(start.configure(point("1", **shape)), start.tensors)
        torch.testing.assert_close(logits(plain), logits(made), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("order", ["spatial_only", "spatial_first"])
@pytest.mark.parametrize("pointwise", ["1", "3", "C/4"])
def test_a_shufflenet_keeps_the_segments_and_the_shuffle_of_its_own_1x1(
    pointwise: str, order: str, tmp_path: Path
) -> None:
    path = tmp_path / "made.safetensors"
    fields = {"name": "shufflenet_tiny", "pointwise_segments": pointwise, "order": order}
    config, made = saved(path, segments="C", **fields)
    start = read_initial_weights(path, config.name)
    for segments in ("C", "C/4", "1"):
        fields = {"name": config.name, "segments": segments, "num_classes": 10, "in_channels": 1}
        other = start.configure(NetworkConfig(**fields))
        assert other == config.model_copy(update={"segments": segments})
        moved = build_with_weights(other, start.tensors)
        torch.testing.assert_close(logits(moved), logits(made))


@pytest.mark.parametrize(("name", "shuffle"), [("tiny", False), ("shufflenet_tiny", True)])
def test_divided_weights_are_refused_with_another_shuffle(
    name: str, shuffle: bool, tmp_path: Path
) -> None:
    path = tmp_path / "made.safetensors"
    fields = {"name": name, "pointwise_segments": "3", "width": 0.5}
    config, _ = saved(path, shuffle=shuffle, **fields)
    start = read_initial_weights(path, name)
    assert start.configure(config) == config
    message = rf"shuffle \(={not shuffle}\) must be {shuffle}, as in the weights to start from"
    with pytest.raises(FieldError, match=message):
        start.configure(config.model_copy(update={"shuffle": not shuffle}))


def counts(network: nn.Module) -> list[int]:
    return [m.segment_count for m in network.modules() if isinstance(m, SegmentedConv)]


@pytest.mark.filterwarnings("ignore:segments")  # some layers saturate
@pytest.mark.parametrize("segments", ["C", "mixed6=5+mixed5=C/2+mixed7=1"])
@pytest.mark.parametrize("order", ["spatial_first", "pointwise_first", "spatial_only"])
def test_the_point_is_inferred_from_the_shapes(segments: str, order: str) -> None:
    shape = {"name": "inception_v3_tiny", "num_classes": 3, "width": 0.4, "order": order}
    stored = build(NetworkConfig(**shape, segments=segments))
    found = stored_segments(build(NetworkConfig(**shape, segments="1")), stored.state_dict())
    again = build(NetworkConfig(**shape, segments=found))
    again.load_state_dict(stored.state_dict())
    assert counts(again) == counts(stored)


def test_explicit_sizes_are_inferred_from_the_shapes() -> None:
    layer = nn.Sequential(SegmentedConv(12, 5, segments="6:1:5"))
    assert stored_segments(layer, layer.state_dict())[0].value == (6, 1, 5)


def test_a_users_model_starts_from_its_own_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "started_model.py").write_text(
        "from torch import nn\n"
        "def net(num_classes=10, in_channels=1):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, 6, 3, padding=1), nn.ReLU(),\n"
        "        nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 8, 1), nn.ReLU(),\n"
        "        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from started_model import net

    own = net()
    torch.save(own.state_dict(), tmp_path / "own.pt")
    start = read_initial_weights(tmp_path / "own.pt", "started_model:net")
    config = NetworkConfig(name="started_model:net", segments="1", num_classes=10, in_channels=1)
    moved = build_with_weights(start.configure(config), start.tensors)
    torch.testing.assert_close(logits(moved), logits(own))
    # As for a run, the point of the weights of a converted model is inferred.
    again = build_with_weights(config, moved.state_dict())
    torch.testing.assert_close(logits(again), logits(own))


def test_unusable_weights_are_reported_in_one_line(
    trained: Path, tmp_path: Path, spectrum_study: Callable[..., tuple[int, str]]
) -> None:
    text = tmp_path / "text.pt"
    text.write_text("no weights")
    flags = ("--segments=C", "--epochs=1", "--seeds=1", "--match=none", f"--out={tmp_path / 'o'}")
    for arguments, message in (
        (("--start", trained, "--match=params"), f"--start (={trained}) needs match 'none'"),
        (("--start", tmp_path / "gone.pt"), "gone.pt"),
        (("--start", text), "text.pt"),
        (("--start", trained, "--network=small"), "doesn't fit the network: "),
        (("--start", trained, "--order=pointwise_first"), "[tiny in the order pointwise_first]"),
    ):
        status, error = spectrum_study(*flags, *arguments)
        assert status == 2
        assert len(error.splitlines()) == 1
        assert message in error
