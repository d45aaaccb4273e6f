"""Tables that Hugging Face's ``datasets`` fetches and keeps, and why it can't in one line.

No code of a data set is ever run: ``datasets`` has dropped what did.
"""

from __future__ import annotations

import errno
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from importlib.util import find_spec
from typing import Any

__all__ = ["datasets_library", "load_files", "load_name"]

_REACH = 10.0  # seconds that the hub has to answer whether it has a data set
_NAME = re.compile(r"(?!.*(--|\.\.))\w[\w.-]*(/\w[\w.-]*)?")


def load_files(files: Mapping[str, Sequence[str]], name: str) -> dict[str, Any]:
    """Parquet files as ``datasets.Dataset`` values.

    Args:
        files: the paths of each split.
        name: what messages call them.

    Raises:
        ValueError: ``datasets`` isn't installed, or can't read them.
    """
    library = datasets_library(name)
    if any("::" in path for paths in files.values() for path in paths):
        raise ValueError(f"data (={name}): must have no :: in a file's path")
    given = {split: [escape(path) for path in paths] for split, paths in files.items()}
    with _quiet(library):
        try:
            return dict(library.load_dataset("parquet", data_files=given, keep_in_memory=False))
        except Exception as error:  # of many libraries, and of what is in the files
            raise ValueError(f"data (={name}): {_explained(error, library)}") from None


def load_name(repository: str, config: str | None, name: str) -> dict[str, Any]:
    """A data set of the hub, or of the cache where the hub can't be reached.

    Args:
        repository: its name there, ``owner/name``.
        config: which of its configurations; None for the only one.
        name: what messages call it.

    Raises:
        ValueError: ``datasets`` isn't installed, the hub has no such data set or configuration, it
            must not be read or can't be reached, or there is no room for it.
    """
    library = datasets_library(name)
    # By the name of a format it would read the files in the current folder.
    is_format = repository.isidentifier() and find_spec(f"datasets.packaged_modules.{repository}")
    if not _NAME.fullmatch(repository) or is_format:
        raise ValueError(
            f"data (={name}): must be hub:NAME[@CONFIG], with a name such as owner/name"
        )
    with _quiet(library):
        offline = library.config.HF_HUB_OFFLINE
        unreachable = None if offline else _unreachable(repository, name, library)
        try:
            # It would try again for minutes.
            library.config.HF_HUB_OFFLINE = offline or unreachable is not None
            # The prefix keeps it from a folder of this name.
            path = f"hf://datasets/{repository}"
            return dict(library.load_dataset(path, config, keep_in_memory=False))
        except Exception as error:  # of many libraries, and of what is in the files
            if isinstance(error, ConnectionError):
                reason = unreachable or "the hub can't be reached"
                if offline:
                    reason = "HF_HUB_OFFLINE forbids to ask the hub"
                message = f"{reason}, and the cache {library.config.HF_DATASETS_CACHE} hasn't it"
            else:
                message = _explained(error, library)
            raise ValueError(f"data (={name}): {message}") from None
        finally:
            library.config.HF_HUB_OFFLINE = offline


def datasets_library(name: str) -> Any:
    """Hugging Face's ``datasets``, without which no table is read.

    Raises:
        ValueError: it isn't installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f"data (={name}): needs {error.name or 'datasets'}: pip install 'spectrum[data]'"
        ) from None
    return datasets


def _unreachable(repository: str, name: str, library: Any) -> str | None:
    """Why the hub can't be asked for a data set; None where it can.

    Raises:
        ValueError: it says that there is none for this user.
    """
    import huggingface_hub

    hub = huggingface_hub.HfApi(endpoint=library.config.HF_ENDPOINT)
    try:
        hub.dataset_info(repository, timeout=_REACH)
    except Exception as error:  # of the network: anything
        status = _status(error)
        if status is not None and status < 500 and status != 429:
            raise ValueError(f"data (={name}): {_explained(error, library)}") from None
        return f"{library.config.HF_ENDPOINT} can't be reached ({_reason(error)})"
    return None


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """No warnings, and progress bars on a terminal alone."""
    from huggingface_hub.utils import logging as hub_logging

    loggers = (library.logging, hub_logging)
    levels = [logger.get_verbosity() for logger in loggers]
    hides_bars = library.is_progress_bar_enabled() and not sys.stderr.isatty()
    for logger in loggers:
        logger.set_verbosity(logger.CRITICAL)
    if hides_bars:
        library.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)
        if hides_bars:
            library.enable_progress_bars()


def _explained(error: BaseException, library: Any) -> str:
    """What to say of an error, which others may have wrapped."""
    links = [error]
    while (inner := links[-1].__cause__ or links[-1].__context__) and inner not in links:
        links.append(inner)
    names = {type(link).__name__ for link in links}
    text = " ".join(" ".join(str(link).split()) for link in links)
    if any(isinstance(link, OSError) and link.errno == errno.ENOSPC for link in links):
        return f"no space is left on the disk of {library.config.HF_DATASETS_CACHE}"
    if "GatedRepoError" in names or "is a gated dataset" in text:
        return "it's gated: ask for access on its page of the hub, then `hf auth login`"
    is_refused = any(_status(link) in (401, 404) for link in links)
    if is_refused or names & {"RepositoryNotFoundError", "DatasetNotFoundError"}:
        return "the hub has no such data set, or it's private (`hf auth login` where it's yours)"
    if "scripts are no longer supported" in text:
        return "it's a script, and no code of others is run"
    if names & {"CastError", "DatasetGenerationCastError"}:
        return "all its files must have the same columns, of the same types"
    listed = re.search(r"(?:Available: |available configs: |in the cache: )\[(.*?)\]", text)
    if listed:
        configs = listed[1].replace("'", "")
        return f"its configuration must be given as hub:NAME@CONFIG, one of {configs}"
    causes = [error]
    while inner := causes[-1].__cause__:
        causes.append(inner)
    return _reason(causes[-1])


def _status(error: BaseException) -> int | None:
    """What a server has answered; None where none has."""
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


def _reason(error: BaseException) -> str:
    lines = str(error).split("\n")
    return f"{type(error).__name__}: {lines[0]}"[:200] if lines[0] else type(error).__name__
