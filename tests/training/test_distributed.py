"""Two real processes that train together, compared with one that trains alone."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from spectrum import fit
from spectrum.training.distributed import SyncBatchNorm, _synchronise_batch_norm
from tests.training.conftest import dataset, network
from tests.training.together import CASES, normalised, pixels, recipe, several_labels


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("together")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, "-m", "tests.training.together", str(folder)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{i}.pt", weights_only=True) for i in range(2)]


def assert_alike(found: dict[str, Any], curve: list[dict[str, float]], model: nn.Module) -> None:
    for theirs, ours in zip(found["curve"], curve, strict=True):
        for key in ours.keys() - {"seconds"}:
            assert theirs[key] == pytest.approx(ours[key], rel=1e-4, abs=1e-4), key
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found["state"][name], tensor, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", [name for name in CASES if name != "local"])
def test_two_processes_give_what_one_gives(name: str, found: list[dict[str, Any]]) -> None:
    alone = fit(network(), dataset(), recipe(name))
    for process in found:
        assert_alike(process[name], alone.curve, alone.network)


def test_several_labels_are_shared_and_weights_without_effect_do_no_harm(
    found: list[dict[str, Any]],
) -> None:
    alone = fit(network(), several_labels(), recipe("plain"))
    assert "val_map" in alone.curve[0]
    assert_alike(found[0]["several labels"], alone.curve, alone.network)


def test_local_statistics_are_those_of_half_the_batch(found: list[dict[str, Any]]) -> None:
    first, second = (process["local"] for process in found)
    assert first["curve"][0]["val_loss"] == second["curve"][0]["val_loss"]
    for name, tensor in first["state"].items():
        assert torch.equal(tensor, second["state"][name]), name
    whole = found[0]["plain"]["curve"][0]["train_loss"]
    assert abs(first["curve"][0]["train_loss"] - whole) > 1e-4


def test_a_batch_must_be_shared_evenly(found: list[dict[str, Any]]) -> None:
    for process in found:
        assert process["odd"] == (
            "recipe.batch_size (=15) must be a multiple of 2, the processes that share it"
        )


def test_a_supernet_is_trained_by_one_process(found: list[dict[str, Any]]) -> None:
    for process in found:
        assert process["shared"] == "processes (=2) must be 1 to train a Supernet"


def test_a_run_that_rank_zero_ends_ends_everywhere_and_resumes(found: list[dict[str, Any]]) -> None:
    assert [process["stopped"] for process in found] == ["KeyboardInterrupt", "RankZeroFailed"]
    assert found[0]["seen"] == [1, 1, 2]
    assert found[1]["seen"] == []  # it neither writes nor reports
    for process in found:
        for name, tensor in process["whole"]["state"].items():
            assert torch.equal(process["resumed"]["state"][name], tensor), name


def test_batch_normalisation_is_over_the_images_of_all_processes(
    found: list[dict[str, Any]],
) -> None:
    alone = normalised()
    expected = alone(pixels())
    expected.square().mean().backward()
    both = [process["normalised"] for process in found]
    output = torch.cat([process["output"] for process in both])
    assert output.min() == 0  # the ReLU is still there
    torch.testing.assert_close(output, expected.detach(), atol=1e-5, rtol=1e-4)
    for process in both:
        assert process["types"] == ["Conv2d", *["SyncBatchNorm"] * 3]
        torch.testing.assert_close(process["gradient"], alone[0].weight.grad, atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(process["state"], dict(alone.state_dict()), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("device", "kind"), [("cpu", SyncBatchNorm), ("cuda", nn.SyncBatchNorm)], ids=["cpu", "cuda"]
)
def test_a_replaced_batch_normalisation_keeps_its_relu(device: str, kind: type[nn.Module]) -> None:
    model = normalised()
    model(pixels())
    model.eval()  # nn.SyncBatchNorm runs on the CPU in evaluation mode
    expected, state = model(pixels()), dict(model.state_dict())
    replaced = _synchronise_batch_norm(copy.deepcopy(model), torch.device(device))
    assert [type(module) for module in replaced] == [nn.Conv2d, *[kind] * 3]
    for copied in (replaced, copy.deepcopy(replaced)):
        assert copied(pixels()).min() == 0
        torch.testing.assert_close(copied(pixels()), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(dict(copied.state_dict()), state, atol=0, rtol=0)


def test_other_batch_normalisation_is_left_alone_on_the_cpu() -> None:
    class Own(nn.BatchNorm2d):
        def __init__(self) -> None:
            super().__init__(4)
            self.relu = nn.ReLU()

    own = nn.Sequential(Own(), nn.BatchNorm3d(4))
    before = list(own)
    assert list(_synchronise_batch_norm(own, torch.device("cpu"))) == before


def test_sync_batch_norm_is_torchs_if_there_is_one_process() -> None:
    torch.manual_seed(0)
    ours, theirs = SyncBatchNorm(3), nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
