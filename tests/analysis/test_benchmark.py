"""The tabular benchmark holds what the committed studies hold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import spectrum.analysis
from spectrum import load_benchmark, load_results
from spectrum.analysis.benchmark import CURVES, RUNS, collect_benchmark

STUDIES = Path(__file__).parents[2] / "studies"
FOLDERS = sorted(path.parent for path in STUDIES.glob("*/study.json"))


def test_its_files_are_those_that_the_script_writes() -> None:
    for name, table in zip((RUNS, CURVES), collect_benchmark(FOLDERS), strict=True):
        path = Path(spectrum.analysis.__file__).with_name(name)
        written = pd.read_csv(path, dtype=str, keep_default_na=False)
        expected = table.to_csv(index=False).splitlines()
        assert written.to_csv(index=False).splitlines() == expected, "run studies/make_benchmark.py"


def test_every_finished_run_is_in_it_with_its_whole_curve() -> None:
    table = load_benchmark()
    ends = table[table["epoch"] == table["epochs"]].set_index("run_id")
    assert ends.index.is_unique
    runs = pd.concat(map(load_results, FOLDERS)).query("status == 'done'")
    assert {*ends.index} == {*runs["run_id"]}
    for name in ("segments", "params", "macs", "test_top1", "seed", "hidden"):
        known = runs.drop_duplicates("run_id").set_index("run_id")[name]
        assert (ends[name].reindex(known.index) == known).all(), name
    assert table.groupby("run_id").size().to_dict() == ends["epochs"].to_dict()
    assert (ends["curve_val_top1"] - ends["val_top1"]).abs().max() < 1e-5


def test_a_run_has_the_settings_of_its_study() -> None:
    table = load_benchmark().drop_duplicates("run_id")
    planted = table[table["studies"] == "planted_block"]
    assert {*planted["block"]} == {4, 8, 16}
    assert {*table.loc[table["studies"].str.contains("dial_noise"), "label_noise"]} == {0.4}
