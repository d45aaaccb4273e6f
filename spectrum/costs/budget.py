"""The width at which a network meets a budget of parameters or multiply-adds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, NoReturn

from torch import nn

from spectrum.costs.choices import Matching
from spectrum.costs.count import count_parameters
from spectrum.costs.fast import count_config
from spectrum.costs.inputs import checked_shape, record_calls
from spectrum.errors import FieldError
from spectrum.layers import check_int
from spectrum.networks import (
    MAX_WIDTH,
    NetworkConfig,
    build,
    build_on_meta,
    is_user_code,
    takes_argument,
)
from spectrum.networks.widths import once_per_channels
from spectrum.segments import Segments, parse_setting

TOLERANCE = 0.002  # of the miss
LARGEST_MISS = 0.5
MIN_WIDTH = 1e-4
SEARCH_STEPS = 25  # of 0.1% each, to either side of the estimated width


class Match(NamedTuple):
    """A network that meets a budget.

    Attributes:
        config: the network, with its width solved to four significant digits.
        miss: its cost divided by the budget, minus one; 0.01 means 1% too much.
    """

    config: NetworkConfig
    miss: float


def reference_config(config: NetworkConfig) -> NetworkConfig:
    """The configuration whose cost is the default budget: one segment per channel, at width 1.

    Its 1x1 convolutions are in one segment. So all points of both dials have the same budget.
    """
    plain = {"segments": "C", "width": 1.0, "pointwise_segments": "1", "shuffle": False}
    return config.model_copy(update=plain)


def count_reference(config: NetworkConfig, input_shape: Sequence[int], match: Matching) -> int:
    """The parameters or MACs, as ``match`` says, of a network at ``"C"`` and width 1.

    Raises:
        FieldError: the network can't be counted.
    """
    reference = reference_config(config)
    if match == "params":
        return _count_params(reference)
    return _known_macs(reference, input_shape)


def match_budget(
    config: NetworkConfig,
    input_shape: Sequence[int],
    *,
    params: int | None = None,
    macs: int | None = None,
) -> Match:
    """Solve the width at which a network's cost is as near to a budget as possible.

    Channel counts are whole numbers, and ``"C/8"`` gains a segment every eight channels. So the
    cost isn't a smooth function of the width and may even fall. The cost is about proportional to
    the square of the width, which gives an estimate; then widths on both sides of it are tried.

    Args:
        config: the network; its own width is ignored.
        input_shape: the shape of one example, such as ``(3, 299, 299)``. Only multiply-adds depend
            on it.
        params: the budget in trainable parameters.
        macs: the budget in multiply-adds of convolutions and linear layers. If neither budget is
            given, it is the number of parameters of the same network at ``"C"`` and width 1.

    Returns:
        The configuration and the miss, which unpack as a pair.

    Raises:
        FieldError: both budgets are given, or no width comes near the budget; the segments are
            explicit sizes, which fit one width only; the network can't process the input; or its
            multiply-adds are matched and it runs operators whose cost isn't known.
    """
    check_width_solvable(config)
    if params is not None and macs is not None:
        raise FieldError("params", params, f"must not be given with macs (={macs})")
    shape = checked_shape(input_shape)
    if params is None and macs is None:
        params = count_reference(config, shape, "params")
    name, given = ("params", params) if macs is None else ("macs", macs)
    budget = check_int(name, given)
    count = _count_params if macs is None else _mac_counter(config, shape)

    cost = once_per_channels(
        config, lambda width: count(config.model_copy(update={"width": width}))
    )
    return solve_width(config, name, budget, cost)


def solve_width(
    config: NetworkConfig, name: str, budget: int, cost: Callable[[float], int]
) -> Match:
    """As ``match_budget``, with the function that counts.

    Args:
        config: the network, whose width can be solved.
        name: the name of the budget.
        budget: the budget.
        cost: counts the network of a width, in the same unit.

    Raises:
        FieldError: no width comes near the budget.
    """

    def refuse(width: float) -> NoReturn:
        allowed = f"must be near what a width can reach: the nearest network has {cost(width)}"
        raise FieldError(name, budget, allowed)

    width = 1.0
    for _ in range(8):
        ratio = budget / cost(width)
        width = round_width(width * ratio**0.5)
        if abs(ratio - 1) < TOLERANCE:
            break
    if width in (MIN_WIDTH, MAX_WIDTH) and abs(cost(width) / budget - 1) > LARGEST_MISS:
        refuse(width)  # at once, since large networks take long to build
    tried: list[float] = []
    for candidate in dict.fromkeys(widths_around(width, SEARCH_STEPS, 1 / 1000)):
        tried.append(candidate)
        if abs(cost(candidate) / budget - 1) <= TOLERANCE:
            break
    best = min(tried, key=lambda width: abs(cost(width) / budget - 1))
    miss = cost(best) / budget - 1
    if abs(miss) > LARGEST_MISS:
        refuse(best)
    return Match(config.model_copy(update={"width": best}), miss)


def check_width_solvable(config: NetworkConfig) -> None:
    """Raise a FieldError if a network's width can't be solved: explicit sizes, or no width."""
    for field in ("segments", "pointwise_segments"):
        setting = parse_setting(getattr(config, field))
        if isinstance(setting, Segments):
            setting = (setting,)
        elif isinstance(setting, dict):
            setting = tuple(setting.values())
        if any(isinstance(segments.value, tuple) for segments in setting):
            allowed = "must not be explicit sizes where a width is solved"
            raise FieldError(field, getattr(config, field), allowed)
    if is_user_code(config.name) and not takes_argument(config.name, "width"):
        allowed = "must take an argument width for its cost to be matched"
        raise FieldError("network", config.name, allowed)


def widths_around(width: float, steps: int, step: float) -> Iterator[float]:
    """A width, and the widths at equal distances to either side, the nearest first.

    Args:
        width: the width in the middle.
        steps: how many widths there are to either side.
        step: the distance between two of them, as a share of the width in the middle.
    """
    yield round_width(width)
    for i in range(1, steps + 1):
        yield round_width(width * (1 + i * step))
        yield round_width(width * (1 - i * step))


def round_width(width: float) -> float:
    """A width rounded to four significant digits, within the allowed range."""
    return float(f"{min(max(width, MIN_WIDTH), MAX_WIDTH):.4g}")


def _count_params(config: NetworkConfig) -> int:
    return count_parameters(build_on_meta(config))


def _known_macs(config: NetworkConfig, input_shape: Sequence[int]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its caller shows a network's warnings once
        costs = count_config(config, input_shape)
    if costs.unknown:
        allowed = f"runs operators of unknown cost: {', '.join(costs.unknown)}"
        raise FieldError("network", config.name, f"{allowed}; match params or none")
    return costs.macs


def positions_of_layers(config: NetworkConfig, shape: tuple[int, int, int]) -> Callable[[str], int]:
    """The number of output positions of each convolution and linear layer, by its path.

    It doesn't depend on the width, so one forward pass is enough. A layer's multiply-adds are its
    weights times its positions.
    """
    at_width_1 = config.model_copy(update={"width": 1.0})
    # A user's model may need values that the meta device doesn't have.
    make = build if is_user_code(config.name) else build_on_meta
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calls = record_calls(make(at_width_1), shape)
    positions = {
        call.name: math.prod(call.output_shape[1:]) if len(call.output_shape) == 3 else 1
        for call in calls
    }

    def positions_of(name: str) -> int:
        # An uneven convolution has parts that exist at some widths only; it has their positions.
        while name not in positions:
            name = name.rpartition(".")[0]
        return positions[name]

    return positions_of


def _mac_counter(
    config: NetworkConfig, shape: tuple[int, int, int]
) -> Callable[[NetworkConfig], int]:
    """A function that counts the multiply-adds of a network of any width.

    A user's model that multiplies outside of convolutions and linear layers, or runs one several
    times, is counted anew at each width.
    """
    positions_of = positions_of_layers(config, shape)

    def count(config: NetworkConfig) -> int:
        return sum(
            module.weight.numel() * positions_of(name)
            for name, module in build_on_meta(config).named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        )

    at_width_1 = config.model_copy(update={"width": 1.0})
    if is_user_code(config.name) and count(at_width_1) != _known_macs(at_width_1, shape):
        return partial(_known_macs, input_shape=shape)
    return count
