"""A search whose runs draw their images: trials share those of seed 0, finalists draw new ones."""

from __future__ import annotations

from collections.abc import Callable

from spectrum import DataConfig, evaluate, load_data, load_run
from spectrum.search import SearchConfig, run_search


def test_the_trials_share_a_draw_and_the_finalists_draw_anew(
    small_search: Callable[..., SearchConfig],
) -> None:
    config = small_search(resplit=True, trials=3, epochs=1, finalists=1, pruner="none")
    found = run_search(config)
    data = DataConfig(resplit=True)
    draws = [load_data(data, draw=seed) for seed in (0, 1)]
    for rows, draw in ((found.trials, draws[0]), (found.results, draws[1])):
        for _, row in rows.iterrows():
            network = load_run(config.runs / row["run_id"])
            assert evaluate(network, draw.validation).top1 == row["val_top1"]
    assert set(found.results["seed"]) == {1}
    assert set(found.results["images_drawn"]) == {len(draws[0].train)}
