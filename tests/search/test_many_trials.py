"""The figures and the page of a search with thousands of trials, which nothing trains."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pandas as pd
import pytest
from matplotlib.figure import Figure
from optuna import Study, create_study
from optuna.trial import create_trial

from spectrum.analysis.measure import ACCURACY
from spectrum.report import search_figures
from spectrum.report.page import render_page
from spectrum.search.outputs import caption_figures, parameter_importances
from spectrum.search.samplers import distributions
from spectrum.search.space import Space
from tests.report.search.test_search_plots import trials
from tests.search.spaces import space_of


@pytest.mark.parametrize("goals", [["val_top1"], ["val_top1", "params"]])
def test_the_page_of_ten_thousand_trials_stays_small(goals: list[str]) -> None:
    figures = search_figures(trials(10_000), goals, {"entry": 1.0}, {}, title="", for_page=True)
    assert list(figures) == ["front", "progress", "importance"]
    page = render_page("many", figures={name: (one, "") for name, one in figures.items()})
    assert len(page) < 1_000_000


def study_of(space: Space, effects: dict[str, list[int]], trials: int) -> Study:
    """A study of random points whose value is the sum of the effects of their settings."""
    values = {n: dict(zip(space.choices[n], x, strict=True)) for n, x in effects.items()}

    def drawn() -> Iterator[dict[str, str]]:
        rng = random.Random(1)
        for _ in range(trials):
            yield {name: rng.choice(choices) for name, choices in space.choices.items()}

    study = create_study(direction="maximize")
    study.add_trials(
        create_trial(
            params=params,
            distributions=dict(distributions(space)),
            value=sum(values[name][value] for name, value in params.items()),
        )
        for params in drawn()
    )
    return study


@pytest.mark.usefixtures("quiet_optuna")
@pytest.mark.parametrize("trials", [250, 1500])
def test_importances_are_the_shares_of_the_variance(trials: int) -> None:
    space = space_of(per="flow", segments="1,4,C/4,C", evaluate="proxy:params")
    effects = {"entry": [0, 1, 2, 3], "middle": [0, 2, 0, 2], "exit": [0, 0, 0, 0]}
    study = study_of(space, effects, trials)
    found = parameter_importances(study, space)
    assert found == pytest.approx({"entry": 1.25 / 2.25, "middle": 1 / 2.25, "exit": 0}, abs=0.001)
    assert found == parameter_importances(study, space)  # the same trials are drawn again


@pytest.mark.parametrize(("done", "is_sample"), [(1000, False), (1001, True)])
def test_the_caption_says_that_importance_is_of_a_sample_where_it_is(
    done: int, is_sample: bool
) -> None:
    trials = pd.DataFrame({"state": ["done"] * done + ["failed"] * 500})
    figures = {"front": Figure(), "importance": Figure()}
    shown = caption_figures(figures, trials, ACCURACY)
    sentence = " The importance is computed from 1,000 of the finished trials, drawn with seed 0."
    assert [caption.endswith(sentence) for _, caption in shown.values()] == [False, is_sample]
