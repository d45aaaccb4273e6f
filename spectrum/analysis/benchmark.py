"""A tabular benchmark: every run of the committed studies, for search without training."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import pandas as pd

from spectrum.analysis.folder import load_curves, load_results, read_study
from spectrum.data.config import DataConfig
from spectrum.fields import column_name

RUNS, CURVES = "benchmark_runs.csv.gz", "benchmark_curves.csv.gz"
_TABLES = ("data", "network", "recipe")


def load_benchmark() -> pd.DataFrame:
    """Load all runs of the committed studies with their learning curves, as one table.

    Whoever develops a search over the dial can look results up here, as in NAS-Bench-201 (Dong and
    Yang, arXiv:2001.00326), instead of training. To get one row per run, take the last evaluation
    of each: ``table[table["epoch"] == table["epochs"]]``.

    Returns:
        One row per evaluation of a finished run:

        - ``run_id``, and ``studies``, the names of the studies that have the run, separated by
            commas;
        - what the run is: ``segments``, ``seed``, ``network``, ``data``, ``recipe``, ``width``,
            ``params``, ``macs``, ``epochs`` and every other field that a study sets, such as
            ``lr``, ``train_images`` or ``block``. A field that a study leaves at its default is
            missing (NaN) there;
        - its end: ``val_top1``, ``test_top1``, ``test_top5``, ``test_loss``, ``train_seconds``;
        - the evaluation: ``epoch``, ``samples`` (images seen so far), ``seconds``, and as
            ``curve_lr``, ``curve_train_loss``, ``curve_val_loss`` and ``curve_val_top1`` what the
            learning curve holds.
    """
    folder = files("spectrum.analysis")
    runs, curves = (
        pd.read_csv(str(folder / name), compression="gzip", dtype={"run_id": str}, low_memory=False)
        for name in (RUNS, CURVES)
    )
    runs["hidden"] = runs["hidden"].fillna("")
    return runs.merge(curves, on="run_id", validate="one_to_many")


def collect_benchmark(folders: Iterable[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Collect the finished runs and the curves of studies, as the files of ``load_benchmark``.

    Args:
        folders: the folders of the studies.

    Returns:
        One row per run, and one per evaluation.
    """
    runs, curves = [], []
    for folder in folders:
        rows, study = load_results(folder), read_study(folder)
        given = {f: study[f] for f in DataConfig.model_fields if f != "name" and study.get(f)}
        for table in _TABLES:
            settings = study.get(table, {}) | (given if table == "data" else {})
            for field, values in settings.items():
                name = column_name(table, field)
                if name not in rows and len(values) == 1:
                    rows[name] = values[0]
        if "tuned_lr" in rows:
            rows["lr"] = rows.pop("tuned_lr")
        runs.append(rows[rows["status"] == "done"].drop(columns=["status", "error"]))
        curves.append(load_curves(folder))
    every = pd.concat(runs, ignore_index=True)
    names = every.groupby("run_id")["study"].agg(lambda names: ",".join(dict.fromkeys(names)))
    every = every.drop(columns="study").drop_duplicates("run_id")
    every.insert(1, "studies", every["run_id"].map(names))
    evaluations = pd.concat(curves, ignore_index=True).drop_duplicates(["run_id", "epoch"])
    renamed = {name: f"curve_{name}" for name in ("lr", "train_loss", "val_loss", "val_top1")}
    return every, evaluations.rename(columns=renamed)
