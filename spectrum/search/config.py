"""The configuration of a search: its space, goals, limits and number of trials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias, cast, get_args

from pydantic import ConfigDict, Field, field_validator, model_validator

from spectrum.analysis.measure import Measure
from spectrum.errors import FieldError, as_text
from spectrum.fields import Facts, column_name
from spectrum.networks.regnet_sizes import STAGE_FIELDS
from spectrum.search.storage_url import StorageUrl, is_kept, parse_url
from spectrum.segments import Segments, parse_setting
from spectrum.study.grid import GridConfig, qualified_name

Cost: TypeAlias = Literal["params", "macs", "activations", "latency"]
Granularity: TypeAlias = Literal["network", "flow", "block", "layer"]
Sampler: TypeAlias = Literal["gp", "tpe", "nsga2", "random", "grid"]
Pruner: TypeAlias = Literal["none", "median", "hyperband", "rungs"]
SharedRule: TypeAlias = Literal["budget", "sandwich"]

MAX_TRIAL_SEEDS = 100
_MAX_MODELLED = 1000  # trials; the time of a Gaussian process grows with their cube

_EVALUATIONS = ("alone", "shared", "proxy:params", "proxy:macs")
_PROXY_EPOCHS = re.compile(r"proxy:epochs=([1-9][0-9]{0,5})")
# Fields in which points with shared weights may differ.
_SHARED_AXES = {("network", "segments"), ("network", "width")}

# Fields that must be the same for all trials, besides the data.
_NOT_SEARCHED = {
    ("network", "name"),
    ("network", "repeats"),
    *(("network", field) for field in STAGE_FIELDS),
    ("recipe", "name"),
    ("recipe", "epochs"),
}


class SearchConfig(GridConfig):
    """What a search looks for.

    ``segments`` are the candidate points of the dial. Any other field of the network or the recipe
    with several values is searched too. A trial trains one network with seed 0 and is judged by the
    validation split. The leaders are trained with further seeds if ``trial_seeds`` says so.
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # it may hold the password of the storage

    segments: Annotated[tuple[str, ...], Facts(metavar="POINTS", table="network")] = (
        "1",
        "2",
        "4",
        "8",
        "16",
        "32",
        "C/8",
        "C/4",
        "C/2",
        "C",
    )
    """Candidate points of the dial."""
    per: Annotated[Granularity, Facts(metavar="PART")] = "flow"
    """Part of the network that gets a setting of its own: the whole network, each flow, each block
    or each layer."""
    trials: Annotated[int, Field(gt=0, le=1_000_000), Facts(metavar="N")] = 30
    """Number of distinct points to train in all, those of earlier calls and of other processes on
    the same storage included. Further seeds of a point don't count."""
    evaluate: Annotated[str, Facts(metavar="HOW")] = "alone"
    """How a trial is judged: alone (its network is trained), shared (with the weights of one
    training of all points), proxy:params or proxy:macs (by a count), or proxy:epochs=N (trained for
    N epochs). The finalists are always trained alone."""
    shared_epochs: Annotated[
        int | None, Field(gt=0, le=1_000_000), Facts(metavar="N", unset="the recipe's")
    ] = None
    """Epochs of the training that all points share, in which a step trains several networks."""
    shared_rule: Annotated[
        SharedRule | None,
        Facts(metavar="RULE", unset="budget; sandwich with --match none"),
    ] = None
    """Networks that a step of that training trains: budget (random ones at about the width that
    meets the budget, on labels) or sandwich (the densest at the largest width, the sparsest at the
    smallest and random ones, which learn from the first)."""
    trial_seeds: Annotated[int, Field(gt=0, le=MAX_TRIAL_SEEDS), Facts(metavar="N")] = 1
    """Largest number of seeds of a point during the search. With more than 1, the best third of all
    points get a second seed, the best third of those a third and so on, and a point is judged by
    its mean."""
    maximize: Annotated[Literal["accuracy"], Facts(metavar="GOAL")] = "accuracy"
    """First goal: accuracy. It is the mean average precision if images have several labels."""
    minimize: Annotated[tuple[Cost, ...], Facts(metavar="COSTS")] = ()
    """Costs that are further goals: params, macs, activations, latency. With any, the result is
    a Pareto front."""
    max_latency: Annotated[
        float | None, Field(gt=0, le=1e9), Facts(metavar="MS", unset="no limit")
    ] = None
    """Train no network with a longer inference latency, in milliseconds for a batch of 32 images,
    measured on this machine."""
    sampler: Annotated[
        Sampler | None, Facts(metavar="NAME", unset=f"gp; nsga2 beyond {_MAX_MODELLED} trials")
    ] = None
    """Algorithm that proposes points: gp (Gaussian process), tpe, nsga2, random or grid (every
    point in order)."""
    pruner: Annotated[
        Pruner | None, Facts(metavar="NAME", unset="median; none with --minimize")
    ] = None
    """Rule that stops runs that fall behind: median, hyperband, rungs (successive halving by Pareto
    rank) or none."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1), Facts(metavar="N")] = 0
    """Seed of the sampler."""
    seeds: Annotated[int, Field(gt=0, le=10_000), Facts(metavar="N")] = 5
    """Number of new seeds to train each finalist with. They count from --trial-seeds, since the
    trials used those below."""
    finalists: Annotated[int, Field(gt=0, le=1000), Facts(metavar="N")] = 3
    """Number of best points, and of best uniform points, that are trained again with new seeds. The
    best of each by the validation split are then compared on the test split."""
    storage: Annotated[str | None, Facts(metavar="URL", unset="sqlite in the results' folder")] = (
        None
    )
    """URL of Optuna's database, which processes share."""
    heartbeat: Annotated[int, Field(gt=0, le=86_400), Facts(metavar="SECONDS")] = 20
    """Seconds between heartbeats of a trial. After three missed ones another process takes it
    over."""
    name: Annotated[str, Facts(metavar="NAME")] = "search"
    """Folder of the results inside that of --out, and name of the study in the storage."""

    @model_validator(mode="before")
    @classmethod
    def _hide_urls(cls, fields: Any) -> Any:
        """A storage under a misspelt name is refused without its password."""
        if not isinstance(fields, Mapping):
            return fields
        is_url = {name: isinstance(value, str) and "://" in value for name, value in fields.items()}
        return {
            name: StorageUrl(value) if is_url[name] and name not in cls.model_fields else value
            for name, value in fields.items()
        }

    @field_validator("evaluate")
    @classmethod
    def _check_evaluate(cls, value: str) -> str:
        if value not in _EVALUATIONS and not _PROXY_EPOCHS.fullmatch(value):
            raise ValueError(f"must be one of {', '.join(_EVALUATIONS)} and proxy:epochs=N")
        return value

    @field_validator("minimize", mode="before")
    @classmethod
    def _parse_minimize(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        known = get_args(Cost)
        if not isinstance(value, list | tuple) or not all(item in known for item in value):
            raise ValueError(f"must be one or more of {', '.join(known)}")
        return tuple(dict.fromkeys(value))

    @field_validator("storage", mode="plain")
    @classmethod
    def _check_storage(cls, given: Any) -> StorageUrl | None:
        if given is None:
            return None
        storage = StorageUrl(given)
        try:
            url = parse_url(storage)
        except ValueError as error:
            raise FieldError("storage", storage, str(error)) from None
        # An empty URL, such as from an unset variable, must not silently mean the default.
        if not isinstance(given, str) or not is_kept(url):
            allowed = "must be the URL of a database that is kept, such as sqlite:///FILE"
            raise FieldError("storage", storage, allowed)
        return storage

    @model_validator(mode="after")
    def _check_search(self) -> Self:
        for point in self.segments:
            if not _is_candidate(point):
                raise FieldError(
                    "segments",
                    point,
                    "must be one setting of the dial, such as 4 or C/8, for each candidate; per "
                    f"(={self.per!r}) says where they are combined",
                )
        pointwise = self.axes().get(("network", "pointwise_segments"), ())
        for point in pointwise if len(pointwise) > 1 else ():
            if not _is_candidate(point):
                allowed = "must be one setting, such as 4 or C/8, for each candidate"
                raise FieldError("pointwise_segments", point, allowed)
        for axis in self.varied_axes():
            if axis in _NOT_SEARCHED or axis[0] == "data":
                allowed = "must be one value, the same for all trials"
                raise FieldError(qualified_name(*axis), self.axes()[axis], allowed)
        if self.match in self.minimize:
            allowed = f"must be another cost than match (={self.match!r}) holds equal"
            raise FieldError("minimize", self.match, allowed)
        if self.minimize and self.pruner in ("median", "hyperband"):
            allowed = f"must be rungs or none with minimize (={as_text(self.minimize)})"
            raise FieldError("pruner", self.pruner, allowed)
        if self.trial_seeds > 1 and True in self.axes().get(("data", "resplit"), ()):
            allowed = "must be 1 with resplit: seeds would be judged by other validation images"
            raise FieldError("trial_seeds", self.trial_seeds, allowed)
        self._check_evaluation()
        if len(self.searched_axes()) == 1 and len(self.segments) == 1:
            allowed = "must be several candidates, or another field must have several values"
            raise FieldError("segments", self.segments[0], allowed)
        return self

    def _check_evaluation(self) -> None:
        """Raise a FieldError if trials can't be judged as ``evaluate`` says."""
        for field in ("shared_epochs", "shared_rule"):
            if self.evaluate != "shared" and getattr(self, field) is not None:
                allowed = f"must not be given with evaluate (={self.evaluate!r})"
                raise FieldError(field, getattr(self, field), allowed)
        if self.shared_rule == "budget" and self.match == "none":
            raise FieldError("shared_rule", "budget", "must be sandwich with match (='none')")
        epochs = next(self.combinations()).recipe.epochs
        if self.proxy_epochs is not None and self.proxy_epochs >= epochs:
            allowed = f"must have fewer epochs than the finalists' {epochs}"
            raise FieldError("evaluate", self.evaluate, allowed)
        if self.trains_trials:
            return
        with_evaluate = f"with evaluate (={self.evaluate!r})"
        if self.trial_seeds > 1:
            allowed = f"must be 1 {with_evaluate}, which trains no trial"
            raise FieldError("trial_seeds", self.trial_seeds, allowed)
        if self.pruner not in (None, "none"):
            allowed = f"must be none {with_evaluate}, which trains no trial"
            raise FieldError("pruner", self.pruner, allowed)
        if self.counted_proxy is not None:
            if self.counted_proxy in (self.match, *self.minimize):
                allowed = f"must be another proxy where {self.counted_proxy} is equal or a goal"
                raise FieldError("evaluate", self.evaluate, allowed)
            return
        if self.match == "latency":
            allowed = f"must be params, macs or none {with_evaluate}"
            raise FieldError("match", self.match, allowed)
        for axis in self.searched_axes().values():
            if axis not in _SHARED_AXES:
                allowed = f"must be one value {with_evaluate}, whose points share their weights"
                raise FieldError(qualified_name(*axis), self.axes()[axis], allowed)

    def shown(self) -> dict[str, Any]:
        """The fields as plain values without secrets, to be stored and shown."""
        return super().shown() | {"storage": self.storage and StorageUrl(self.storage).shown}

    def searched_axes(self) -> dict[str, tuple[str, str]]:
        """The table and name of every searched field by its column, segments first."""
        columns = {
            column_name(*axis): axis
            for axis in self.varied_axes()
            if axis != ("network", "segments")
        }
        return {"segments": ("network", "segments"), **columns}

    @property
    def other_fields(self) -> list[str]:
        """The columns of the searched fields besides segments."""
        return [name for name in self.searched_axes() if name != "segments"]

    @property
    def shown_fields(self) -> list[str]:
        """Those that tables show beside the width, which always has a column."""
        return [name for name in self.other_fields if name != "width"]

    @property
    def counts_activations(self) -> bool:
        """Whether activations are limited or a goal."""
        return super().counts_activations or "activations" in self.minimize

    @property
    def measures_latency(self) -> bool:
        """Whether latency is matched, limited or a goal."""
        requested = self.match == "latency" or self.max_latency is not None
        return requested or "latency" in self.minimize

    def goals(self, measure: Measure) -> tuple[str, ...]:
        """The columns of trials that are the goals, the measure's column first."""
        return (measure.validation_column, *self.minimize)

    @property
    def resolved_pruner(self) -> Pruner:
        """The pruner, with None replaced by the default."""
        unset: Pruner = "none" if self.minimize or not self.trains_trials else "median"
        return self.pruner or unset

    @property
    def resolved_sampler(self) -> Sampler:
        """The sampler, with None replaced by the default."""
        return self.sampler or ("gp" if self.trials <= _MAX_MODELLED else "nsga2")

    @property
    def resolved_shared_rule(self) -> SharedRule:
        """The networks of a step of the shared training, with None replaced by the default."""
        unset: SharedRule = "sandwich" if self.match == "none" else "budget"
        return self.shared_rule or unset

    @property
    def trains_trials(self) -> bool:
        """Whether each trial trains a network of its own."""
        return self.evaluate == "alone" or self.proxy_epochs is not None

    @property
    def proxy_epochs(self) -> int | None:
        """The epochs of a trial, if they are fewer than those of the finalists."""
        found = _PROXY_EPOCHS.fullmatch(self.evaluate)
        return int(found[1]) if found else None

    @property
    def counted_proxy(self) -> Literal["params", "macs"] | None:
        """The cost that stands in for accuracy, if one does."""
        cost = self.evaluate.removeprefix("proxy:")
        return cast(Literal["params", "macs"], cost) if cost in ("params", "macs") else None


def _is_candidate(point: str) -> bool:
    """Whether a point is one number of segments for any layer."""
    setting = parse_setting(point)
    return isinstance(setting, Segments) and not isinstance(setting.value, tuple)
