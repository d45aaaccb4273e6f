"""Studies of every family, and of a user's own model."""

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from spectrum import StudyConfig, load_results, load_run, run_study
from spectrum.study.grid import read_toml
from spectrum.study.plan import make_plan
from tests.small_studies import run_command

MODEL = """
from torch import nn

def net(num_classes=10, in_channels=3, width=1.0):
    c = int(32 * width)
    return nn.Sequential(
        nn.Conv2d(in_channels, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU(),
        nn.Conv2d(c, 2 * c, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * c, num_classes))

def narrow(num_classes=10, in_channels=3):
    return net(num_classes, in_channels)

def half():
    return net(10, 1).half()

def rigid(in_channels=1):
    return net(1000, in_channels)

def number():
    return 3

def failing():
    raise RuntimeError("no such file")

value = 7
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's file in the folder that the command is called in."""
    path = tmp_path / "my_model.py"
    path.write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    return path


def test_a_run_of_other_code_says_so(
    model: Path, small_study: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(model.parent)
    config = small_study(network={"name": "my_model:net"}, segments="C", epochs=1)
    folder = config.runs / run_study(config)["run_id"][0]
    load_run(folder)
    model.write_text(MODEL + "# edited\n")
    with pytest.warns(UserWarning, match="the code of my_model:net has changed"):
        load_run(folder)


def test_every_family_is_studied(small_study: Callable[..., StudyConfig]) -> None:
    names = ["inception_v3_tiny", "vgg_small", "resnet50"]
    network = {"name": names, "width": 0.1}
    config = small_study(network=network, segments="4", epochs=1, data={"train_images": 64})
    results = run_study(config)
    assert results["status"].tolist() == ["done"] * 3
    assert results["network"].tolist() == names
    assert results["order"].tolist() == ["own", "own", "spatial_only"]
    for run_id in results["run_id"]:
        load_run(config.runs / run_id)
    read = load_results(config.out / config.name)
    pd.testing.assert_frame_equal(read, results, check_dtype=False)


def test_a_users_model_is_studied_by_the_command(model: Path) -> None:
    done = run_command(
        "--network=my_model:net",
        "--segments=1,C",
        "--seeds=1",
        "--epochs=1",
        "--name=mine",
        "--workers=2",
        "--device=cpu",
    )
    assert done.returncode == 0, done.stderr
    results = load_results("outputs/mine")
    assert results["status"].tolist() == ["done"] * 2
    assert results["params"].max() < 1.1 * results["params"].min()  # budgets are matched
    assert set(results["network"]) == {"my_model:net"}
    assert results["macs"].nunique() == 2


def test_an_edited_model_is_another_run(
    model: Path, small_study: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(model.parent)
    ids = []
    for text in (MODEL, MODEL, MODEL + "# edited\n"):
        model.write_text(text)
        plan = make_plan(small_study(network={"name": "my_model:net"}, segments="C"))
        ids.append(plan.runs()[0][1].id)
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_model:narrow", "must take an argument width for its cost to be matched"),
        ("my_model:number", "must return a torch.nn.Module, not int"),
        ("my_model:failing", "failed: RuntimeError: no such file"),
        ("my_model:nothing", "can't be imported: AttributeError"),
        ("my_model:half", "can't take float32 images"),
        ("my_model:value", "must be callable, not int"),
        ("no_module:net", "can't be imported: ModuleNotFoundError"),
        ("my_model:rigid", "must give logits (N, 10), one per class of the data, not (1, 1000)"),
        ("my_model", "or package.module:callable"),
        ("my model:net", "or package.module:callable"),
    ],
)
def test_a_model_that_cant_be_studied_is_one_line(
    model: Path,
    spectrum_study: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    said: str,
) -> None:
    monkeypatch.syspath_prepend(model.parent)
    match = "params" if name.endswith("narrow") else "none"
    status, error = spectrum_study(f"--network={name}", "--segments=C", f"--match={match}")
    assert status == 2
    assert len(error.splitlines()) == 1
    assert error.startswith("error: --network (=")
    assert said in error


def test_a_field_that_a_network_doesnt_take_is_refused(
    small_study: Callable[..., StudyConfig],
) -> None:
    with pytest.raises(ValueError, match=r"network\.residual \(=False\) must not be given for vgg"):
        small_study(network={"name": "vgg_small", "residual": False})
    with pytest.raises(ValueError, match=r"activation \(='relu'\) must not be given for a\.b:c"):
        small_study(network={"name": "a.b:c"}, activation="relu")


def test_a_network_too_large_for_the_images_says_what_it_needs(
    spectrum_study: Callable[..., tuple[int, str]],
) -> None:
    status, error = spectrum_study("--network=tiny,inception_v3", "--match=none")
    assert status == 2
    assert error.startswith("error: --network (=inception_v3) can't take the images of digits: ")
    assert "needs at least 75x75" in error


def test_the_runs_of_committed_studies_keep_their_names() -> None:
    root = Path(__file__).parents[2] / "studies"
    plan = make_plan(StudyConfig(name="default", **read_toml(root / "default.toml")))
    committed = pd.read_csv(root / "default" / "results.csv")
    assert [run.id for _, run in plan.runs()] == committed["run_id"].tolist()
