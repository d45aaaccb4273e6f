"""Fast counts for the network families of this package, from shapes alone.

Everything that fvcore counts in these families is done by modules of five kinds: convolutions,
linear layers, batch and layer normalisation and adaptive average pooling. So a forward pass on the
meta device, which computes nothing, gives every cost. Tests compare the counts with fvcore's trace,
row by row. A user's own model may do anything, so ``count_costs`` traces it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from torch import nn

from spectrum.costs.cache import cached_costs
from spectrum.costs.count import count_costs
from spectrum.costs.inputs import checked_shape, path_and_parents, record_calls
from spectrum.costs.rows import Costs, module_costs
from spectrum.networks import NetworkConfig, build, build_on_meta, is_user_code
from spectrum.networks.convnext import GlobalResponseNorm, LayerScale

_COUNTED = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.LayerNorm, nn.AdaptiveAvgPool2d)
_NOT_COUNTED = (GlobalResponseNorm, LayerScale)  # whose operators fvcore counts as nothing


def count_config(config: NetworkConfig, input_shape: Sequence[int]) -> Costs:
    """Count the costs of the network that a configuration describes.

    The result is that of ``count_costs(build(config), input_shape)``, in less time. For the
    families of this package nothing is computed, and counts are kept in the user's cache folder.
    A user's own model, ``package.module:callable``, is built and traced each time.

    Args:
        config: the network.
        input_shape: the shape of one example, such as ``(3, 299, 299)``.

    Raises:
        FieldError: the segments don't fit the layers, or the network can't process the input.
    """
    shape = checked_shape(input_shape)
    if is_user_code(config.name):
        return count_costs(build(config), shape)
    return cached_costs(config, shape, lambda: count_on_meta(build_on_meta(config), shape))


def count_on_meta(network: nn.Module, shape: tuple[int, int, int]) -> Costs:
    """Count a network on the meta device, one of the families of this package."""
    known = [m for m in network.modules() if isinstance(m, (*_COUNTED, *_NOT_COUNTED))]
    covered = sum(p.numel() for module in known for p in module.parameters())
    assert covered == sum(p.numel() for p in network.parameters()), "parameters of unknown cost"
    macs: Counter[str] = Counter()
    activations: Counter[str] = Counter()
    others = 0  # fvcore's counts of normalisation and pooling
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module, input_shape, output_shape, _ in record_calls(network, shape):
        shapes[name] = output_shape
        outputs = math.prod(output_shape)
        if isinstance(module, nn.Conv2d | nn.Linear):
            # Each weight is used once at each position of the output.
            cost = module.weight.numel() * (outputs // module.weight.shape[0])
            for path in path_and_parents(name):
                macs[path] += cost
                activations[path] += outputs
        elif isinstance(module, nn.BatchNorm2d):
            others += (2 if module.affine else 1) * outputs
        elif isinstance(module, nn.LayerNorm):
            others += 5 * outputs  # fvcore's number for one with weights
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            others += math.prod(input_shape)  # one operation per input value
    return Costs(shape, macs[""] + others, module_costs(network, macs, activations, shapes))
