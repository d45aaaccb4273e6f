"""Studies of every family, and of a user's own model."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from spectrum import StudyConfig, load_results, load_run, run_study
from spectrum.errors import FieldError
from spectrum.study.plan import make_plan

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
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's file in the folder that the command is called in."""
    path = tmp_path / "my_model.py"
    path.write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    return path


def test_an_edited_model_is_another_run(
    model: Path, small_study: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(model.parent)
    config = small_study(network={"name": "my_model:net"}, segments="C", epochs=1)
    run_id = run_study(config)["run_id"][0]
    model.write_text(MODEL)
    assert [run.id for _, run in make_plan(config).runs()] == [run_id]
    load_run(config.runs / run_id, trust_code=True)
    model.write_text(MODEL + "# edited\n")
    assert [run.id for _, run in make_plan(config).runs()] != [run_id]
    with pytest.raises(FieldError, match="network my_model:net, whose code has changed since"):
        load_run(config.runs / run_id, trust_code=True)
    load_run(config.runs / run_id, trust_code="changed")


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


SCRIPT = """
import spectrum.study.outputs
from spectrum import StudyConfig, run_study
spectrum.study.outputs._draw = lambda *_: None
config = StudyConfig(
    network="my_model:net", segments="1,C", seeds=1, epochs=1, workers=2, device="cpu"
)
run_study(config)
"""


def test_a_script_without_a_main_guard_studies_a_users_model_with_workers(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.with_name("script.py").write_text(SCRIPT)
    # A file in the current folder must not stand in for a module that a worker needs.
    (model.parent / "current").mkdir()
    monkeypatch.chdir(model.parent / "current")
    Path("queue.py").write_text("raise SystemExit('a file of the user')")
    ran = subprocess.run(
        [sys.executable, model.with_name("script.py")], capture_output=True, text=True, timeout=200
    )
    assert ran.returncode == 0, ran.stderr
    results = load_results("outputs/default")
    assert results["status"].tolist() == ["done"] * 2
    assert results["params"].max() < 1.1 * results["params"].min()  # budgets are matched
    assert set(results["network"]) == {"my_model:net"}
    assert results["macs"].nunique() == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_model:narrow", "must take an argument width for its cost to be matched"),
        ("my_model:half", "can't take float32 images"),
        ("no_module:net", "can't be imported: ModuleNotFoundError"),
        ("my_model:rigid", "must give logits (N, 10), one per class of the data, not (1, 1000)"),
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


def test_a_network_too_large_for_the_images_says_what_it_needs(
    spectrum_study: Callable[..., tuple[int, str]],
) -> None:
    status, error = spectrum_study("--network=tiny,inception_v3", "--match=none")
    assert status == 2
    assert error.startswith("error: --network (='inception_v3') can't take the images of digits: ")
    assert "needs at least 75x75" in error
