"""The width at which a network meets a budget of parameters or multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import nn

from spectrum.costs.choices import Matching
from spectrum.costs.count import count_parameters
from spectrum.costs.fast import count_config
from spectrum.costs.inputs import checked_shape, record_calls
from spectrum.errors import FieldError
from spectrum.layers import check_int
from spectrum.networks import MAX_WIDTH, NetworkConfig, build_on_meta, is_user_code, takes_argument
from spectrum.segments import Segments, parse_setting

TOLERANCE = 0.002  # of the miss
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
    """The configuration whose cost is the default budget: one segment per channel, at width 1."""
    return config.model_copy(update={"segments": "C", "width": 1.0})


def count_reference(config: NetworkConfig, input_shape: Sequence[int], match: Matching) -> int:
    """The parameters or MACs, as ``match`` says, of a network at ``"C"`` and width 1."""
    return int(getattr(count_config(reference_config(config), input_shape), match))


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
            explicit sizes, which fit one width only; or the network can't process the input.
    """
    check_width_solvable(config)
    if params is not None and macs is not None:
        raise FieldError("params", params, f"must not be given with macs (={macs})")
    shape = checked_shape(input_shape)
    if params is None and macs is None:
        params = count_parameters(build_on_meta(reference_config(config)))
    name, given = ("params", params) if macs is None else ("macs", macs)
    budget = check_int(name, given)
    count = count_parameters if macs is None else _mac_counter(config, shape)

    def cost(width: float) -> int:
        return count(build_on_meta(config.model_copy(update={"width": width})))

    width = 1.0
    for _ in range(8):
        ratio = budget / cost(width)
        width = round_width(width * ratio**0.5)
        if abs(ratio - 1) < TOLERANCE:
            break
    costs: dict[float, int] = {}
    for candidate in dict.fromkeys(widths_around(width, SEARCH_STEPS, 1 / 1000)):
        costs[candidate] = cost(candidate)
        if abs(costs[candidate] / budget - 1) <= TOLERANCE:
            break
    best = min(costs, key=lambda width: abs(costs[width] / budget - 1))
    miss = costs[best] / budget - 1
    if abs(miss) > 0.5:
        allowed = f"must be near what a width can reach: the nearest network has {costs[best]}"
        raise FieldError(name, budget, allowed)
    return Match(config.model_copy(update={"width": best}), miss)


def check_width_solvable(config: NetworkConfig) -> None:
    """Raise a FieldError if a network's width can't be solved: explicit sizes, or no width."""
    setting = parse_setting(config.segments)
    if isinstance(setting, Segments):
        setting = (setting,)
    elif isinstance(setting, dict):
        setting = tuple(setting.values())
    if any(isinstance(segments.value, tuple) for segments in setting):
        allowed = "must not be explicit sizes where a width is solved"
        raise FieldError("segments", config.segments, allowed)
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


def _mac_counter(config: NetworkConfig, shape: tuple[int, int, int]) -> Callable[[nn.Module], int]:
    """A function that counts the multiply-adds of a network of any width.

    They are weights times output positions of each layer. The positions don't depend on the width,
    so one forward pass on the meta device is enough.
    """
    calls = record_calls(build_on_meta(config.model_copy(update={"width": 1.0})), shape)
    positions = {
        call.name: math.prod(call.output_shape[1:]) if len(call.output_shape) == 3 else 1
        for call in calls
    }

    def positions_of(name: str) -> int:
        # An uneven convolution has parts that exist at some widths only; it has their positions.
        while name not in positions:
            name = name.rpartition(".")[0]
        return positions[name]

    def count(network: nn.Module) -> int:
        return sum(
            module.weight.numel() * positions_of(name)
            for name, module in network.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        )

    return count
