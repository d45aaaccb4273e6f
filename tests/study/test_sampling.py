"""Points drawn within limits: all of them are, each setting has as many, and the seed repeats."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from spectrum import StudyConfig, compare_points, count_costs, load_results
from spectrum.analysis.columns import ROW
from spectrum.analysis.folder import RESULTS, STUDY
from spectrum.errors import DamagedFile, FieldError
from spectrum.files import write_json
from spectrum.networks import build
from spectrum.runs.point import Point
from spectrum.study.dry_run import dry_run
from spectrum.study.overwrite import check_not_another
from spectrum.study.plan import make_plan
from spectrum.study.results import make_row
from spectrum.study.study import run_study

Small = Callable[..., StudyConfig]
SPACE: dict[str, Any] = {
    "network": {"name": "tiny", "width": [0.1, 0.12, 0.14, 0.16, 0.18, 0.2], "repeats": [1, 2]},
    "seeds": 1,
    "sample": 2,
}


def points_of(config: StudyConfig) -> list[Point]:
    return list(make_plan(config).points)


def test_points_are_within_the_band_and_repeat_from_the_seed(small_study: Small) -> None:
    band = {"min_macs": 54_000, "max_macs": 150_000, "max_activations": 6_600}
    config = small_study(**SPACE, **band)
    points = points_of(config)
    assert [point.network.segments for point in points] == ["1", "C"] * 2
    assert len({point.run(0).id for point in points}) == 4
    for point in points:
        costs = count_costs(build(point.network), (1, 8, 8))
        assert (point.macs, point.activations) == (costs.macs, costs.activations)
        assert 54_000 <= costs.macs <= 150_000
        assert costs.activations <= 6_600
    assert points_of(config) == points
    other = small_study(**SPACE, **band, sample_seed=1)
    assert [*other.draw("C", 12)] != [*config.draw("C", 12)]
    assert {*other.draw("C", 12)} == {*config.draw("C", 12)}


def test_a_dry_run_shows_widths_once_and_activations_that_are_limited(small_study: Small) -> None:
    config = small_study(**SPACE)
    table, _ = dry_run(config)
    names = ["segments", "width", "params", "MACs", "miss", "done"]
    assert [column.header for column in table.columns] == ["repeats", *names]
    widths = [str(point.network.width) for point in points_of(config)]
    assert [*table.columns[2].cells] == widths
    for limit in ({"max_activations": 10**6}, {"min_activations": 1}):
        config = small_study(**SPACE, **limit)
        table, _ = dry_run(config)
        cells = {str(column.header): [*column.cells] for column in table.columns}
        assert [*cells] == ["repeats", *names[:4], "activations", *names[4:]]
        counted = [count_costs(build(p.network), (1, 8, 8)) for p in points_of(config)]
        assert cells["activations"] == [f"{costs.activations:,}" for costs in counted]


def test_limits_that_leave_all_combinations_leave_the_pairs(small_study: Small) -> None:
    points = points_of(small_study(**SPACE, max_params=10**6))
    pairs = [(p.network.width, p.network.repeats) for p in points]
    assert pairs[0] == pairs[1] != pairs[2] == pairs[3]


def test_a_larger_sample_within_limits_keeps_all_networks_or_is_another_study(
    small_study: Small,
) -> None:
    widths = [round(0.1 + i / 10_000, 4) for i in range(1500)]
    fields = {"network": {"name": "tiny", "width": widths}, "segments": "C", "max_params": 10**5}
    grown = []
    for before, now in ((2, 3), (3, 4)):
        old, new = (small_study(**fields, sample=sample) for sample in (before, now))
        draws = [
            [one.network.width for one in config.draw("C", 100 * config.sample)]
            for config in (old, new)
        ]
        kept = draws[1][: len(draws[0])] == draws[0]
        (old.out / old.name).mkdir(parents=True, exist_ok=True)
        write_json(old.out / old.name / STUDY, old.shown())
        (old.out / old.name / RESULTS).touch()
        check_not_another(old, STUDY)
        check_not_another(small_study(**{**fields, "segments": "C,1"}, sample=before), STUDY)
        if kept:
            check_not_another(new, STUDY)
        else:
            with pytest.raises(FieldError, match=rf"holds another study \(sample {before} not"):
                check_not_another(new, STUDY)
        grown.append(kept)
    assert grown == [True, False]  # random.sample has two ways to draw


def test_too_few_combinations_are_one_clear_line(small_study: Small) -> None:
    space = SPACE | {"network": {"name": "tiny", "width": [0.1, 0.2, 0.3]}}
    one, *others = sorted(p.params for p in points_of(small_study(**space | {"sample": 3}))[::2])
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        make_plan(small_study(**space, max_params=one))
    assert str(raised.value) == (
        "sample (=2) must be fewer, or have other limits: 1 of 3 combinations tried at segments 1 "
        f"are within the limits; they have {one:,} to {others[-1]:,} params"
    )


REGNETS: dict[str, Any] = {
    "network": "regnetx_tiny",
    "depth": [5, 6, 8],
    "w0": [8, 12, 16],
    "wa": "4,8",
    "wm": [1.5, 2.0],
    "segments": "C/4,C",
    "seeds": 1,
    "sample": 3,
}


def test_sampled_regnets_have_four_stages_and_repeat_from_the_seed(small_study: Small) -> None:
    found = []
    for band in ({}, {"min_params": 8_000, "max_params": 60_000}):
        config = small_study(**REGNETS, **band)
        points = points_of(config)
        assert points_of(small_study(**REGNETS, **band)) == points
        for point in points:
            network: Any = build(point.network)
            stages = [network.get_submodule(f"stage{i}") for i in range(1, 5)]
            assert sum(map(len, stages)) == point.network.depth
            assert stages[0][0].conv2.in_channels == point.network.w0
            assert not band or 8_000 <= count_costs(network, (1, 8, 8)).params <= 60_000
        found.append([point.network for point in points])
    # Without limits, all points of the dial have the same networks.
    unlimited, limited = found
    plain = [network.model_copy(update={"segments": "C"}) for network in unlimited]
    assert plain[0::2] == plain[1::2]
    assert len(set(plain)) == 3
    assert limited != unlimited
    assert points_of(small_study(**REGNETS, sample_seed=1)) != points_of(small_study(**REGNETS))


def test_a_sample_is_drawn_as_before_if_all_combinations_are_networks(small_study: Small) -> None:
    space = {**REGNETS, "depth": [6], "w0": [16], "wm": [1.5], "wa": [8, 8.1, 8.2, 8.3, 8.4, 8.5]}
    drawn = sorted(random.Random(0).sample(range(6), 3))
    expected = [space["wa"][i] for i in drawn]
    assert [c.network.wa for c in small_study(**space).combinations()][::2] == expected


def test_a_space_with_too_few_regnets_is_one_clear_line(small_study: Small) -> None:
    space = {**REGNETS, "depth": [6], "w0": [16], "wa": 8, "wm": [1.1, 1.5, 3]}
    message = r"sample \(=2\) must be fewer: only 1 of 3 combinations tried are networks; depth \("
    with pytest.raises(ValueError, match=message):
        small_study(**space | {"sample": 2})
    assert {c.network.wm for c in small_study(**space | {"sample": 1}).combinations()} == {1.5}
    with pytest.raises(ValueError, match=r"depth \(=6\) must give four stages with w0 \(=16\)"):
        small_study(**{name: value for name, value in space.items() if name != "sample"})
    with pytest.raises(ValueError, match=r"w0 \(=20\) must be a multiple of 8"):
        small_study(**{**REGNETS, "network": "regnetx_002", "w0": [8, 20]})


def test_results_have_a_column_for_each_parameter_that_varies(small_study: Small) -> None:
    space = {**REGNETS, "depth": [5, 6], "w0": [16], "wa": [8.0], "wm": [1.4, 1.5]}
    config = small_study(**space | {"sample": 2, "segments": "C"})
    measured = {column.name: 0.5 for column in ROW if column.role == "measured"}
    measured |= {"threads": 1, "device": "cpu", "status": "done", "error": ""}
    points = points_of(config)
    rows = [make_row(config, point, point.run(0), measured) for point in points]
    folder = config.out / config.name
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    read = load_results(folder)
    expected = [(point.network.depth, point.network.wm) for point in points]
    assert [*zip(read["depth"], read["wm"], strict=True)] == expected
    assert {"w0", "wa"} & {*read} == set()
    damaged = pd.DataFrame(rows).assign(depth="deep")
    damaged.to_csv(folder / "results.csv", index=False)
    with pytest.raises(DamagedFile, match=r"depth \(='deep'\)"):
        load_results(folder)
    assert StudyConfig.model_validate_json(config.model_dump_json()) == config


def test_each_setting_is_compared_by_combinations_of_its_own(small_study: Small) -> None:
    config = small_study(
        **SPACE, epochs=1, min_macs=60_000, max_activations=10**4, max_params=10**4
    )
    rows = run_study(config)
    assert rows["activations"].le(10**4).all()
    widths = rows.groupby("segments")["width"].agg(set)
    assert widths["1"] & widths["C"] == set()
    assert compare_points(config.out / config.name)["runs"].tolist() == [2, 2]
