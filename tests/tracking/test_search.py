"""A search passes on the runs of its trials and of its finalists."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spectrum import SearchConfig, run_search
from spectrum.runs.store import Store
from tests.search.conftest import small_search
from tests.small_studies import skip_figures
from tests.tracking.readers import read_runs
from tests.tracking.test_trackers import check_curves

__all__ = ["skip_figures", "small_search"]


def test_a_search_is_tracked(small_search: Callable[..., SearchConfig]) -> None:
    pytest.importorskip("tensorboard")
    config = small_search(trials=3, sampler="random", track="tensorboard")
    result = run_search(config)
    store = Store(config.runs)
    runs = read_runs("tensorboard", config.out, config.name)
    assert runs.keys() == {path.parent.name for path in config.runs.glob("*/result.json")}
    assert {*result.results["run_id"]} < runs.keys()
    assert len(runs) > 3
    check_curves(runs, store)
    assert {run.status for run in runs.values()} == {"done"}
