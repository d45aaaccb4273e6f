"""What a finished run leaves in its folder, and the check that it is what the run wrote.

``result.json`` records the size and the checksum of the run's other files, and has a checksum of
its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, TypeAdapter

from spectrum.errors import DamagedFile, FieldError, counted
from spectrum.fields import Share, Stored, check_stored
from spectrum.files import read_checked_json, read_file, write_checked_json

RESULT, CONFIG, CURVE = "result.json", "config.json", "curve.jsonl"
PREDICTIONS, WEIGHTS = "predictions.npz", "weights.safetensors"
FILES_OF = {
    "done": (CONFIG, CURVE, PREDICTIONS, WEIGHTS),
    "diverged": (CONFIG, CURVE),
}
"""The files that a run of each final status has beside its result."""


class _FileRecord(Stored):
    """The size of a file in bytes, and the SHA-256 of its content in hexadecimal digits."""

    size: NonNegativeInt
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Result(Stored):
    error: str
    device: str
    threads: PositiveInt
    # Results were written without the rest before it was introduced.
    processes: PositiveInt = 1
    processor: str = ""
    cpu_capability: str = ""
    python: str = ""
    torch: str = ""
    spectrum: str = ""
    plans: str = ""


class _Done(_Result):
    status: Literal["done"]
    epochs: PositiveInt
    val_top1: Share
    test_top1: Share
    test_top5: Share
    test_loss: NonNegativeFloat
    val_map: Share | None = None
    test_map: Share | None = None
    train_seconds: NonNegativeFloat
    images_per_second: NonNegativeFloat


class _Diverged(_Result):
    status: Literal["diverged"]


class _Record(Stored):
    run_id: str
    files: dict[str, _FileRecord]
    code_modules: list[str] = Field(default=[])


_RESULTS: dict[str, TypeAdapter[Any]] = {
    "done": TypeAdapter(_Done),
    "diverged": TypeAdapter(_Diverged),
}
_RECORD = TypeAdapter(_Record)


@dataclass(frozen=True)
class FinishedRun:
    """A run whose ``result.json`` has been read.

    Attributes:
        folder: the folder of the run.
        result: what the run measured, as plain values.
        run_id: the id of the run; "" if an earlier version wrote it, which didn't record it.
        code_modules: the modules with the code of a user's own network.
    """

    folder: Path
    result: dict[str, Any]
    run_id: str = ""
    code_modules: tuple[str, ...] = ()
    _files: dict[str, _FileRecord] = field(default_factory=dict)

    def check(self, *, weights: bool) -> None:
        """Checks all files that the run must have.

        Args:
            weights: whether the content of the weights is checked too; else only their size is.

        Raises:
            DamagedFile: a file is missing, or isn't what the run wrote.
        """
        for name in FILES_OF[self.result["status"]]:
            if name == WEIGHTS and not weights:
                path = self.folder / name
                self._check_size(name, path.stat().st_size if path.is_file() else 0)
            else:
                self.read(name)

    def read(self, name: str) -> bytes:
        """The content of a file of the run, after it is checked.

        Raises:
            DamagedFile: the file is missing, or isn't what the run wrote.
        """
        path = self.folder / name
        try:
            content = read_file(path)
        except OSError as error:
            raise DamagedFile(path, f"it can't be read ({error.strerror})") from error
        self._check_size(name, len(content))
        # Earlier versions recorded no checksums.
        if name in self._files and self._files[name].sha256 != _sha256(content):
            raise DamagedFile(path, "its content isn't what the run wrote")
        return content

    def _check_size(self, name: str, size: int) -> None:
        if name in self._files:
            written = self._files[name].size
            if size != written:
                reason = f"it has {counted(size, 'byte')}, the run wrote {written:,}"
                raise DamagedFile(self.folder / name, reason)
        elif size == 0 and self.result["status"] == "done":
            raise DamagedFile(self.folder / name, "it is missing or empty")


def read_finished_run(folder: Path) -> FinishedRun:
    """Reads and checks the result of a run.

    Raises:
        FileNotFoundError: the run isn't finished.
        NotADirectoryError: the folder is a file.
        DamagedFile: the file isn't what the run wrote.
    """
    path = folder / RESULT
    values = read_checked_json(path, unchecked=True)
    recorded = {name: values.pop(name) for name in _Record.model_fields if name in values}
    try:
        _check_result(values)
        if not recorded:  # written by an earlier version
            return FinishedRun(folder, values)
        record = check_stored(_RECORD, recorded)
        if set(FILES_OF[values["status"]]) - record.files.keys():
            raise FieldError("files", sorted(record.files), "lacks files of the run")
    except ValueError as error:
        raise DamagedFile(path, str(error)) from error
    return FinishedRun(folder, values, record.run_id, tuple(record.code_modules), record.files)


def write_result(
    folder: Path, run_id: str, result: dict[str, Any], code_modules: Sequence[str]
) -> None:
    """Writes ``result.json``, with the sizes and checksums of the files that are in the folder."""
    files = {}
    for name in FILES_OF[result["status"]]:
        content = (folder / name).read_bytes()
        files[name] = {"size": len(content), "sha256": _sha256(content)}
    record = {"run_id": run_id, "files": files, "code_modules": list(code_modules)}
    write_checked_json(folder / RESULT, {**result, **record})


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check_result(values: dict[str, Any]) -> None:
    status = values.get("status")
    if not isinstance(status, str) or status not in _RESULTS:
        raise FieldError("status", status, f"must be {' or '.join(_RESULTS)}")
    check_stored(_RESULTS[status], values)
