"""Results of version 0.1 get the ids that runs have now, and nothing else changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from spectrum import StudyConfig, load_run, run_study
from spectrum.costs import LatencyConditions
from spectrum.networks import NetworkConfig
from spectrum.runs.latency import hash_key, make_latency_cache
from spectrum.study.command import read_toml
from spectrum.study.plan import make_plan
from tests.small_studies import skip_figures, small_study
from tests.timing_machine import SHAPE, SimulatedMachine

__all__ = ["skip_figures", "small_study"]

STUDIES = Path(__file__).parents[1] / "studies"
NETWORK = NetworkConfig(name="tiny", num_classes=10, in_channels=1, segments="4")


@pytest.fixture
def relabel(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(STUDIES)
    return import_module("relabel")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_committed_runs_have_the_ids_of_their_study(relabel: ModuleType) -> None:
    plan = make_plan(StudyConfig(name="default", **read_toml(STUDIES / "default.toml")))
    runs = [run for _, run in plan.runs()]
    committed = pd.read_csv(STUDIES / "default" / "results.csv")["run_id"]
    assert [run.id for run in runs] == committed.tolist()
    assert relabel.former_id(runs[0]) == "00ea483b451a571d"  # as version 0.1 had committed it


def test_a_folder_of_runs_and_a_study_are_relabelled_once(
    relabel: ModuleType, small_study: Callable[..., StudyConfig]
) -> None:
    config = small_study(segments="C", epochs=1)
    run_study(config)
    ((_, run),) = make_plan(config).runs()
    former, study = relabel.former_id(run), config.out / config.name
    (study / "SHA256SUMS").unlink()  # versions with those ids wrote none
    now = contents(study) | contents(config.runs)
    stored = {"format": 1, **run.model_dump(mode="json")}
    (config.runs / run.id / "config.json").write_text(json.dumps(stored))
    (config.runs / run.id).rename(config.runs / former)
    for name in ("results.csv", "curves.csv"):
        text = (study / name).read_text()
        (study / name).write_text(text.replace(run.id, former))
    with np.load(study / "correct.npz") as file:
        correct = file[run.id]
    np.savez(study / "correct.npz", **{former: correct})

    relabel.main([config.runs, study])
    load_run(config.runs / run.id)
    with np.load(study / "correct.npz") as file:
        assert np.array_equal(file[run.id], correct)
    again = contents(study) | contents(config.runs)
    assert again.keys() == now.keys()
    assert all(again[path] == now[path] for path in now if path.suffix in (".csv", ".json"))
    relabel.main([config.runs, study])
    assert contents(study) | contents(config.runs) == again


def test_latencies_are_found_under_their_present_names(
    relabel: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = SimulatedMachine(monkeypatch)

    def latency() -> float:
        cache = make_latency_cache(tmp_path, NETWORK, SHAPE, LatencyConditions())
        return cache.latency(NETWORK, SHAPE)

    measured, count = latency(), len(machine.measured)
    for path in list(tmp_path.glob("latency/*.json")):
        kept = json.loads(path.read_bytes())
        key = kept["of"]
        key["network"] = NetworkConfig(**key["network"]).model_dump(mode="json")
        if "beside" in key:
            config = NetworkConfig(**key["beside"]["config"])
            key["beside"]["config"] = config.model_dump(mode="json")
        path.write_text(json.dumps(kept))
        path.rename(path.with_stem(hash_key(key)))
    relabel.main([tmp_path])
    assert latency() == measured
    assert len(machine.measured) == count


def test_damaged_studies_are_left_alone_and_the_others_looked_at(
    relabel: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("results.csv", "curves.csv", "correct.npz", "study.json"):
        for content in (b"garbage", b"[]", b"\xff"):
            study = shutil.copytree(STUDIES / "default", tmp_path / f"{name} {content.hex()}")
            (study / name).write_bytes(content)
    before, damaged = contents(tmp_path), sorted(tmp_path.iterdir())
    relabel.main([*damaged, STUDIES / "default"])
    said = capsys.readouterr().out.splitlines()
    assert said.pop() == f"{STUDIES / 'default'} has the ids of today"
    assert len(said) == len(damaged) == 12
    assert all(
        f"{study} is left alone: " in line for study, line in zip(damaged, said, strict=True)
    )
    assert contents(tmp_path) == before


def test_a_damaged_run_is_left_alone(
    relabel: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, content in enumerate((b"{", b"[]", b"5", b"\xff", b'{"format": 1}')):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "config.json").write_bytes(content)
    (tmp_path / "latency").mkdir()
    (tmp_path / "latency" / "a.json").write_bytes(b"[]")
    before = contents(tmp_path)
    relabel.main([tmp_path])
    said = capsys.readouterr().out.splitlines()
    assert [" is left alone: " in line for line in said] == [True] * 6 + [False]
    assert contents(tmp_path) == before
