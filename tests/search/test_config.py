"""The validation and the defaults of a search's configuration."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from spectrum.analysis.measure import ACCURACY
from spectrum.errors import first_field_error
from spectrum.search import SearchConfig
from spectrum.search.config import Pruner

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"segments": "1,C+C"}, "segments (='C+C') must be one setting of the dial, such as 4 or C/8"),
    ({"segments": ["1", {"entry": 1, "exit": "C"}]}, "segments (='entry=1+exit=C') must be one"),
    ({"segments": "4,16:8"}, "segments (='16:8') must be one setting of the dial"),
    (
        {"segments": "4"},
        "segments (='4') must be several candidates, or another field must",
    ),
    ({"segments": "C,C/1"}, "segments (='C') must be several candidates"),
    ({"data": ["digits", "planted"]}, "data (=digits,planted) must be one value, the same for all"),
    ({"data": {"name": "digits", "test": [0.1, 0.2]}}, "data.test (=0.1,0.2) must be one value"),
    ({"network": ["tiny", "small"]}, "network (=tiny,small) must be one value"),
    ({"network": {"repeats": [1, 2], "width": 1}}, "network.repeats (=1,2) must be one value"),
    (
        {"network": "regnetx_tiny", "depth": [6, 7], "w0": 16, "wa": 8, "wm": 1.5, "match": "none"},
        "depth (=6,7) must be one value, the same for all trials",
    ),
    ({"recipe": ["small", "jft"]}, "recipe (=small,jft) must be one value"),
    ({"epochs": [2, 3]}, "epochs (=2,3) must be one value, the same for all trials"),
    ({"recipe": {"epochs": [2, 3]}, "epochs": None}, "epochs (=2,3) must be one value"),
    ({"minimize": "time"}, "minimize (='time') must be one or more of params, macs"),
    ({"minimize": "params,"}, "minimize (='params,') must be one or more of params, macs"),
    ({"minimize": ["macs", 3]}, "minimize (=macs,3) must be one or more of params, macs"),
    ({"max_latency": 0}, "max_latency (=0) must be greater than 0"),
    ({"minimize": 3}, "minimize (=3) must be one or more of params, macs"),
    ({"maximize": "speed"}, "maximize (='speed') must be 'accuracy'"),
    ({"per": "channel"}, "per (='channel') must be 'network', 'flow', 'block' or 'layer'"),
    ({"sampler": "cma"}, "sampler (='cma') must be 'gp', 'tpe', 'nsga2', 'random' or 'grid'"),
    ({"pruner": "best"}, "pruner (='best') must be 'none', 'median', 'hyperband' or 'rungs'"),
    ({"max_params": 0}, "max_params (=0) must be greater than 0"),
    ({"max_macs": 0.5}, "max_macs (=0.5) must be a valid integer"),
    ({"trials": 0}, "trials (=0) must be greater than 0"),
    ({"trial_seeds": 0}, "trial_seeds (=0) must be greater than 0"),
    ({"trial_seeds": 2, "resplit": True}, "trial_seeds (=2) must be 1 with resplit"),
    ({"seed": -1}, "seed (=-1) must be greater than or equal to 0"),
    ({"finalists": 0}, "finalists (=0) must be greater than 0"),
    ({"heartbeat": 0}, "heartbeat (=0) must be greater than 0"),
    ({"storage": ""}, "storage (='') must be the URL of a database that is kept"),
    ({"storage": "sqlite://"}, "storage (='sqlite://') must be the URL of a database that is kept"),
    ({"storage": "sqlite:///:memory:"}, "storage (='sqlite:///:memory:') must be the URL of a"),
    ({"storage": "sqlite+pysqlite:///?mode=rw"}, "(='sqlite+pysqlite:///?mode=rw') must be the"),
    *(
        ({name: value}, f"{name} (={value!r}) must be less than or equal to ")
        for name in (
            "trials",
            "trial_seeds",
            "max_params",
            "max_macs",
            "max_activations",
            "max_latency",
            "seed",
            "seeds",
        )
        for value in (10**19, 10**120)
    ),
    ({"finalists": 10**19}, "finalists (=10000000000000000000) must be less than or equal to"),
    ({"heartbeat": 10**19}, "heartbeat (=10000000000000000000) must be less than or equal to"),
    (
        {"pointwise_segments": "1,entry=1+middle=4+exit=4"},
        "pointwise_segments (='entry=1+middle=4+exit=4') must be one setting, such as 4 or C/8",
    ),
    ({"pointwise_segments": "4,0"}, "pointwise_segments (='0') must be a whole number"),
    ({"compare": "order"}, "compare (='order') is not a known field; known: activation, addr"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSED, ids=str)
def test_invalid_fields_are_refused(
    changes: dict[str, Any], reason: str, small_search: Callable[..., SearchConfig]
) -> None:
    with pytest.raises(ValidationError) as raised:
        small_search(**changes)
    assert reason in str(first_field_error(raised.value, SearchConfig.model_fields))


@pytest.mark.parametrize("cost", ["params", "macs", "latency"])
def test_a_cost_that_is_held_equal_is_no_goal(cost: str) -> None:
    message = rf"minimize \(='{cost}'\) must be another cost than match \(='{cost}'\) holds equal"
    with pytest.raises(ValidationError, match=message):
        SearchConfig(match=cost, minimize=cost)
    other = {"params": "macs", "macs": "params", "latency": "params"}[cost]
    assert SearchConfig(match=cost, minimize=other).goals(ACCURACY) == ("val_top1", other)


@pytest.mark.parametrize("pruner", get_args(Pruner))
def test_with_several_goals_only_rungs_can_stop_runs(pruner: Pruner) -> None:
    if pruner in ("none", "rungs"):
        assert SearchConfig(minimize="macs", pruner=pruner).resolved_pruner == pruner
    else:
        with pytest.raises(ValidationError, match=rf"pruner \(='{pruner}'\) must be rungs or none"):
            SearchConfig(minimize="macs", pruner=pruner)
    assert SearchConfig(pruner=pruner).resolved_pruner == pruner


def test_runs_are_stopped_by_the_median_where_there_is_one_goal() -> None:
    assert SearchConfig().resolved_pruner == "median"
    assert SearchConfig(minimize="macs").resolved_pruner == "none"


@pytest.mark.parametrize("given", ["macs,params", "macs, params,macs", ["macs", "params"]])
def test_goals_are_text_or_a_list_and_each_counts_once(given: Any) -> None:
    config = SearchConfig(match="none", minimize=given)
    assert config.minimize == ("macs", "params")
    assert config.goals(ACCURACY) == ("val_top1", "macs", "params")
    assert SearchConfig(minimize=[]).goals(ACCURACY) == ("val_top1",)


def test_one_candidate_will_do_where_another_field_has_several_values() -> None:
    config = SearchConfig(segments="C", order=["spatial_first", "pointwise_first"])
    assert config.searched_axes() == {
        "segments": ("network", "segments"),
        "order": ("network", "order"),
    }


def test_every_field_with_several_values_is_searched_under_its_column() -> None:
    config = SearchConfig(
        match="none",
        network={"name": "tiny", "width": [0.1, 0.2], "dropout": [0.3]},
        recipe={"lr": [0.01, 0.02]},
        precision=["float32", "bfloat16"],
    )
    assert config.searched_axes() == {
        "segments": ("network", "segments"),
        "width": ("network", "width"),
        "lr": ("recipe", "lr"),
        "precision": ("", "precision"),
    }


def test_a_search_is_a_plain_value_again(small_search: Callable[..., SearchConfig]) -> None:
    config = small_search(minimize="macs", max_params=9000, storage="sqlite:///a.db")
    assert SearchConfig(**config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    "url", ["sqlite:///a.db", "sqlite:////var/a.db?mode=rw", "postgresql+psycopg://me@host/trials"]
)
def test_a_storage_is_a_database_that_is_kept(url: str) -> None:
    assert SearchConfig(storage=url).storage == url
