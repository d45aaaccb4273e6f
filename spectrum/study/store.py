"""Runs on disk: a folder each, named by the run's id, shared by studies and processes.

``result.json`` is written last and whole: where it is, the run is finished. Nothing is unpickled.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import safetensors
import safetensors.torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from spectrum.costs import build_on_meta
from spectrum.networks import NetworkConfig, code_fingerprint
from spectrum.training.checkpoint import write_whole

__all__ = ["Store", "load_run", "stored_network"]

log = logging.getLogger(__name__)

_NETWORK = "spectrum.network"  # the key of a configuration in the metadata of a run's weights


class Store:
    """The folder of all runs.

    Args:
        root: the folder; it is made when something is written.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def folder(self, run_id: str) -> Path:
        """Where the files of a run are."""
        return self.root / run_id

    def checkpoint(self, run_id: str) -> Path:
        """The state of a run that is training."""
        return self.folder(run_id) / "checkpoint.pt"

    def error(self, run_id: str) -> Path:
        """The traceback of a run that failed for no foreseen reason."""
        return self.folder(run_id) / "error.txt"

    def lock(self, run_id: str) -> FileLock:
        """What the process that trains a run holds; the system frees it when that process ends."""
        self.folder(run_id).mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder(run_id) / ".lock")

    def result(self, run_id: str) -> dict[str, Any] | None:
        """The result of a finished run, or None; a damaged file is logged and counts as none."""
        path = self.folder(run_id) / "result.json"
        try:
            result = json.loads(path.read_bytes())
            status = result["status"]
            whole = status == "diverged" or (status == "done" and "test_top1" in result)
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError):
            whole = False
        if not whole:
            log.warning("%s is damaged, the run is done again", path)
            return None
        return result  # type: ignore[no-any-return]

    def begin(self, run_id: str, config: dict[str, Any]) -> None:
        """Write the configuration, and clear what a killed process left half written."""
        folder = self.folder(run_id)
        for unfinished in folder.glob(".*.*.[0-9]*"):
            unfinished.unlink()
        self.error(run_id).unlink(missing_ok=True)
        write_json(folder / "config.json", config)

    def open_curve(self, run_id: str) -> TextIO:
        """The learning curve, emptied, to be written a line an evaluation."""
        return (self.folder(run_id) / "curve.jsonl").open("w", encoding="utf-8", buffering=1)

    def curve(self, run_id: str) -> list[dict[str, Any]]:
        """The learning curve of a finished run, an evaluation each; empty where it isn't there."""
        path = self.folder(run_id) / "curve.jsonl"
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError):
            log.warning("%s can't be read, the figures go without it", path)
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
        """Write a run's outcome, ``result.json`` last, and drop its checkpoint.

        Args:
            run_id: the run.
            result: plain values, ``status`` among them.
            network: the trained network, if there is one.
            config: what it is; it stands in the file of its weights as well.
            correct: (N,) bool, whether each test example is classified correctly.
            precision: (N,) float32, the average precision of each, where it has several labels.
        """
        folder = self.folder(run_id)
        if network is not None and config is not None:
            metadata = {_NETWORK: config.model_dump_json()}
            tensors = {name: t.contiguous().cpu() for name, t in network.state_dict().items()}
            weights = safetensors.torch.save(tensors, metadata)
            write_whole(folder / "weights.safetensors", lambda file: file.write(weights))
        if correct is not None:
            arrays: dict[str, Any] = {"correct": correct.numpy()}
            if precision is not None:
                arrays["average_precision"] = precision.numpy()
            write_whole(
                folder / "predictions.npz", lambda file: np.savez_compressed(file, **arrays)
            )
        write_json(folder / "result.json", result)
        self.drop_checkpoint(run_id)

    def correct(self, run_id: str) -> NDArray[np.bool_]:
        """Whether a finished run classifies each test example correctly, (N,).

        Raises:
            ValueError: the file is missing or damaged.
        """
        return self._predicted(run_id, "correct", np.dtype(bool))

    def average_precision(self, run_id: str) -> NDArray[np.float32]:
        """The average precision of each test example of a finished run, (N,); NaN without labels.

        Raises:
            ValueError: the file is missing or damaged, or examples have one class each.
        """
        return self._predicted(run_id, "average_precision", np.dtype(np.float32))

    def _predicted(self, run_id: str, name: str, kind: np.dtype[Any]) -> NDArray[Any]:
        path = self.folder(run_id) / "predictions.npz"
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                found = file[name]
        except FileNotFoundError:
            raise ValueError(f"{path} is missing, it holds what a finished run got right") from None
        except Exception as error:  # a damaged archive makes its readers raise all kinds
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"{path} is damaged: {reason}") from error
        if found.dtype != kind or found.ndim != 1:
            raise ValueError(f"{path} is damaged: {found.dtype} {found.shape} is not (N,) {kind}")
        return np.asarray(found)

    def keep_start(self, fingerprint: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep weights that runs start from, by their fingerprint, unless they are there."""
        path = self._start(fingerprint)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            weights = safetensors.torch.save({k: t.contiguous() for k, t in tensors.items()})
            write_whole(path, lambda file: file.write(weights))

    def start(self, fingerprint: str) -> dict[str, Tensor]:
        """The weights that a run starts from."""
        return safetensors.torch.load(self._start(fingerprint).read_bytes())

    def _start(self, fingerprint: str) -> Path:
        return self.root / "starts" / f"{fingerprint}.safetensors"

    def drop_checkpoint(self, run_id: str) -> None:
        """Remove the state of a run that is finished."""
        self.checkpoint(run_id).unlink(missing_ok=True)


def write_json(path: Path, values: dict[str, Any] | Sequence[Any]) -> None:
    """Write plain values as JSON, whole."""
    text = json.dumps(values, indent=2, allow_nan=True) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def stored_network(path: Path) -> dict[str, Any]:
    """The fields of the network that stand in a run's weights; none in other files."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_NETWORK)
        return NetworkConfig.model_validate_json(text).model_dump() if text else {}
    except (SafetensorError, OSError, ValueError):  # a file of another kind
        return {}


def load_run(folder: Path | str) -> nn.Module:
    """The trained network of a run, in eval mode on the CPU.

    Args:
        folder: of the run, as in ``outputs/runs/<id>``.

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
                f"the code of {config['network']['name']} isn't what it was in this run",
                stacklevel=2,
            )
    except (FileNotFoundError, NotADirectoryError) as error:
        name = Path(error.filename).name
        raise ValueError(f"folder (={folder}) must hold a finished run; no {name}") from None
    except (ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"folder (={folder}) holds a damaged run: {reason}") from error
    return network.eval()
