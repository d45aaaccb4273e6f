"""Fast counts for the network families of this package, from shapes alone.

Everything that fvcore counts in these families is done by modules of four kinds: convolutions,
linear layers, batch normalisation and adaptive average pooling. So a forward pass on the meta
device, which computes nothing, gives every cost. Tests compare the counts with fvcore's trace, row
by row. A user's own model may do anything, so ``count_costs`` traces it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from spectrum.costs.cache import cached_costs
from spectrum.costs.count import Costs, count_costs, count_parameters
from spectrum.costs.inputs import (
    checked_shape,
    eval_mode,
    input_shape_error,
    make_example,
    record_output_shapes,
)
from spectrum.costs.table import make_table
from spectrum.networks import NetworkConfig, build, build_on_meta, is_user_code

__all__ = ["count_config"]

_COUNTED = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.AdaptiveAvgPool2d)


def count_config(config: NetworkConfig, input_shape: Sequence[int]) -> Costs:
    """Count the costs of the network that a configuration describes.

    The result is that of ``count_costs(build(config), input_shape)``, in less time. For the
    families of this package nothing is computed, and counts are kept in the user's cache folder.
    A user's own model, ``package.module:callable``, is built and traced each time.

    Args:
        config: the network.
        input_shape: the shape of one example, such as ``(3, 299, 299)``.

    Raises:
        ValueError: the segments don't fit the layers, or the network can't process the input.
    """
    shape = checked_shape(input_shape)
    if is_user_code(config.name):
        return count_costs(build(config), shape)
    return cached_costs(config, shape, lambda: _count_on_meta(build_on_meta(config), shape))


def _count_on_meta(network: nn.Module, shape: tuple[int, int, int]) -> Costs:
    """Count a network on the meta device; hooks remain in it, so it can't be used again."""
    modules = [(n, m) for n, m in network.named_modules() if isinstance(m, _COUNTED)]
    covered = sum(p.numel() for _, module in modules for p in module.parameters())
    assert covered == sum(p.numel() for p in network.parameters()), "parameters of unknown cost"
    macs: Counter[str] = Counter()
    activations: Counter[str] = Counter()
    others = 0  # fvcore's counts of batch normalisation and pooling

    def make_hook(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        paths = {"", name, *(name[:i] for i, letter in enumerate(name) if letter == ".")}

        def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            nonlocal others
            if isinstance(module, nn.Conv2d | nn.Linear):
                # Each weight is used once at each position of the output.
                cost = module.weight.numel() * (output.numel() // module.weight.shape[0])
                for path in paths:
                    macs[path] += cost
                    activations[path] += output.numel()
            elif isinstance(module, nn.BatchNorm2d):
                others += (2 if module.affine else 1) * output.numel()
            else:
                others += inputs[0].numel()  # one operation per input value

        return count

    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in modules:
        module.register_forward_hook(make_hook(name))
        if isinstance(module, nn.BatchNorm2d):
            # It keeps the shape, and torch decomposes it on the meta device, which is slow.
            module.forward = nn.Identity().forward  # type: ignore[method-assign]
    with eval_mode(network), record_output_shapes(network, shapes):
        try:
            network(make_example(network, shape))
        except RuntimeError as error:
            raise input_shape_error(network, shape, error) from error
    return Costs(
        params=count_parameters(network),
        macs=macs[""],
        fvcore_total=macs[""] + others,
        activations=activations[""],
        table=make_table(network, macs, activations, shapes),
    )
