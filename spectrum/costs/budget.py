"""The width at which a network meets a budget of parameters or multiply-adds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spectrum.costs.count import count_parameters
from spectrum.costs.inputs import checked_shape, misfit
from spectrum.layers import whole
from spectrum.networks import MAX_WIDTH, NetworkConfig, build, is_code, takes
from spectrum.segments import Segments, parse_setting

__all__ = [
    "MIN_WIDTH",
    "Match",
    "build_on_meta",
    "check_solvable",
    "match_budget",
    "reference",
    "rounded",
]

CLOSE_ENOUGH = 0.002
MIN_WIDTH = 1e-4
STEPS = 25  # the width is searched within 2.5% of the estimate, in steps of 0.1%


class Match(NamedTuple):
    """A network that meets a budget.

    Attributes:
        config: the network, its width solved to four significant digits.
        miss: its cost over the budget less one: 0.01 is one per cent too much.
    """

    config: NetworkConfig
    miss: float


def reference(config: NetworkConfig) -> NetworkConfig:
    """The point whose cost is the budget of the others: one segment a channel, at width 1."""
    return config.model_copy(update={"segments": "C", "width": 1.0})


def match_budget(
    config: NetworkConfig,
    input_shape: Sequence[int],
    *,
    params: int | None = None,
    macs: int | None = None,
) -> Match:
    """Solve the width at which ``config`` costs as nearly as possible what the budget allows.

    Channel counts are whole numbers, and ``"C/8"`` gains a segment every eight channels, so the
    cost is neither smooth nor always rising in the width. The square-root law finds the
    neighbourhood, a walk outwards from there the nearest width.

    Args:
        config: the network; its own width is ignored.
        input_shape: of one example, as in ``(3, 299, 299)``; only multiply-adds depend on it.
        params: the budget in trainable parameters.
        macs: the budget in multiply-adds of convolutions and linear layers. With neither, the
            budget is the parameters of the same network at ``"C"`` and width 1.

    Returns:
        The configuration and the miss; they unpack as a pair.

    Raises:
        ValueError: both budgets are given, or one that no width comes near; the segments are
            explicit sizes, which hold at one width only; or the network can't take the input.
    """
    check_solvable(config)
    if params is not None and macs is not None:
        raise ValueError(f"params (={params}) and macs (={macs}) must not both be given")
    shape = checked_shape(input_shape)
    cost = _macs_by_width(config, shape) if macs is not None else _params_by_width(config)
    if params is None and macs is None:
        params = count_parameters(build_on_meta(reference(config)))
    name, budget = ("macs", macs) if macs is not None else ("params", params)
    budget = whole(name, budget)
    width = 1.0
    for _ in range(8):
        ratio = budget / cost(width)
        width = rounded(width * ratio**0.5)
        if abs(ratio - 1) < CLOSE_ENOUGH:
            break
    best = width
    best_miss = cost(width) / budget - 1
    for step in range(1, STEPS + 1):
        for candidate in (rounded(width * (1 + step / 1000)), rounded(width * (1 - step / 1000))):
            if abs(best_miss) <= CLOSE_ENOUGH:
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


def check_solvable(config: NetworkConfig) -> None:
    """Raise a ValueError for a network of which no width can be solved."""
    if any(isinstance(point.value, tuple) for point in _points(config.segments)):
        raise ValueError(
            f"segments (={config.segments}) must not be explicit sizes where a width is solved"
        )
    if is_code(config.name) and not takes(config.name, "width"):
        raise ValueError(
            f"network (={config.name}) must take an argument width for its cost to be matched"
        )


def build_on_meta(config: NetworkConfig) -> nn.Module:
    """The network without memory for its weights, saying nothing of saturated layers."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build(config)


def rounded(width: float) -> float:
    """A width to four significant digits, within what is allowed."""
    return float(f"{min(max(width, MIN_WIDTH), MAX_WIDTH):.4g}")


def _points(segments: str) -> Iterable[Segments]:
    setting = parse_setting(segments)
    if isinstance(setting, Segments):
        return [setting]
    return setting.values() if isinstance(setting, dict) else setting


def _params_by_width(config: NetworkConfig) -> Callable[[float], int]:
    return lambda width: count_parameters(build_on_meta(config.model_copy(update={"width": width})))


def _macs_by_width(config: NetworkConfig, shape: tuple[int, int, int]) -> Callable[[float], int]:
    """Multiply-adds as a function of the width: weights times output positions, layer by layer.

    The positions don't depend on the width, so one forward pass on the meta device gives them.
    """
    positions: dict[str, int] = {}

    def note(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            positions[name] = output[0, 0].numel() if output.dim() == 4 else 1

        return hook

    network = build_on_meta(config.model_copy(update={"width": 1.0})).eval()
    for name, module in network.named_modules():
        module.register_forward_hook(note(name))
    try:
        with torch.no_grad():
            network(torch.empty(1, *shape, device="meta"))
    except RuntimeError as error:
        raise misfit(network, shape, error) from error

    def at(name: str) -> int:
        # An uneven convolution has parts that are there at some widths only.
        while name not in positions:
            name = name.rpartition(".")[0]
        return positions[name]

    def macs(width: float) -> int:
        scaled = build_on_meta(config.model_copy(update={"width": width}))
        return sum(
            module.weight.numel() * at(name)
            for name, module in scaled.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        )

    return macs
