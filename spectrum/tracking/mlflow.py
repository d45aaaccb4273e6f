"""Records runs in an MLflow store."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from spectrum.tracking.events import RunFinished, RunStarted
from spectrum.tracking.values import flatten, numbers_of, texts_of

_RUN_ID = "spectrum.run_id"
_RECORDED = "spectrum.recorded"  # the tag of a run of which all is recorded
_CURVE = "train_loss"  # which each line of a curve has


class MlflowTracker:
    """Records the runs of a study as the runs of an experiment of that name.

    The store is the one that ``MLFLOW_TRACKING_URI`` names, or else ``mlflow.db`` in the folder of
    all studies.

    Args:
        study: the name of the study.
        folder: its folder.
    """

    def __init__(self, study: str, folder: Path) -> None:
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of each table it makes
        logging.getLogger("alembic").setLevel(logging.WARNING)
        folder, uri, place = folder.resolve(), None, None
        if not mlflow.is_tracking_uri_set():
            uri, place = f"sqlite:///{folder.parent / 'mlflow.db'}", (folder / "mlflow").as_uri()
        self._client = MlflowClient(uri)
        experiment = self._client.get_experiment_by_name(study)
        self._experiment = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment(study, artifact_location=place)
        )
        self._study = study
        self._open: dict[str, str] = {}  # MLflow's own ids of the runs that it records now

    def start(self, run: RunStarted) -> int | None:  # noqa: D102
        found = self._find_or_create(run.run_id, run.name)
        if _RECORDED in found.data.tags:
            return None
        self._open[run.run_id] = found.info.run_id
        self._client.update_run(found.info.run_id, status="RUNNING")
        if not found.data.params:
            params = [Param(name, str(value)) for name, value in flatten(run.config).items()]
            self._client.log_batch(found.info.run_id, params=params)
        history = self._client.get_metric_history(found.info.run_id, _CURVE)
        return max((metric.step for metric in history), default=0)

    def log(self, run_id: str, epoch: int, values: Mapping[str, float]) -> None:  # noqa: D102
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, epoch) for name, value in values.items()]
        self._client.log_batch(self._open[run_id], metrics=metrics)

    def finish(self, event: RunFinished) -> None:  # noqa: D102
        self.log(event.run_id, event.result.get("epochs", 0), numbers_of(event.result))
        own_id = self._open.pop(event.run_id)
        for name, text in texts_of(event.result).items():
            self._client.set_tag(own_id, f"result.{name}", text)
        statuses = {"done": "FINISHED", "stopped": "KILLED"}
        self._client.set_terminated(own_id, statuses.get(event.result["status"], "FAILED"))
        if event.is_final:
            self._client.set_tag(own_id, _RECORDED, "yes")

    def add_figures(self, figures: Sequence[Path]) -> None:  # noqa: D102
        own_id = self._find_or_create("figures", self._study).info.run_id
        for path in figures:
            self._client.log_artifact(own_id, str(path))
        self._client.set_terminated(own_id)

    def close(self) -> None:  # noqa: D102
        for own_id in self._open.values():
            self._client.set_terminated(own_id, "KILLED")

    def _find_or_create(self, run_id: str, name: str) -> Any:
        found = self._client.search_runs([self._experiment], f"tags.`{_RUN_ID}` = '{run_id}'")
        if found:
            return found[0]
        return self._client.create_run(self._experiment, tags={_RUN_ID: run_id}, run_name=name)
