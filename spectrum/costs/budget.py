"""The width at which a network meets a budget of parameters or multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spectrum.costs.count import count_parameters
from spectrum.costs.inputs import checked_shape, input_shape_error
from spectrum.layers import check_int
from spectrum.networks import MAX_WIDTH, NetworkConfig, build_on_meta, is_user_code, takes_argument
from spectrum.segments import Segments, parse_setting

__all__ = [
    "MIN_WIDTH",
    "Match",
    "check_width_solvable",
    "match_budget",
    "reference_config",
    "round_width",
]

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
        ValueError: both budgets are given, or no width comes near the budget; the segments are
            explicit sizes, which fit one width only; or the network can't process the input.
    """
    check_width_solvable(config)
    if params is not None and macs is not None:
        raise ValueError(f"params (={params}) and macs (={macs}) must not both be given")
    shape = checked_shape(input_shape)
    cost = _macs_by_width(config, shape) if macs is not None else _params_by_width(config)
    if params is None and macs is None:
        params = count_parameters(build_on_meta(reference_config(config)))
    name, budget = ("macs", macs) if macs is not None else ("params", params)
    budget = check_int(name, budget)
    width = 1.0
    for _ in range(8):
        ratio = budget / cost(width)
        width = round_width(width * ratio**0.5)
        if abs(ratio - 1) < TOLERANCE:
            break
    best = width
    best_miss = cost(width) / budget - 1
    for step in range(1, SEARCH_STEPS + 1):
        for candidate in (
            round_width(width * (1 + step / 1000)),
            round_width(width * (1 - step / 1000)),
        ):
            if abs(best_miss) <= TOLERANCE:
                break
            miss = cost(candidate) / budget - 1
            if abs(miss) < abs(best_miss):
                best, best_miss = candidate, miss
    if abs(best_miss) > 0.5:
        raise ValueError(
            f"{name} (={budget}) must be near what a width can reach: the nearest network has "
            f"{cost(best)}"
        )
    return Match(config.model_copy(update={"width": best}), best_miss)


def check_width_solvable(config: NetworkConfig) -> None:
    """Raise a ValueError if a network's width can't be solved: explicit sizes, or no width."""
    if any(isinstance(value.value, tuple) for value in _segments(config.segments)):
        raise ValueError(
            f"segments (={config.segments}) must not be explicit sizes where a width is solved"
        )
    if is_user_code(config.name) and not takes_argument(config.name, "width"):
        raise ValueError(
            f"network (={config.name}) must take an argument width for its cost to be matched"
        )


def round_width(width: float) -> float:
    """A width rounded to four significant digits, within the allowed range."""
    return float(f"{min(max(width, MIN_WIDTH), MAX_WIDTH):.4g}")


def _segments(segments: str) -> Iterable[Segments]:
    """The values that a setting consists of, by flow or by layer."""
    setting = parse_setting(segments)
    if isinstance(setting, Segments):
        return [setting]
    return setting.values() if isinstance(setting, dict) else setting


def _params_by_width(config: NetworkConfig) -> Callable[[float], int]:
    return lambda width: count_parameters(build_on_meta(config.model_copy(update={"width": width})))


def _macs_by_width(config: NetworkConfig, shape: tuple[int, int, int]) -> Callable[[float], int]:
    """Multiply-adds as a function of the width: weights times output positions of each layer.

    The positions don't depend on the width, so one forward pass on the meta device is enough.
    """
    positions: dict[str, int] = {}

    def make_hook(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def record(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            positions[name] = output[0, 0].numel() if output.dim() == 4 else 1

        return record

    network = build_on_meta(config.model_copy(update={"width": 1.0})).eval()
    for name, module in network.named_modules():
        module.register_forward_hook(make_hook(name))
    try:
        with torch.no_grad():
            network(torch.empty(1, *shape, device="meta"))
    except RuntimeError as error:
        raise input_shape_error(network, shape, error) from error

    def positions_of(name: str) -> int:
        # An uneven convolution has parts that exist at some widths only; it has their positions.
        while name not in positions:
            name = name.rpartition(".")[0]
        return positions[name]

    def macs(width: float) -> int:
        scaled = build_on_meta(config.model_copy(update={"width": width}))
        return sum(
            module.weight.numel() * positions_of(name)
            for name, module in scaled.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        )

    return macs
