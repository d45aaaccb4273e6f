"""Studies from Python: grids, rows, figures, and results that don't depend on the workers."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from spectrum import (
    DataConfig,
    Recipe,
    StudyConfig,
    evaluate,
    load_data,
    load_results,
    load_run,
    run_study,
)
from spectrum.analysis.columns import ORIGIN, ROW
from spectrum.executors.local import available_devices
from spectrum.study.plan import make_plan
from tests.small_studies import FIELDS, weights

TIMES = ["train_seconds", "images_per_second"]


def test_the_number_of_workers_changes_no_result(
    small_study: Callable[..., StudyConfig], tmp_path: Path
) -> None:
    here = run_study(small_study(seeds=2))
    elsewhere = tmp_path / "elsewhere"
    apart = run_study(small_study(seeds=2, workers=2, runs=elsewhere))
    pd.testing.assert_frame_equal(here.drop(columns=TIMES), apart.drop(columns=TIMES))
    assert weights(tmp_path / "runs") == weights(elsewhere)
    assert len(weights(elsewhere)) == 4


def test_a_script_without_a_main_guard_may_use_workers(
    small_study: Callable[..., StudyConfig], tmp_path: Path
) -> None:
    # Nor does a file in the current folder stand in for a module of theirs.
    folder = tmp_path / "current"
    folder.mkdir()
    (folder / "queue.py").write_text("raise SystemExit('a file of the user')")
    script = tmp_path / "script.py"
    script.write_text(
        "from spectrum import StudyConfig, run_study\n"
        f"text = {small_study(workers=2, epochs=1).model_dump_json()!r}\n"
        "print(run_study(StudyConfig.model_validate_json(text)).status.tolist())\n"
    )
    ran = subprocess.run(
        [sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=100
    )
    assert ran.stdout == "['done', 'done']\n", ran.stderr


def test_the_row_the_store_and_the_network_agree(small_study: Callable[..., StudyConfig]) -> None:
    config = small_study(segments="C")
    row = run_study(config).iloc[0]
    folder = config.runs / row["run_id"]
    tested = evaluate(load_run(folder), load_data().test)
    assert tested.top1 == row["test_top1"]
    assert tested.loss == pytest.approx(row["test_loss"], abs=1e-6)
    with np.load(folder / "predictions.npz", allow_pickle=False) as predictions:
        assert np.array_equal(predictions["correct"], tested.correct.numpy())
    assert json.loads((folder / "config.json").read_text())["seed"] == 0
    curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    assert [line["samples"] for line in curve] == [1024, 2048, 3072]
    assert curve[-1]["val_top1"] == row["val_top1"]
    assert row["train_seconds"] == curve[-1]["seconds"]
    assert row["images_per_second"] == pytest.approx(3072 / curve[-1]["seconds"])


def test_results_are_read_back_as_they_were(small_study: Callable[..., StudyConfig]) -> None:
    config = small_study(recipe={"batch_size": 256, "lr": [0.001, 1e38]}, activation="none,relu")
    results = run_study(config)
    assert [*results.columns] == [*[column.name for column in (*ROW, *ORIGIN)], "lr"]
    read = load_results(config.out / config.name)
    pd.testing.assert_frame_equal(results, read, check_dtype=False)
    assert list(read["activation"].unique()) == ["none", "relu"]
    assert read["hidden"].tolist() == [""] * 8


def test_a_grid_has_every_combination() -> None:
    config = StudyConfig(
        segments=[1, {"entry": "C", "middle": 4, "exit": "C"}],
        order="spatial_first,pointwise_first",
        network={"hidden": [[], [8, 4]], "dropout": 0.1},
        recipe={"lr": [0.1, 0.2]},
    )
    combinations = list(config.combinations())
    assert len(combinations) == len(set(combinations)) == 2 * 2 * 2 * 2
    assert {c.network.segments for c in combinations} == {"1", "entry=C+middle=4+exit=C"}
    assert {c.network.hidden for c in combinations} == {(), (8, 4)}
    assert {c.network.dropout for c in combinations} == {0.1}
    assert [field for _, field in config.varied_axes()] == ["hidden", "lr", "order", "segments"]


def test_a_value_given_twice_is_one() -> None:
    config = StudyConfig(
        segments="C,C",
        order="spatial_first,spatial_first",
        epochs=[1, 1],
        precision="float32,float32",
        network={"dropout": [0, 0.0], "hidden": [[8], [8]]},
    )
    assert len(list(config.combinations())) == 1
    assert config.varied_axes() == []


def test_lists_and_configurations_may_stand_for_tables() -> None:
    config = StudyConfig(
        network=["tiny", "small"],
        data=DataConfig(split_seed=3),
        recipe=Recipe(lr=0.5),
        activation=[None, "elu"],
    )
    combinations = list(config.combinations())
    assert [c.network.name for c in combinations] == ["tiny"] * 8 + ["small"] * 8
    assert {c.data.split_seed for c in combinations} == {3}
    assert {c.recipe.lr for c in combinations} == {0.5}
    assert {c.network.activation for c in combinations} == {None, "elu"}
    assert StudyConfig.model_validate_json(config.model_dump_json()) == config


def test_points_of_a_study_cost_alike() -> None:
    points = make_plan(StudyConfig(segments="1,3,C/8,C", match="macs", order="pointwise_first"))
    costs = [point.macs for point in points.points]
    assert points.budget == costs[-1]
    assert all(abs(cost / costs[-1] - 1) < 0.02 for cost in costs)
    assert points.points[-1].network.width == 1


def test_an_id_is_what_a_result_depends_on_and_nothing_else() -> None:
    def ids(**changes: object) -> set[str]:
        plan = make_plan(StudyConfig(**{**FIELDS, "segments": "4", **changes}))
        return {run.id for _, run in plan.runs()}

    plain = ids()
    same = [{"name": "x"}, {"threads": 2}, {"workers": 2}, {"out": "x"}, {"segments": " 04 "}]
    for changes in same:
        assert ids(**changes) == plain, changes
    assert ids(seeds=2) > plain
    others = [
        {"segments": "5"},
        {"epochs": 4},
        {"precision": "bfloat16"},
        {"order": "pointwise_first"},
        {"data": {"name": "digits", "split_seed": 1}},
        {"recipe": {"batch_size": 256, "lr": 0.1}},
        {"network": {"name": "tiny", "width": 0.3, "dropout": 0.3}},
    ]
    for changes in others:
        assert not ids(**changes) & plain, changes


@pytest.mark.parametrize("points", ["1,C", "1,2,4,8,16,32,C/8,C/4,C/2,C,entry=C+middle=4+exit=C"])
def test_the_figure_is_a_picture_of_a_legible_size(
    points: str, small_study: Callable[..., StudyConfig], with_figures: None
) -> None:
    config = small_study(segments=points, epochs=1, seeds=1)
    run_study(config)
    with Image.open(config.out / config.name / "accuracy_vs_segments.png") as picture:
        assert picture.width >= 100 * len(points.split(","))
        assert picture.height >= 600
        colours = picture.convert("RGB").getcolors(maxcolors=1 << 20)
    assert (0, 114, 178) in {colour for _, colour in colours or []}  # the markers


def test_devices_are_those_of_the_machine() -> None:
    gpus = torch.cuda.device_count()
    assert available_devices("cpu") == ["cpu"]
    assert available_devices("auto") == ([f"cuda:{i}" for i in range(gpus)] or ["cpu"])
    with pytest.raises(ValueError, match=r"device \(='cuda:64'\) must be one of auto, cpu"):
        available_devices("cuda:64")


@pytest.mark.parametrize("damage", ["missing", "config.json", "weights.safetensors"])
def test_a_damaged_run_is_named(
    damage: str, small_study: Callable[..., StudyConfig], tmp_path: Path
) -> None:
    folder = tmp_path / "nowhere"
    if damage != "missing":
        config = small_study(segments="C", epochs=1)
        folder = config.runs / run_study(config)["run_id"][0]
        (folder / damage).write_bytes(b"\x00" * 20)
    with pytest.raises(ValueError, match=str(folder)):
        load_run(folder)


def test_invalid_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hold a study's results; no results.csv"):
        load_results(tmp_path)
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="lacks the columns run_id, study"):
        load_results(tmp_path)


@pytest.mark.parametrize("content", [b"[]", b"5", b'{"network": 5}', b"{}"])
def test_an_invalid_configuration_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"\Afolder \(=[^\n]*\) holds a damaged run: [^\n]*\Z"):
        load_run(tmp_path)
