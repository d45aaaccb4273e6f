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

from spectrum import NetworkConfig, Recipe, StudyConfig
from spectrum.analysis.folder import AVERAGE_PRECISION, CORRECT, CURVES, RESULTS, read_study
from spectrum.files import write_atomic, write_json
from spectrum.runs.config import RunConfig
from spectrum.runs.latency import hash_key
from spectrum.study.plan import make_plan

# The fields that format 1 left out of the hash at their default, by the part that has them.
OMITTED = {
    "": "code start processes",
    "network": "aux_logits",
    "data": "train_images label_noise rank block images side channels template copies signal "
    "image_seed image_size image_column label_column bad_images loading class_weights map_at",
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
            if fields.pop("format", None) != 1:
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
        measured = json.loads(path.read_bytes())
        key = json.loads(json.dumps(measured["of"]))
        for owner, name in ((key, "network"), (key.get("beside", {}), "config")):
            if name in owner:
                network = NetworkConfig(**owner[name])
                owner[name] = network.model_dump(mode="json", exclude_defaults=True)
        target = path.with_stem(hash_key(key))
        if hash_key(measured["of"]) == path.stem and not target.exists():
            write_json(target, measured | {"of": key})
            path.unlink()
            renamed += 1
    return renamed


def main(folders: list[str]) -> None:
    """Relabels every folder."""
    if not folders:
        sys.exit(str(__doc__).splitlines()[0])
    for folder in map(Path, folders):
        if not folder.is_dir():
            sys.exit(f"{folder} must be a folder, but there is none")
        if not (folder / RESULTS).exists():
            print(f"{folder}: {relabel_runs(folder)} runs, {relabel_latencies(folder)} latencies")
            continue
        ids = ids_of_study(folder)
        if not set(ID.findall((folder / RESULTS).read_text(encoding="utf-8"))) <= ids.keys():
            print(f"{folder} is left alone: its plan now has other runs, or it is relabelled")
            continue
        for name in (RESULTS, CURVES):
            relabel_table(folder / name, ids)
        for name in (CORRECT, AVERAGE_PRECISION):
            if (folder / name).exists():
                relabel_arrays(folder / name, ids)
        print(f"{folder}: {len(ids)} runs")


if __name__ == "__main__":
    main(sys.argv[1:])
