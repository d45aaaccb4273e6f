"""The comparison of a study with the other studies that ``compare_with`` names."""

from __future__ import annotations

import re

from spectrum.analysis.studies import (
    StudyComparison,
    check_comparable,
    compare_studies,
    study_name,
)
from spectrum.errors import FieldError, printable
from spectrum.study.config import StudyConfig


def check_compared(config: StudyConfig) -> None:
    """Checks before anything is trained that a study can be compared with the others.

    Raises:
        ValueError: a folder is the study's own, has the name of another one, holds no study or one
            of other images, or its files are damaged.
    """
    own, files = config.out / config.name, set()
    for folder in config.compare_with:
        try:
            check_comparable(config.model_dump(mode="json"), folder)
        except FieldError as error:
            raise error.renamed("compare_with") from None
        if folder.resolve() == own.resolve():
            raise FieldError("compare_with", folder, "must be the folder of another study")
        file = comparison_file(study_name(folder))
        if file in files:
            raise FieldError("compare_with", folder, f"must not be the second one for {file}")
        files.add(file)


def compare_with_others(config: StudyConfig) -> tuple[dict[str, StudyComparison], list[str]]:
    """Compares a study, whose files are written, with the others.

    Returns:
        The comparisons by the name of the other study, and what they say in words. A comparison
        that isn't possible has a sentence only.
    """
    found: dict[str, StudyComparison] = {}
    sentences: list[str] = []
    for folder in config.compare_with:
        name = study_name(folder)
        try:
            found[name] = compare_studies(config.out / config.name, folder)
        except ValueError as error:  # the results are still good
            sentences.append(f"Nothing is compared with {printable(name)}: {error}.")
        else:
            sentences += found[name].sentences
    return found, sentences


def comparison_file(name: str) -> str:
    """The name of the file with the table of a comparison.

    Args:
        name: the name of the other study. What a list of checksums can't hold is replaced.
    """
    plain = re.sub(r"[^\w.+=-]", "_", name)
    return f"comparison_with_{plain}.csv"
