"""Records runs in Weights & Biases."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from spectrum.tracking.events import RunFinished, RunStarted
from spectrum.tracking.values import numbers_of, texts_of


class WandbTracker:
    """Records the runs of a study as the runs of a group of that name.

    The project is the one that ``WANDB_PROJECT`` names, or else ``spectrum``. Offline, W&B can't be
    asked what it has of a run, and a killed process leaves a file that may lack epochs. So such a
    file is written anew, and the folder ``wandb/recorded`` of the study names what is complete.

    Args:
        study: the name of the study.
        folder: its folder.
    """

    def __init__(self, study: str, folder: Path) -> None:
        self._study = study
        self._folder = folder
        self._recorded = folder / "wandb" / "recorded"
        self._recorded.mkdir(parents=True, exist_ok=True)
        self._runs: dict[str, Any] = {}

    def start(self, run: RunStarted) -> int | None:  # noqa: D102
        if self._read(run.run_id):
            return None
        self._runs[run.run_id] = own = self._init(run.run_id, run.name, run.config)
        return max(int(own.step) - 1, 0)  # the next step, which is 0 for a new run

    def log(self, run_id: str, epoch: int, values: Mapping[str, float]) -> None:  # noqa: D102
        self._runs[run_id].log(dict(values), step=epoch)

    def finish(self, event: RunFinished) -> None:  # noqa: D102
        run = self._runs.pop(event.run_id)
        run.summary.update({**numbers_of(event.result), **texts_of(event.result)})
        run.finish(exit_code=0 if event.result["status"] == "done" else 1)
        if event.is_final:
            self._write(event.run_id, "complete")

    def add_figures(self, figures: Sequence[Path]) -> None:  # noqa: D102
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in figures)).hexdigest()
        if not figures or self._read("figures") == digest:
            return
        run = self._init("figures", self._study, {})
        run.log({path.stem: wandb.Image(str(path)) for path in figures})
        run.finish()
        self._write("figures", digest)

    def close(self) -> None:  # noqa: D102
        for run in self._runs.values():
            run.finish(exit_code=1)

    def _init(self, run_id: str, name: str, config: Mapping[str, Any]) -> Any:
        own_id = f"{run_id}-{hashlib.sha256(self._study.encode()).hexdigest()[:8]}"
        for earlier in (self._folder / "wandb").glob(f"offline-run-*-{own_id}"):
            shutil.rmtree(earlier)
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "spectrum"),
            group=self._study,
            id=own_id,
            name=name,
            config=dict(config),
            dir=self._folder,
            resume="allow",
            reinit="create_new",
            # What this process prints, and its load, are of many runs. Its arguments may be secret.
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, x_disable_meta=True
            ),
        )

    def _read(self, run_id: str) -> str:
        path = self._recorded / run_id
        return path.read_text() if path.exists() else ""

    def _write(self, run_id: str, text: str) -> None:
        (self._recorded / run_id).write_text(text)
