"""Records runs as event files of TensorBoard."""

from __future__ import annotations

import shutil
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from spectrum.tracking.events import RunFinished, RunStarted
from spectrum.tracking.values import flatten, numbers_of, texts_of

_CURVE = "train_loss"  # which each line of a curve has
_RESULT = "result"
_LONGEST = 200  # bytes of a run's name in that of its folder


class TensorBoardTracker:
    """Writes one folder of event files per run to the folder ``tensorboard`` of the study.

    Args:
        folder: the folder of the study.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._writers: dict[str, RecordWriter] = {}

    def start(self, run: RunStarted) -> int | None:  # noqa: D102
        folder = next(self._folder.glob(f"*{run.run_id}"), None)
        last, tags = 0, set[str]()
        if folder is None:
            name = run.name.replace("/", "_").encode()[:_LONGEST].decode(errors="ignore")
            folder = self._folder / f"{name} {run.run_id}"
        else:
            stored = EventAccumulator(str(folder), {"scalars": 0}).Reload()
            tags = {*stored.Tags()["scalars"], *stored.Tags()["tensors"]}
            if _RESULT in tags:
                return None
            if _CURVE in tags:
                last = stored.Scalars(_CURVE)[-1].step
        self._writers[run.run_id] = _open_events(folder)
        if hparams.SESSION_START_INFO_TAG not in tags:
            self._write(run.run_id, hparams_pb(flatten(run.config), trial_id=run.run_id))
        return last

    def log(self, run_id: str, epoch: int, values: Mapping[str, float]) -> None:  # noqa: D102
        self._write(run_id, _scalars(values), epoch)

    def finish(self, event: RunFinished) -> None:  # noqa: D102
        values = [*_scalars(numbers_of(event.result)).value]
        if event.is_final:  # else the run is continued when it is asked for again
            rows = [f"| {name} | {text} |" for name, text in texts_of(event.result).items()]
            table = "\n".join(["| | |", "|---|---|", *rows])
            text = create_summary_metadata(_RESULT, "")
            values += [
                Summary.Value(tag=_RESULT, metadata=text, tensor=make_tensor_proto(table)),
                _end_of_session(event.result["status"] == "done"),
            ]
        self._write(event.run_id, Summary(value=values), event.result.get("epochs", 0))
        self._writers.pop(event.run_id).close()

    def add_figures(self, figures: Sequence[Path]) -> None:  # noqa: D102
        folder = self._folder / "figures"
        shutil.rmtree(folder, ignore_errors=True)
        self._writers["figures"] = _open_events(folder)
        self._write("figures", Summary(value=[_image(path) for path in figures]))

    def close(self) -> None:  # noqa: D102
        for writer in self._writers.values():
            writer.close()

    def _write(self, run_id: str, summary: Summary, step: int = 0) -> None:
        event = Event(wall_time=time.time(), step=step, summary=summary)
        self._writers[run_id].write(event.SerializeToString())


def _open_events(folder: Path) -> RecordWriter:
    """Begin an event file, which is read after those that the folder has already.

    TensorBoard's own writer of events writes in a thread, whose failures are printed at length.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / f"events.out.tfevents.{time.time_ns()}").open("xb", buffering=0)
    writer = RecordWriter(file)
    writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
    return writer


def _scalars(values: Mapping[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=n, simple_value=v) for n, v in values.items()])


def _end_of_session(succeeded: bool) -> Summary.Value:
    status = STATUS_SUCCESS if succeeded else STATUS_FAILURE
    end = SessionEndInfo(status=status, end_time_secs=time.time())
    return Summary.Value(
        tag=hparams.SESSION_END_INFO_TAG,
        metadata=hparams.create_summary_metadata(HParamsPluginData(session_end_info=end)),
        tensor=hparams.NULL_TENSOR,
    )


def _image(path: Path) -> Summary.Value:
    png = path.read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
    return Summary.Value(tag=path.stem, image=image)
