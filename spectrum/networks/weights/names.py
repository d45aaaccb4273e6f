"""What each layout calls the tensors of a network, and what they are called here.

The tables are whole whatever a source holds, so that what it lacks can be named. Of a source only
its names are looked at, and how many dimensions a tensor has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from torch import Tensor

from spectrum.networks.weights.keras import keras_names

__all__ = ["tensor_names"]

Names: TypeAlias = dict[str, str]


def tensor_names(layout: str, tensors: Mapping[str, Tensor]) -> Names:
    """Every tensor of a layout: as this source calls it, or would, and as its network here does.

    Args:
        layout: one of ``LAYOUTS``.
        tensors: of the source, by its own names.
    """
    return _TABLES[layout](tensors)


# Xception: Keras's number of a module, the module here, and where its convolutions are in it.
# timm counts modules from one less and places convolutions alike.
_REDUCING, _MIDDLE = (1, 4), (1, 4, 7)
_MODULES: tuple[tuple[int, str, tuple[int, ...]], ...] = (
    (2, "entry.0", (0, 3)),
    (3, "entry.1", _REDUCING),
    (4, "entry.2", _REDUCING),
    *((5 + i, f"middle.{i}", _MIDDLE) for i in range(8)),
    (13, "exit.0", _REDUCING),
)


def _timm_legacy_xception(tensors: Iterable[str]) -> Names:
    names = _conv("conv1", "stem.0") | _norm("bn1", "stem.1")
    names |= _conv("conv2", "stem.3") | _norm("bn2", "stem.4")
    for number, module, places in _MODULES:
        block = f"block{number - 1}"
        for i in places:
            names |= _timm_separable(f"{block}.rep.{i}", f"{module}.branch.{i}")
            names |= _norm(f"{block}.rep.{i + 1}", f"{module}.branch.{i + 1}")
        if places != _MIDDLE:
            names |= _conv(f"{block}.skip", f"{module}.shortcut.0")
            names |= _norm(f"{block}.skipbn", f"{module}.shortcut.1")
    names |= _timm_separable("conv3", "exit.1") | _norm("bn3", "exit.2")
    names |= _timm_separable("conv4", "exit.4") | _norm("bn4", "exit.5")
    head = "last_linear" if "last_linear.weight" in set(tensors) else "fc"
    return names | _linear(head, "classifier")


def _timm_separable(source: str, target: str) -> Names:
    spatial = _conv(f"{source}.conv1", f"{target}.spatial")
    return spatial | _conv(f"{source}.pointwise", f"{target}.pointwise")


def _keras_xception(tensors: Mapping[str, Tensor]) -> Names:
    convs = [("block1_conv1", "stem.0"), ("block1_conv2", "stem.3")]
    norms = [("block1_conv1_bn", "stem.1"), ("block1_conv2_bn", "stem.4")]
    separables = []
    for number, module, places in _MODULES:
        for i, place in enumerate(places, 1):
            separables.append((f"block{number}_sepconv{i}", f"{module}.branch.{place}"))
            norms.append((f"block{number}_sepconv{i}_bn", f"{module}.branch.{place + 1}"))
        if places != _MIDDLE:
            shortcut = len(convs) - 2
            convs.append((f"conv2d_{shortcut}", f"{module}.shortcut.0"))
            norms.append((f"batch_normalization_{shortcut}", f"{module}.shortcut.1"))
    separables += [("block14_sepconv1", "exit.1"), ("block14_sepconv2", "exit.4")]
    norms += [("block14_sepconv1_bn", "exit.2"), ("block14_sepconv2_bn", "exit.5")]
    return keras_names(
        tensors,
        {
            "conv2d": convs,
            "separable_conv2d": separables,
            "batch_normalization": norms,
            "dense": [("predictions", "classifier")],
        },
    )


# Inception V3: the convolutions of each kind of module, in the order in which Keras and the
# module here define them, each with how many stand between it and the module's end, itself
# counted. Concatenating within a branch counts as half of one.
_FIRST: dict[str, float] = {
    "branch1x1": 1,
    **{"branch5x5_1": 2, "branch5x5_2": 1},
    **{"branch3x3dbl_1": 3, "branch3x3dbl_2": 2, "branch3x3dbl_3": 1},
    "branch_pool": 1,
}
_FIRST_REDUCTION: dict[str, float] = {
    "branch3x3": 1,
    **{"branch3x3dbl_1": 3, "branch3x3dbl_2": 2, "branch3x3dbl_3": 1},
}
_SECOND: dict[str, float] = {
    "branch1x1": 1,
    **{f"branch7x7_{i}": 4 - i for i in range(1, 4)},
    **{f"branch7x7dbl_{i}": 6 - i for i in range(1, 6)},
    "branch_pool": 1,
}
_SECOND_REDUCTION: dict[str, float] = {
    **{"branch3x3_1": 2, "branch3x3_2": 1},
    **{f"branch7x7x3_{i}": 5 - i for i in range(1, 5)},
}
_THIRD: dict[str, float] = {
    "branch1x1": 1,
    **{"branch3x3_1": 2.5, "branch3x3_2a": 1.5, "branch3x3_2b": 1.5},
    **{"branch3x3dbl_1": 3.5, "branch3x3dbl_2": 2.5},
    **{"branch3x3dbl_3a": 1.5, "branch3x3dbl_3b": 1.5},
    "branch_pool": 1,
}

_INCEPTION_STEM = {"Conv2d_1a_3x3": "stem.0", "Conv2d_2a_3x3": "stem.1", "Conv2d_2b_3x3": "stem.2"}
_INCEPTION_STEM |= {"Conv2d_3b_1x1": "stem.4", "Conv2d_4a_3x3": "stem.5"}
_MIXED: dict[str, tuple[str, dict[str, float]]] = {
    **{f"Mixed_5{letter}": (f"mixed5.{i}", _FIRST) for i, letter in enumerate("bcd")},
    "Mixed_6a": ("mixed6.0", _FIRST_REDUCTION),
    **{f"Mixed_6{letter}": (f"mixed6.{i}", _SECOND) for i, letter in enumerate("bcde", 1)},
    "Mixed_7a": ("mixed7.0", _SECOND_REDUCTION),
    **{f"Mixed_7{letter}": (f"mixed7.{i}", _THIRD) for i, letter in enumerate("bc", 1)},
}
# The rest of a module's convolutions are spatial, and so on the dial.
_POINTWISE = {"branch1x1", "branch_pool", "branch3x3dbl_1", "branch3x3_1"}
_POINTWISE |= {"branch5x5_1", "branch7x7_1", "branch7x7dbl_1", "branch7x7x3_1"}


def _in_module(module: str, branch: str) -> str:
    """The convolution of a branch, as it is called here."""
    return f"{module}.{branch}.conv" if branch in _POINTWISE else f"{module}.{branch}.conv.spatial"


def _torchvision_inception_v3(tensors: Iterable[str]) -> Names:
    names: Names = {}
    for source, target in _INCEPTION_STEM.items():
        names |= _conv(f"{source}.conv", f"{target}.conv") | _norm(f"{source}.bn", f"{target}.bn")
    for source, (target, branches) in _MIXED.items():
        for branch in branches:
            names |= _conv(f"{source}.{branch}.conv", _in_module(target, branch))
            names |= _norm(f"{source}.{branch}.bn", f"{target}.{branch}.bn")
    for part in ("conv0", "conv1"):
        names |= _conv(f"AuxLogits.{part}.conv", f"aux.{part}.conv")
        names |= _norm(f"AuxLogits.{part}.bn", f"aux.{part}.bn")
    return names | _linear("AuxLogits.fc", "aux.fc") | _linear("fc", "fc")


def _keras_inception_v3(tensors: Mapping[str, Tensor]) -> Names:
    # In the order of definition, which numbers the layers' names, and then in Keras's order of
    # layers, by their distance from the output.
    convs = [(f"{target}.conv", f"{target}.bn") for target in _INCEPTION_STEM.values()]
    order: list[int] = list(range(len(convs)))
    for target, branches in _MIXED.values():
        steps = dict(enumerate(branches.values(), len(convs)))
        order += sorted(steps, key=lambda i: -steps[i])
        convs += [(_in_module(target, b), f"{target}.{b}.bn") for b in branches]
    return keras_names(
        tensors,
        {
            "conv2d": [(f"conv2d_{i}", convs[i][0]) for i in order],
            "batch_normalization": [(f"batch_normalization_{i}", convs[i][1]) for i in order],
            "dense": [("predictions", "fc")],
        },
    )


def _torchvision_resnet(tensors: Iterable[str]) -> Names:
    names = _conv("conv1", "conv1") | _norm("bn1", "bn1")
    blocks = {"1": 0, "2": 0, "3": 0, "4": 0}
    for name in tensors:
        if match := re.match(r"layer([1-4])\.(\d+)\.", name):
            blocks[match[1]] = max(blocks[match[1]], int(match[2]) + 1)
    for layer, depth in blocks.items():
        for i in range(depth):
            block = f"layer{layer}.{i}"
            for part in ("1", "2", "3"):
                dialled = ".spatial" if part == "2" else ""
                names |= _conv(f"{block}.conv{part}", f"{block}.conv{part}{dialled}")
                names |= _norm(f"{block}.bn{part}", f"{block}.bn{part}")
            if i == 0:
                names |= _conv(f"{block}.downsample.0", f"{block}.downsample.0")
                names |= _norm(f"{block}.downsample.1", f"{block}.downsample.1")
    return names | _linear("fc", "fc")


_VGG_DEPTHS = ((1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4))


def _vgg(tensors: Iterable[str], hidden: Sequence[str], head: str) -> Names:
    """The depth, with or without batch normalisation, that most of the names speak for."""
    found = set(tensors)
    tables = [_vgg_features(stages, bn) for stages in _VGG_DEPTHS for bn in (False, True)]
    names = max(tables, key=lambda table: (len(found & set(table)), -len(table)))
    names |= _linear(hidden[0], "hidden.0") | _linear(hidden[1], "hidden.3")
    return names | _linear(head, "classifier")


def _vgg_features(stages: Sequence[int], batch_norm: bool) -> Names:
    names: Names = {}
    step, number = 2 + batch_norm, 0
    for stage, convs in enumerate(stages, 1):
        for i in range(convs):
            spatial = f"stage{stage}.{i * step}.spatial"
            names |= _linear(f"features.{number}", spatial)
            if batch_norm:
                names |= _norm(f"features.{number + 1}", f"stage{stage}.{i * step + 1}")
            number += step
        number += 1  # the pooling
    return names


def _conv(source: str, target: str) -> Names:
    return {f"{source}.weight": f"{target}.weight"}


def _linear(source: str, target: str) -> Names:
    return _conv(source, target) | {f"{source}.bias": f"{target}.bias"}


def _norm(source: str, target: str) -> Names:
    statistics = {f"{source}.running_{t}": f"{target}.running_{t}" for t in ("mean", "var")}
    return _linear(source, target) | statistics


_TABLES: dict[str, Callable[[Mapping[str, Tensor]], Names]] = {
    "keras_xception": _keras_xception,
    "keras_inception_v3": _keras_inception_v3,
    "timm_legacy_xception": _timm_legacy_xception,
    "torchvision_inception_v3": _torchvision_inception_v3,
    "torchvision_vgg": lambda t: _vgg(t, ("classifier.0", "classifier.3"), "classifier.6"),
    "timm_vgg": lambda t: _vgg(t, ("pre_logits.fc1", "pre_logits.fc2"), "head.fc"),
    "torchvision_resnet": _torchvision_resnet,
}
