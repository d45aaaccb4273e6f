"""What each tracker holds of a study, read by its own reader, as far as it has one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

TRACKERS = ("tensorboard", "mlflow", "wandb")


class Recorded(NamedTuple):
    """What a tracker holds of one run.

    Attributes:
        name: the name of the run.
        config: the configuration by flat names, as texts.
        curve: each value of the learning curve with its epoch, by its name, in order.
        result: the numbers of the result, by names such as ``result/test_top1``.
        status: the status of the result; "" if there is none.
    """

    name: str
    config: dict[str, str]
    curve: dict[str, list[tuple[int, float]]]
    result: dict[str, float]
    status: str


def read_runs(tracker: str, out: Path, study: str) -> dict[str, Recorded]:
    """What a tracker holds of each run of a study, by run id."""
    readers = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
    runs = list(readers[tracker](out, study))
    assert len(dict(runs)) == len(runs), "a run is there twice"
    return dict(runs)


def read_figures(tracker: str, out: Path, study: str) -> dict[str, bytes]:
    """The figures that a tracker holds of a study, by their names."""
    if tracker == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        stored = EventAccumulator(str(out / study / "tensorboard" / "figures")).Reload()
        return {
            tag: image.encoded_image_string
            for tag in stored.Tags()["images"]
            for image in stored.Images(tag)
        }
    if tracker == "mlflow":
        client = _mlflow_client(out)
        (run,) = _mlflow_runs(client, study, "figures")
        paths = (
            Path(client.download_artifacts(run.info.run_id, file.path))
            for file in client.list_artifacts(run.info.run_id)
        )
        return {path.stem: path.read_bytes() for path in paths}
    (folder,) = (out / study / "wandb").glob("*run-*-figures-*")
    (images,) = (record["history"]["item"] for record in _records(folder) if "history" in record)
    return {
        name.removesuffix(".path"): (folder / "files" / value).read_bytes()
        for name, value in images.items()
        if name.endswith(".path")
    }


def _tensorboard(out: Path, study: str) -> Iterator[tuple[str, Recorded]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata
    from tensorboard.util.tensor_util import make_ndarray

    for folder in (out / study / "tensorboard").glob("* *"):
        name, _, run_id = folder.name.rpartition(" ")
        stored = EventAccumulator(str(folder), {"scalars": 0, "tensors": 0}).Reload()
        scalars = {
            tag: [(event.step, event.value) for event in stored.Scalars(tag)]
            for tag in stored.Tags()["scalars"]
        }
        plugin = stored.PluginTagToContent("hparams")[metadata.SESSION_START_INFO_TAG]
        config = {
            key: str(getattr(value, value.WhichOneof("kind")))
            for key, value in metadata.parse_session_start_info_plugin_data(plugin).hparams.items()
        }
        status = ""
        if "result" in stored.Tags()["tensors"]:
            (text,) = stored.Tensors("result")
            (status,) = re.findall(r"\| status \| (\w+) \|", str(make_ndarray(text.tensor_proto)))
        yield run_id, _recorded(name, config, scalars, status)


def _recorded(
    name: str, config: dict[str, str], scalars: dict[str, list[tuple[int, float]]], status: str
) -> Recorded:
    curve = {key: values for key, values in scalars.items() if not key.startswith("result/")}
    result = {key: values[-1][1] for key, values in scalars.items() if key.startswith("result/")}
    return Recorded(name, config, curve, result, status)


def _mlflow_client(out: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{out / 'mlflow.db'}")


def _mlflow_runs(client: Any, study: str, run_id: str = "%") -> list[Any]:
    experiment = client.get_experiment_by_name(study).experiment_id
    return [*client.search_runs([experiment], f"tags.`spectrum.run_id` LIKE '{run_id}'")]


def _mlflow(out: Path, study: str) -> Iterator[tuple[str, Recorded]]:
    client = _mlflow_client(out)
    for run in _mlflow_runs(client, study):
        tags = run.data.tags
        if tags["spectrum.run_id"] == "figures":
            continue
        histories = (client.get_metric_history(run.info.run_id, key) for key in run.data.metrics)
        scalars = {
            history[0].key: [(metric.step, metric.value) for metric in history]
            for history in histories
        }
        status = tags.get("result.status", "")
        assert run.info.status == {"done": "FINISHED", "": "KILLED"}.get(status, "FAILED")
        yield (
            tags["spectrum.run_id"],
            _recorded(run.info.run_name, run.data.params, scalars, status),
        )


def _wandb(out: Path, study: str) -> Iterator[tuple[str, Recorded]]:
    folders: dict[str, list[Path]] = {}
    for folder in sorted((out / study / "wandb").glob("offline-run-*-*-*")):
        folders.setdefault(folder.name.split("-")[3], []).append(folder)
    for run_id, attempts in folders.items():
        if run_id == "figures":
            continue
        name, config, summary = "", {}, dict[str, Any]()
        scalars: dict[str, list[tuple[int, float]]] = {}
        for record in (record for folder in attempts for record in _records(folder)):
            if "run" in record:
                assert record["run"]["run_group"] == study
                name = record["run"]["display_name"]
                config = dict(_flat(record["run"]["config"]["update"]))
            summary |= record.get("summary", {}).get("update", {})
            for key, value in record.get("history", {}).get("item", {}).items():
                if not key.startswith("_"):
                    scalars.setdefault(key, []).append((record["history"]["step"]["num"], value))
        results = {key: value for key, value in summary.items() if key.startswith("result/")}
        scalars |= {key: [(0, value)] for key, value in results.items()}
        yield run_id, _recorded(name, config, scalars, summary.get("status", ""))


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, str(value)


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a run, as W&B reads its own file."""
    (path,) = folder.glob("run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    read = subprocess.run(command, capture_output=True, text=True, check=True)
    assert read.stderr == ""
    yield from map(json.loads, read.stdout.splitlines())
