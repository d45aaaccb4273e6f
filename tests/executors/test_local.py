"""Local workers that start processes of their own to read images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from spectrum import StudyConfig, run_study
from tests.small_studies import weights


def test_workers_read_images_with_processes_of_their_own(
    small_study: Callable[..., StudyConfig], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for name, colour in (("day", 180), ("night", 60)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            noise = rng.normal(colour, 40, (12, 10, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / "photos" / name / f"{i}.png")
    data = {"name": f"folder:{tmp_path / 'photos'}", "image_size": 8, "loading": "stream"}
    stores = []
    for workers in (1, 2):
        config = small_study(
            data=data,
            epochs=2,
            recipe={"batch_size": 8},
            workers=workers,
            runs=tmp_path / str(workers),
        )
        assert run_study(config)["status"].tolist() == ["done", "done"]
        stores.append(weights(config.runs))
    assert stores[0] == stores[1]
