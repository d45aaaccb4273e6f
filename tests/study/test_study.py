"""Studies from Python: their rows, and what the store and the networks say of the same runs."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import spectrum
from spectrum import StudyConfig, evaluate, load_data, load_results, load_run, run_study
from spectrum.analysis.columns import ORIGIN, ROW
from spectrum.executors.local import available_devices
from spectrum.machine import device_name


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
    *origin, plans = row[[column.name for column in ORIGIN]]
    assert origin == [
        device_name("cpu"),
        torch.backends.cpu.get_cpu_capability(),
        platform.python_version(),
        str(torch.__version__),
        spectrum.__version__,
    ]
    assert re.fullmatch(r"((kernel|merged\d*|native|relaid) \d+(, |$))+", plans)
    for damaged in ("weights.safetensors", "config.json"):
        for content in (b"\x00" * 20, b"[]", b"5", b'{"network": 5}', b"{}"):
            (folder / damaged).write_bytes(content)
            with pytest.raises(
                ValueError, match=rf"\Afolder \(={folder}\) holds a damaged run: [^\n]*\Z"
            ):
                load_run(folder)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"folder \(={tmp_path}\) must hold a finished run"):
        load_run(tmp_path)


def test_results_are_read_back_as_they_were(small_study: Callable[..., StudyConfig]) -> None:
    config = small_study(
        segments="C",
        epochs=1,
        recipe={"batch_size": 256, "lr": [0.001, 1e12]},
        activation="none,relu",
    )
    results = run_study(config)
    assert [*results.columns] == [*[column.name for column in (*ROW, *ORIGIN)], "lr"]
    read = load_results(config.out / config.name)
    pd.testing.assert_frame_equal(results, read, check_dtype=False)
    assert read["activation"].tolist() == ["none", "relu"] * 2
    assert read["status"].tolist() == ["done", "done", "diverged", "diverged"]
    assert read["hidden"].tolist() == [""] * 4
    assert (read[[column.name for column in ORIGIN]] != "").all(axis=None)


def test_devices_are_those_of_the_machine() -> None:
    gpus = torch.cuda.device_count()
    assert available_devices("cpu") == ["cpu"]
    assert available_devices("auto") == ([f"cuda:{i}" for i in range(gpus)] or ["cpu"])
    with pytest.raises(ValueError, match=r"device \(='cuda:64'\) must be one of auto, cpu"):
        available_devices("cuda:64")
