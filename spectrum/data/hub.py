"""Loads tables through Hugging Face's ``datasets``, and explains its errors in one line.

The versions of ``datasets`` that are supported never run the code of a data set.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from spectrum.data.cache import cache_path, read_array, write_array
from spectrum.user_code import describe_error

_TIMEOUT = 10.0  # seconds in which the hub has to say whether it has a data set
_NAME = re.compile(r"(?!.*(--|\.\.))\w[\w.-]*(/\w[\w.-]*)?")


def load_files(files: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Load Parquet files as ``datasets.Dataset`` values, one for each split.

    Args:
        files: the paths of each split's files.

    Raises:
        ValueError: ``datasets`` isn't installed, or can't read the files.
    """
    library = datasets_library()
    if any("::" in path for paths in files.values() for path in paths):
        raise ValueError("must have no :: in a file's path")
    patterns = {split: [escape(path) for path in paths] for split, paths in files.items()}
    key = hashlib.sha256(f"{library.config.HF_DATASETS_CACHE}\0{patterns}".encode()).hexdigest()
    record = cache_path(f"{key[:32]}.tables")

    def load(anew: bool) -> dict[str, Any]:
        mode = "force_redownload" if anew else None
        return dict(
            library.load_dataset(
                "parquet", data_files=patterns, keep_in_memory=False, download_mode=mode
            )
        )

    with _silence(library):
        try:
            try:
                tables = load(anew=_has_changed(record))
            except Exception:  # perhaps because the library's cache is damaged
                tables = load(anew=True)
        except Exception as error:  # from many libraries, and from what is in the files
            raise ValueError(_explain(error, library)) from None
    _record(record, [file["filename"] for table in tables.values() for file in table.cache_files])
    return tables


def load_from_hub(name: str) -> dict[str, Any]:
    """Load a data set of the hub, or of its local cache if the hub can't be reached.

    Args:
        name: ``owner/name``, followed by ``@`` and a configuration if it has several.

    Returns:
        A ``datasets.Dataset`` for each split.

    Raises:
        ValueError: ``datasets`` isn't installed; the hub doesn't have the data set or the
            configuration, doesn't allow access, or can't be reached; or the disk is full.
    """
    library = datasets_library()
    repository, _, config = name.partition("@")
    # load_dataset takes the name of a format for the files in the current folder.
    is_format = repository.isidentifier() and find_spec(f"datasets.packaged_modules.{repository}")
    if not _NAME.fullmatch(repository) or is_format:
        raise ValueError("must be hub:NAME[@CONFIG], with a name such as owner/name")
    with _silence(library):
        offline = library.config.HF_HUB_OFFLINE
        unreachable = "HF_HUB_OFFLINE forbids asking the hub"
        if not offline:
            unreachable = _why_unreachable(repository, library)
        try:
            # If the hub can't be reached, load_dataset would retry for minutes.
            library.config.HF_HUB_OFFLINE = bool(unreachable)
            # Without this prefix, load_dataset would prefer a local folder of this name.
            path = f"hf://datasets/{repository}"
            return dict(library.load_dataset(path, config or None, keep_in_memory=False))
        except Exception as error:  # from many libraries, and from what is in the files
            if not isinstance(error, ConnectionError):
                raise ValueError(_explain(error, library)) from None
            reason = unreachable or "the hub can't be reached"
            cache = library.config.HF_DATASETS_CACHE
            raise ValueError(f"isn't in the cache {cache}, and {reason}") from None
        finally:
            library.config.HF_HUB_OFFLINE = offline


def _has_changed(record: Path | None) -> bool:
    """Whether files in the cache of ``datasets``, which has no checksums, aren't as recorded."""
    recorded = read_array(record, np.dtype(np.uint8))
    lines = b"" if recorded is None else recorded.tobytes()
    return any(_line(line.partition(b"\0")[0]) != line for line in lines.splitlines())


def _record(record: Path | None, files: Sequence[str]) -> None:
    lines = b"\n".join(map(_line, map(os.fsencode, files)))
    write_array(record, np.frombuffer(lines, np.uint8))


def _line(file: bytes) -> bytes:
    """The name of a file with its size and times of change."""
    try:
        status = os.stat(file)
    except OSError:
        return file
    return b"%b\0%d %d %d" % (file, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def cache_folders() -> tuple[str, ...]:
    """The folders into which ``datasets`` downloads the files of the hub."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return str(datasets_library().config.HF_DATASETS_CACHE), HF_HUB_CACHE


def datasets_library() -> Any:
    """Import Hugging Face's ``datasets``, which reads all tables.

    Raises:
        ValueError: it isn't installed.
    """
    try:
        import datasets
    except ImportError as error:
        missing = error.name or "datasets"
        raise ValueError(f"needs {missing}: pip install 'segment-spectrum[data]'") from None
    return datasets


def _why_unreachable(repository: str, library: Any) -> str:
    """Ask the hub about a data set, and return why it can't be reached; an empty text if it can.

    Raises:
        ValueError: the hub says that this user can't have the data set.
    """
    import huggingface_hub

    hub = huggingface_hub.HfApi(endpoint=library.config.HF_ENDPOINT)
    try:
        hub.dataset_info(repository, timeout=_TIMEOUT)
    except Exception as error:  # the network can cause any exception
        status = _http_status(error)
        if status is not None and status < 500 and status != 429:
            raise ValueError(_explain(error, library)) from None
        return f"{library.config.HF_ENDPOINT} can't be reached ({describe_error(error)})"
    return ""


@contextmanager
def _silence(library: Any) -> Iterator[None]:
    """Hide warnings and logs, and progress bars unless standard error is a terminal."""
    disabled = logging.root.manager.disable
    hides_bars = library.is_progress_bar_enabled() and not sys.stderr.isatty()
    logging.disable(logging.CRITICAL)
    if hides_bars:
        library.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        if hides_bars:
            library.enable_progress_bars()


def _explain(error: BaseException, library: Any) -> str:
    """What is wrong in one line, by the error and those that caused it."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) and inner not in chain:
        chain.append(inner)
    names = {type(link).__name__ for link in chain}
    text = " ".join(" ".join(str(link).split()) for link in chain)
    if any(isinstance(link, OSError) and link.errno == errno.ENOSPC for link in chain):
        return f"needs more space on the disk of {library.config.HF_DATASETS_CACHE}"
    if "GatedRepoError" in names or "is a gated dataset" in text:
        return "is gated: ask for access on its page of the hub, then `hf auth login`"
    is_refused = any(_http_status(link) in (401, 404) for link in chain)
    if is_refused or names & {"RepositoryNotFoundError", "DatasetNotFoundError"}:
        return "isn't on the hub, or it's private (`hf auth login` if it's yours)"
    if "scripts are no longer supported" in text:
        return "is a script, and other people's code is never run"
    if names & {"CastError", "DatasetGenerationCastError"}:
        return "must have the same columns, of the same types, in all its files"
    listed = re.search(r"(?:Available: |available configs: |in the cache: )\[(.*?)\]", text)
    if listed:
        configs = listed[1].replace("'", "")
        return f"must be given with its configuration as hub:NAME@CONFIG, one of {configs}"
    while error.__cause__:
        error = error.__cause__
    return f"can't be read: {describe_error(error)}"


def _http_status(error: BaseException) -> int | None:
    """The status of a server's answer; None if there was no answer."""
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status
