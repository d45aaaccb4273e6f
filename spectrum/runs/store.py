"""The store of runs: one folder per run, named by its id, shared by studies and processes.

A run ends here. ``result.json`` is written last, by an atomic rename, so a run is finished if that
file exists and the run's other files are those that it records. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import safetensors
import safetensors.torch
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from spectrum.analysis.folder import read_arrays
from spectrum.errors import DamagedFile
from spectrum.files import as_path, read_file, write_atomic, write_json
from spectrum.networks import NetworkConfig
from spectrum.runs.result import (
    CONFIG,
    CURVE,
    PREDICTIONS,
    RESULT,
    WEIGHTS,
    FinishedRun,
    read_finished_run,
    write_result,
)
from spectrum.training.curve import check_curve

log = logging.getLogger(__name__)

_NETWORK_KEY = "spectrum.network"  # of the network's configuration in the weights' metadata


class Store:
    """The folder of all runs.

    Args:
        root: the folder. It is created when something is written.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = as_path(root)

    def folder(self, run_id: str) -> Path:
        """The folder of a run."""
        return self.root / run_id

    def checkpoint_path(self, run_id: str) -> Path:
        """The file with the training state of an unfinished run."""
        return self.folder(run_id) / "checkpoint.pt"

    def traceback_path(self, run_id: str) -> Path:
        """The file with the traceback of a run with the status ``failed``."""
        return self.folder(run_id) / "error.txt"

    def lock(self, run_id: str) -> FileLock:
        """The lock that a process holds while it trains a run; it is freed if the process dies."""
        self.folder(run_id).mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder(run_id) / ".lock")

    def result(self, run_id: str) -> dict[str, Any] | None:
        """The result of a finished run, or None if the run isn't finished or must be done again.

        The run's files are checked too, the weights only by their size. Damage is logged.
        """
        try:
            run = self._finished(run_id)
            run.check(weights=False)
            if not run.run_id and run.result["status"] == "done":  # it has no checksums
                self.curve(run_id)
                self.correct(run_id)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            log.warning("%s; the run is done again", error)
            return None
        return run.result

    def verify(self, run_id: str) -> str | None:
        """Check all files of a finished run, its weights included.

        Returns:
            What is damaged, in one line; None if nothing is.
        """
        try:
            self._finished(run_id).check(weights=True)
        except (DamagedFile, OSError) as error:
            return str(error)
        return None

    def discard(self, run_id: str) -> None:
        """Make a damaged run unfinished, so that it is done again when it is asked for."""
        (self.folder(run_id) / RESULT).unlink(missing_ok=True)

    def _finished(self, run_id: str) -> FinishedRun:
        run = read_finished_run(self.folder(run_id))
        if run.run_id not in ("", run_id):
            raise DamagedFile(run.folder / RESULT, f"it is the result of run {run.run_id}")
        return run

    def begin(self, run_id: str, config: dict[str, Any]) -> None:
        """Write the configuration of a run; remove temporary files of a killed process."""
        folder = self.folder(run_id)
        for stale in (*folder.glob(".*.*.[0-9]*"), folder / RESULT, self.traceback_path(run_id)):
            stale.unlink(missing_ok=True)
        write_json(folder / CONFIG, config)

    def open_curve(self, run_id: str) -> TextIO:
        """Open the file of the learning curve, emptied, to write one line per evaluation."""
        return (self.folder(run_id) / CURVE).open("w", encoding="utf-8", buffering=1)

    def curve(self, run_id: str) -> list[dict[str, Any]]:
        """The evaluations of a finished run.

        Raises:
            DamagedFile: the file is missing or damaged.
            FileNotFoundError: the run isn't finished.
        """
        content = self._finished(run_id).read(CURVE)
        try:
            lines: list[dict[str, Any]] = [json.loads(line) for line in content.splitlines()]
            check_curve(lines)
        except (ValueError, RecursionError) as error:
            raise DamagedFile(self.folder(run_id) / CURVE, str(error)) from error
        return lines

    def finish(
        self,
        run_id: str,
        result: dict[str, Any],
        network: nn.Module | None = None,
        config: NetworkConfig | None = None,
        correct: Tensor | None = None,
        precision: Tensor | None = None,
        code_modules: Sequence[str] = (),
    ) -> None:
        """Write the files of a finished run, ``result.json`` last, and remove its checkpoint.

        Args:
            run_id: the id of the run.
            result: plain values, ``status`` among them.
            network: the trained network; None if the run diverged.
            config: its configuration, which is stored in the metadata of the weights.
            correct: (N,) bool, whether each test example is classified correctly.
            precision: (N,) float32, the average precision of each test example, if examples can
                have several labels.
            code_modules: the modules whose code a user's own network consists of.
        """
        folder = self.folder(run_id)
        if network is not None and config is not None:
            metadata = {_NETWORK_KEY: config.model_dump_json()}
            tensors = {name: t.contiguous().cpu() for name, t in network.state_dict().items()}
            weights = safetensors.torch.save(tensors, metadata)
            write_atomic(folder / WEIGHTS, lambda file: file.write(weights))
        if correct is not None:
            arrays: dict[str, Any] = {"correct": correct.numpy()}
            if precision is not None:
                arrays["average_precision"] = precision.numpy()
            write_atomic(folder / PREDICTIONS, lambda file: np.savez_compressed(file, **arrays))
        write_result(folder, run_id, result, code_modules)
        self.drop_checkpoint(run_id)

    def correct(self, run_id: str) -> NDArray[np.bool_]:
        """Whether a finished run classifies each test example correctly, (N,).

        Raises:
            DamagedFile: the file is missing or damaged.
            FileNotFoundError: the run isn't finished.
        """
        return self._read_predictions(run_id, "correct", np.dtype(bool))

    def average_precision(self, run_id: str) -> NDArray[np.float32]:
        """The average precision of each test example of a finished run, (N,); NaN without labels.

        Raises:
            DamagedFile: the file is missing or damaged, or each example has exactly one class.
            FileNotFoundError: the run isn't finished.
        """
        return self._read_predictions(run_id, "average_precision", np.dtype(np.float32))

    def _read_predictions(self, run_id: str, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        self._finished(run_id).read(PREDICTIONS)
        return read_arrays(self.folder(run_id) / PREDICTIONS, dtype, [name])[name]

    def save_initial_weights(self, fingerprint: str, tensors: Mapping[str, Tensor]) -> None:
        """Save weights that runs start from under their fingerprint, unless they are there."""
        try:
            self.load_initial_weights(fingerprint)
        except ValueError:
            path = self._initial_weights_path(fingerprint)
            path.parent.mkdir(parents=True, exist_ok=True)
            weights = safetensors.torch.save({k: t.contiguous() for k, t in tensors.items()})
            write_atomic(path, lambda file: file.write(weights))

    def load_initial_weights(self, fingerprint: str) -> dict[str, Tensor]:
        """Load the weights with this fingerprint, from which a run starts.

        Raises:
            DamagedFile: the file is missing, or doesn't hold these weights.
        """
        path = self._initial_weights_path(fingerprint)
        try:
            tensors = safetensors.torch.load(read_file(path))
        except OSError as error:
            raise DamagedFile(path, f"it can't be read ({error.strerror})") from error
        except (SafetensorError, ValueError, RuntimeError) as error:
            raise DamagedFile(path, str(error).splitlines()[0]) from error
        if hash_tensors(tensors) != fingerprint:
            raise DamagedFile(path, "it holds other weights")
        return tensors

    def _initial_weights_path(self, fingerprint: str) -> Path:
        return self.root / "starts" / f"{fingerprint}.safetensors"

    def drop_checkpoint(self, run_id: str) -> None:
        """Remove the checkpoint of a finished run, if there is one."""
        self.checkpoint_path(run_id).unlink(missing_ok=True)


def stored_network(path: Path) -> dict[str, Any]:
    """The fields of ``NetworkConfig`` in the metadata of a run's weights; {} for other files."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_NETWORK_KEY)
        return NetworkConfig.model_validate_json(text).model_dump() if text else {}
    except (SafetensorError, OSError, ValueError):  # not the weights of a run
        return {}


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """A fingerprint of tensors: 16 hexadecimal digits that depend on their names and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
