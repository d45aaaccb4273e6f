"""The costs of a network of ours from the shapes alone: nothing is computed, nothing traced.

All that fvcore counts in our families is done by convolutions, linear layers, batch normalisation
and adaptive average pooling, each a module, so a pass on the meta device tells every cost. It is
tested to be equal to fvcore's trace, row for row. A user's module may do anything: it is traced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from spectrum.costs.budget import build_on_meta
from spectrum.costs.cache import cached
from spectrum.costs.count import Costs, count_costs, count_parameters
from spectrum.costs.inputs import (
    checked_shape,
    evaluating,
    make_example,
    misfit,
    recording_shapes,
)
from spectrum.costs.table import make_table
from spectrum.networks import NetworkConfig, build, is_code

__all__ = ["count_config"]

_COUNTED = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.AdaptiveAvgPool2d)


def count_config(config: NetworkConfig, input_shape: Sequence[int]) -> Costs:
    """Count the costs of the network that a configuration describes.

    The same as ``count_costs(build(config), input_shape)``, in less time: for our own families
    no arithmetic is done, and counts are kept in the user's cache directory. A network by the
    name of a callable, ``package.module:callable``, is built and traced each time.

    Args:
        config: the network.
        input_shape: of one example, as in ``(3, 299, 299)``.

    Raises:
        ValueError: its segments don't fit its layers, or it can't take the input.
    """
    shape = checked_shape(input_shape)
    if is_code(config.name):
        return count_costs(build(config), shape)
    return cached(config, shape, lambda: _count_on_meta(build_on_meta(config), shape))


def _count_on_meta(network: nn.Module, shape: tuple[int, int, int]) -> Costs:
    """The counts of a network of ours on the meta device; it is left with hooks."""
    known = [(n, m) for n, m in network.named_modules() if isinstance(m, _COUNTED)]
    counted = sum(p.numel() for _, module in known for p in module.parameters())
    assert counted == sum(p.numel() for p in network.parameters()), "parameters of unknown cost"
    macs: Counter[str] = Counter()
    activations: Counter[str] = Counter()
    others = 0  # what fvcore adds to multiply-adds

    def counting(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        paths = {"", name, *(name[:i] for i, letter in enumerate(name) if letter == ".")}

        def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            nonlocal others
            if isinstance(module, nn.Conv2d | nn.Linear):
                # Each weight meets each position of the output once.
                cost = module.weight.numel() * (output.numel() // module.weight.shape[0])
                for path in paths:
                    macs[path] += cost
                    activations[path] += output.numel()
            elif isinstance(module, nn.BatchNorm2d):
                others += (2 if module.affine else 1) * output.numel()
            else:
                others += inputs[0].numel()  # the pooling reads each value once

        return count

    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in known:
        module.register_forward_hook(counting(name))
        if isinstance(module, nn.BatchNorm2d):
            # It changes no shape; on the meta device torch spells out all of its arithmetic.
            module.forward = nn.Identity().forward  # type: ignore[method-assign]
    with evaluating(network), recording_shapes(network, shapes):
        try:
            network(make_example(network, shape))
        except RuntimeError as error:
            raise misfit(network, shape, error) from error
    return Costs(
        params=count_parameters(network),
        macs=macs[""],
        fvcore_total=macs[""] + others,
        activations=activations[""],
        table=make_table(network, macs, activations, shapes),
    )
