"""The store of runs: one folder per run, named by its id, shared by studies and processes.

A run ends here. ``result.json`` is written last, by an atomic rename, so a run is finished if and
only if that file exists. Nothing is unpickled.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import safetensors
import safetensors.torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from spectrum.analysis.folder import read_arrays
from spectrum.errors import FieldError
from spectrum.files import write_atomic, write_json
from spectrum.networks import NetworkConfig, build_on_meta, code_fingerprint

log = logging.getLogger(__name__)

_NETWORK_KEY = "spectrum.network"  # of the network's configuration in the weights' metadata


class Store:
    """The folder of all runs.

    Args:
        root: the folder. It is created when something is written.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

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
        """The result of a finished run, or None. A damaged file is logged and counts as None."""
        path = self.folder(run_id) / "result.json"
        try:
            result = json.loads(path.read_bytes())
            status = result["status"]
            complete = status == "diverged" or (status == "done" and "test_top1" in result)
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError):
            complete = False
        if not complete:
            log.warning("%s is damaged, the run is done again", path)
            return None
        return result  # type: ignore[no-any-return]

    def begin(self, run_id: str, config: dict[str, Any]) -> None:
        """Write the configuration of a run; remove temporary files of a killed process."""
        folder = self.folder(run_id)
        for temporary in folder.glob(".*.*.[0-9]*"):
            temporary.unlink()
        self.traceback_path(run_id).unlink(missing_ok=True)
        write_json(folder / "config.json", config)

    def open_curve(self, run_id: str) -> TextIO:
        """Open the file of the learning curve, emptied, to write one line per evaluation."""
        return (self.folder(run_id) / "curve.jsonl").open("w", encoding="utf-8", buffering=1)

    def curve(self, run_id: str) -> list[dict[str, Any]]:
        """The evaluations of a finished run; a missing or damaged file is logged and gives []."""
        path = self.folder(run_id) / "curve.jsonl"
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError):
            log.warning("%s can't be read, the figures leave it out", path)
            return []

    def finish(
        self,
        run_id: str,
        result: dict[str, Any],
        network: nn.Module | None = None,
        config: NetworkConfig | None = None,
        correct: Tensor | None = None,
        precision: Tensor | None = None,
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
        """
        folder = self.folder(run_id)
        if network is not None and config is not None:
            metadata = {_NETWORK_KEY: config.model_dump_json()}
            tensors = {name: t.contiguous().cpu() for name, t in network.state_dict().items()}
            weights = safetensors.torch.save(tensors, metadata)
            write_atomic(folder / "weights.safetensors", lambda file: file.write(weights))
        if correct is not None:
            arrays: dict[str, Any] = {"correct": correct.numpy()}
            if precision is not None:
                arrays["average_precision"] = precision.numpy()
            write_atomic(
                folder / "predictions.npz", lambda file: np.savez_compressed(file, **arrays)
            )
        write_json(folder / "result.json", result)
        self.drop_checkpoint(run_id)

    def correct(self, run_id: str) -> NDArray[np.bool_]:
        """Whether a finished run classifies each test example correctly, (N,).

        Raises:
            ValueError: the file is missing or damaged.
        """
        return self._read_predictions(run_id, "correct", np.dtype(bool))

    def average_precision(self, run_id: str) -> NDArray[np.float32]:
        """The average precision of each test example of a finished run, (N,); NaN without labels.

        Raises:
            ValueError: the file is missing or damaged, or each example has exactly one class.
        """
        return self._read_predictions(run_id, "average_precision", np.dtype(np.float32))

    def _read_predictions(self, run_id: str, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        return read_arrays(self.folder(run_id) / "predictions.npz", dtype, [name])[name]

    def save_initial_weights(self, fingerprint: str, tensors: Mapping[str, Tensor]) -> None:
        """Save weights that runs start from under their fingerprint, unless they are there."""
        path = self._initial_weights_path(fingerprint)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            weights = safetensors.torch.save({k: t.contiguous() for k, t in tensors.items()})
            write_atomic(path, lambda file: file.write(weights))

    def load_initial_weights(self, fingerprint: str) -> dict[str, Tensor]:
        """Load the weights with this fingerprint, from which a run starts."""
        return safetensors.torch.load(self._initial_weights_path(fingerprint).read_bytes())

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


def load_run(folder: Path | str) -> nn.Module:
    """Load the trained network of a run, in eval mode on the CPU.

    Warns if the code of a user's own model has changed since the run.

    Args:
        folder: the folder of the run, such as ``outputs/runs/<id>``.

    Raises:
        ValueError: the folder holds no finished run, or its files are damaged.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_bytes())
        network = build_on_meta(NetworkConfig(**config["network"]))
        weights = safetensors.torch.load((folder / "weights.safetensors").read_bytes())
        network.load_state_dict(weights, assign=True)
        code = config.get("code", "")
        if code and code != code_fingerprint(config["network"]["name"], network):
            warnings.warn(
                f"the code of {config['network']['name']} has changed since this run",
                stacklevel=2,
            )
    except (FileNotFoundError, NotADirectoryError) as error:
        name = Path(error.filename).name
        raise FieldError("folder", folder, f"must hold a finished run; no {name}") from None
    except (ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise FieldError("folder", folder, f"holds a damaged run: {reason}") from error
    return network.eval()
