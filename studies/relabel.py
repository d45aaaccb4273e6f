"""Gives results with ids of format 1 the ids that runs have now: ``relabel.py FOLDER...``.

A FOLDER is a study's folder or a folder of runs. Nothing but ids changes, which is checked before
a file is replaced. The ids of a study's runs are computed from its plan, those of a folder of runs
from each run's ``config.json``.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spectrum import NetworkConfig, Recipe, StudyConfig, load_curves, load_results
from spectrum.analysis.folder import (
    AVERAGE_PRECISION,
    CORRECT,
    CURVES,
    RESULTS,
    load_average_precision,
    load_correct,
    read_study,
)
from spectrum.files import write_atomic, write_json
from spectrum.runs.config import RunConfig
from spectrum.runs.latency import hash_key
from spectrum.study.plan import make_plan

# The fields that format 1 left out of the hash at their default, by the part that has them.
OMITTED = {
    "": "code start processes shared",
    "network": "aux_logits pointwise_segments shuffle depth w0 wa wm",
    "data": "resplit train_images label_noise rank block images side channels template copies "
    "signal image_seed image_size image_column label_column bad_images loading class_weights "
    "map_at",
    "recipe": "optimizer momentum schedule decay decay_every decay_unit precise_bn crop flip "
    "cutout crop_area batch_norm",
}
ID = re.compile(r"(?m)^[0-9a-f]{16}(?=,)")


def former_id(run: RunConfig) -> str:
    """The id of a run in format 1."""
    plain = run.model_dump(mode="json")
    for part, fields in OMITTED.items():
        values, model = (plain[part], getattr(run, part)) if part else (plain, run)
        for field in fields.split():
            if getattr(model, field) == type(model).model_fields[field].default:
                del values[field]
    plain["data"].pop("bad_images", None)
    if run.data.kind in ("folder", "parquet"):
        plain["data"]["name"] = run.data.kind
    text = json.dumps({"format": 1, **plain}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def ids_of_study(folder: Path) -> dict[str, str]:
    """The present id of every run of a study, by its former id."""
    config = StudyConfig(**read_study(folder))
    runs = []
    for point in make_plan(config).points:
        lr = point.recipe.lr
        for rate in [lr, *(lr * factor for factor in config.tune_lr)]:
            recipe = Recipe(**{**point.recipe.model_dump(), "lr": rate})
            runs += [replace(point, recipe=recipe).run(seed) for seed in range(config.seeds)]
    return {former_id(run): run.id for run in runs}


def relabel_table(path: Path, ids: dict[str, str]) -> None:
    """Replaces the ids at the beginnings of a table's lines."""
    before = path.read_text(encoding="utf-8")
    after = ID.sub(lambda found: ids[found.group()], before)
    assert ID.sub("", after) == ID.sub("", before), path
    write_atomic(path, lambda file: file.write(after.encode()))


def relabel_arrays(path: Path, ids: dict[str, str]) -> None:
    """Replaces the names of an archive's arrays."""
    with np.load(path, allow_pickle=False) as file:
        before = {name: file[name] for name in file.files}
    arrays: dict[str, Any] = {ids[name]: array for name, array in before.items()}
    assert len(arrays) == len(before), path
    assert all(array is arrays[ids[name]] for name, array in before.items()), path
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))


def relabel_runs(folder: Path) -> int:
    """Renames the folders of runs; returns how many."""
    renamed = 0
    for path in sorted(folder.glob("*/config.json")):
        try:
            fields = json.loads(path.read_bytes())
            if isinstance(fields, dict) and fields.pop("format", None) != 1:
                continue
            run = RunConfig.checked(fields)
        except ValueError as error:
            print(f"{path} is left alone: {error}")
            continue
        if former_id(run) == path.parent.name and not (folder / run.id).exists():
            write_json(path, run.stored())
            path.parent.rename(folder / run.id)
            renamed += 1
    return renamed


def relabel_latencies(folder: Path) -> int:
    """Renames the files of measured latencies; returns how many."""
    renamed = 0
    for path in sorted(folder.glob("latency/*.json")):
        try:
            measured = json.loads(path.read_bytes())
            key = json.loads(json.dumps(measured["of"]))
            for owner, name in ((key, "network"), (key.get("beside", {}), "config")):
                if name in owner:
                    network = NetworkConfig.checked(owner[name])
                    owner[name] = network.model_dump(mode="json", exclude_defaults=True)
        except (ValueError, LookupError, TypeError) as error:
            print(f"{path} is left alone: {error}")
            continue
        target = path.with_stem(hash_key(key))
        if hash_key(measured["of"]) == path.stem and not target.exists():
            write_json(target, measured | {"of": key})
            path.unlink()
            renamed += 1
    return renamed


def relabel_study(folder: Path) -> str:
    """Relabels the files of a study; returns what was done.

    Raises:
        ValueError: a file is missing or damaged. Nothing has been changed then.
    """
    used = {*load_results(folder)["run_id"], *load_curves(folder)["run_id"]}
    archives = {CORRECT: load_correct, AVERAGE_PRECISION: load_average_precision}
    found = {name: load(folder) for name, load in archives.items() if (folder / name).exists()}
    used |= {run_id for answers in found.values() for run_id in answers}
    ids = ids_of_study(folder)
    if used <= set(ids.values()):
        return "has the ids of today"
    if not used <= ids.keys():
        return "is left alone: it has runs that its plan doesn't have any more"
    for name in (RESULTS, CURVES):
        relabel_table(folder / name, ids)
    for name in found:
        relabel_arrays(folder / name, ids)
    return f"is relabelled: {len(used)} runs"


def main(folders: list[str]) -> None:
    """Relabels every folder."""
    if not folders:
        sys.exit(str(__doc__).splitlines()[0])
    for folder in map(Path, folders):
        if not folder.is_dir():
            print(f"{folder} must be a folder, but there is none")
        elif (folder / RESULTS).exists():
            try:
                print(f"{folder} {relabel_study(folder)}")
            except ValueError as error:
                print(f"{folder} is left alone: {error}")
        else:
            print(f"{folder}: {relabel_runs(folder)} runs, {relabel_latencies(folder)} latencies")


if __name__ == "__main__":
    main(sys.argv[1:])
