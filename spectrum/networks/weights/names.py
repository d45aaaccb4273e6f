"""The names of a network's tensors in each layout, with this package's names.

The tables are complete even if a source isn't, so that messages can name the tensors that it
lacks. They depend only on the source's names and on the tensors' numbers of dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from torch import Tensor

from spectrum.networks.weights.keras import keras_names

Names: TypeAlias = dict[str, str]


def tensor_names(layout: str, tensors: Mapping[str, Tensor]) -> Names:
    """Map the source's name of every tensor of a layout to this package's name.

    Args:
        layout: one of ``LAYOUTS``.
        tensors: the tensors by the source's names.

    Returns:
        The names, including those of tensors that the source or the network lacks.
    """
    return _TABLES[layout](tensors)


# Xception: Keras's number of a module, the module here, and how many convolutions it has. timm
# counts modules from one less.
_MODULES: tuple[tuple[int, str, int], ...] = (
    *((2 + i, f"entry.{i}", 2) for i in range(3)),
    *((5 + i, f"middle.{i}", 3) for i in range(8)),
    (13, "exit.block", 2),
)
_MIDDLE = 3  # convolutions of a middle module, the only kind without a shortcut of its own


def _timm_legacy_xception(tensors: Mapping[str, Tensor]) -> Names:
    modules = {"conv1": "stem.0.conv", "bn1": "stem.0.bn"}
    modules |= {"conv2": "stem.1.conv", "bn2": "stem.1.bn"}
    for number, module, convs in _MODULES:
        block = f"block{number - 1}"
        for i in range(convs):
            # timm numbers the layers of a module; all but the first module begin with a ReLU.
            place = 3 * i + (number > 2)
            modules |= _timm_separable(f"{block}.rep.{place}", f"{module}.conv{i + 1}")
            modules[f"{block}.rep.{place + 1}"] = f"{module}.bn{i + 1}"
        if convs != _MIDDLE:
            modules[f"{block}.skip"] = f"{module}.shortcut.0"
            modules[f"{block}.skipbn"] = f"{module}.shortcut.1"
    for i in (3, 4):
        modules |= _timm_separable(f"conv{i}", f"exit.conv{i}")
        modules[f"bn{i}"] = f"exit.bn{i}"
    modules["last_linear" if "last_linear.weight" in tensors else "fc"] = "classifier"
    return _with_tensors(modules)


def _timm_separable(source: str, target: str) -> Names:
    return {f"{source}.conv1": f"{target}.spatial", f"{source}.pointwise": f"{target}.pointwise"}


def _keras_xception(tensors: Mapping[str, Tensor]) -> Names:
    convs = [(f"block1_conv{i}", f"stem.{i - 1}.conv") for i in (1, 2)]
    norms = [(f"block1_conv{i}_bn", f"stem.{i - 1}.bn") for i in (1, 2)]
    separables = []
    for number, module, count in _MODULES:
        for i in range(1, count + 1):
            separables.append((f"block{number}_sepconv{i}", f"{module}.conv{i}"))
            norms.append((f"block{number}_sepconv{i}_bn", f"{module}.bn{i}"))
        if count != _MIDDLE:
            shortcut = len(convs) - 2
            convs.append((f"conv2d_{shortcut}", f"{module}.shortcut.0"))
            norms.append((f"batch_normalization_{shortcut}", f"{module}.shortcut.1"))
    separables += [(f"block14_sepconv{i}", f"exit.conv{i + 2}") for i in (1, 2)]
    norms += [(f"block14_sepconv{i}_bn", f"exit.bn{i + 2}") for i in (1, 2)]
    return keras_names(
        tensors,
        {
            "conv2d": convs,
            "separable_conv2d": separables,
            "batch_normalization": norms,
            "dense": [("predictions", "classifier")],
        },
    )


# Inception V3: the convolutions of each kind of module, in the order in which Keras and this
# package define them. The number of each is its distance from the module's end, in convolutions;
# a concatenation within a branch counts as half of one.
_INCEPTION_A: dict[str, float] = {
    "branch1x1": 1,
    "branch5x5_1": 2,
    "branch5x5_2": 1,
    "branch3x3dbl_1": 3,
    "branch3x3dbl_2": 2,
    "branch3x3dbl_3": 1,
    "branch_pool": 1,
}
_INCEPTION_B: dict[str, float] = {
    "branch3x3": 1,
    "branch3x3dbl_1": 3,
    "branch3x3dbl_2": 2,
    "branch3x3dbl_3": 1,
}
_INCEPTION_C: dict[str, float] = {
    "branch1x1": 1,
    **{f"branch7x7_{i}": 4 - i for i in range(1, 4)},
    **{f"branch7x7dbl_{i}": 6 - i for i in range(1, 6)},
    "branch_pool": 1,
}
_INCEPTION_D: dict[str, float] = {
    "branch3x3_1": 2,
    "branch3x3_2": 1,
    **{f"branch7x7x3_{i}": 5 - i for i in range(1, 5)},
}
_INCEPTION_E: dict[str, float] = {
    "branch1x1": 1,
    "branch3x3_1": 2.5,
    "branch3x3_2a": 1.5,
    "branch3x3_2b": 1.5,
    "branch3x3dbl_1": 3.5,
    "branch3x3dbl_2": 2.5,
    "branch3x3dbl_3a": 1.5,
    "branch3x3dbl_3b": 1.5,
    "branch_pool": 1,
}

_INCEPTION_STEM = {"Conv2d_1a_3x3": "stem.0", "Conv2d_2a_3x3": "stem.1", "Conv2d_2b_3x3": "stem.2"}
_INCEPTION_STEM |= {"Conv2d_3b_1x1": "stem.4", "Conv2d_4a_3x3": "stem.5"}
_MIXED: dict[str, tuple[str, dict[str, float]]] = {
    **{f"Mixed_5{letter}": (f"mixed5.{i}", _INCEPTION_A) for i, letter in enumerate("bcd")},
    "Mixed_6a": ("mixed6.0", _INCEPTION_B),
    **{f"Mixed_6{letter}": (f"mixed6.{i}", _INCEPTION_C) for i, letter in enumerate("bcde", 1)},
    "Mixed_7a": ("mixed7.0", _INCEPTION_D),
    **{f"Mixed_7{letter}": (f"mixed7.{i}", _INCEPTION_E) for i, letter in enumerate("bc", 1)},
}
# The other convolutions of a module are spatial and segmented.
_POINTWISE = {"branch1x1", "branch_pool", "branch3x3dbl_1", "branch3x3_1"}
_POINTWISE |= {"branch5x5_1", "branch7x7_1", "branch7x7dbl_1", "branch7x7x3_1"}


def _in_module(module: str, branch: str) -> str:
    """This package's name of the convolution of a branch."""
    return f"{module}.{branch}.conv" if branch in _POINTWISE else f"{module}.{branch}.conv.spatial"


def _torchvision_inception_v3(_: Mapping[str, Tensor]) -> Names:
    modules = {"AuxLogits.fc": "aux.fc", "fc": "fc"}
    units = {**_INCEPTION_STEM, "AuxLogits.conv0": "aux.conv0", "AuxLogits.conv1": "aux.conv1"}
    for source, target in units.items():
        modules |= {f"{source}.conv": f"{target}.conv", f"{source}.bn": f"{target}.bn"}
    for source, (target, branches) in _MIXED.items():
        for branch in branches:
            modules[f"{source}.{branch}.conv"] = _in_module(target, branch)
            modules[f"{source}.{branch}.bn"] = f"{target}.{branch}.bn"
    return _with_tensors(modules)


def _keras_inception_v3(tensors: Mapping[str, Tensor]) -> Names:
    # Keras numbers the names of layers in the order of definition, but orders the layers by their
    # distance from the output.
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


# The modules of a bottleneck whose names are the same here.
_BOTTLENECK = ("conv1", "bn1", "bn2", "conv3", "bn3", "downsample.0", "downsample.1")


def _last_block(stage: str, tensors: Mapping[str, Tensor]) -> int:
    """The number of the last block of a stage, before which its name stands; 0 without one."""
    found = [re.match(rf"{re.escape(stage)}(\d+)\.", name) for name in tensors]
    return max((int(match[1]) for match in found if match), default=0)


def _torchvision_resnet(tensors: Mapping[str, Tensor]) -> Names:
    modules = {name: name for name in ("conv1", "bn1", "fc")}
    for layer in ("layer1", "layer2", "layer3", "layer4"):
        for i in range(_last_block(f"{layer}.", tensors) + 1):
            block = f"{layer}.{i}"
            modules |= {f"{block}.{part}": f"{block}.{part}" for part in _BOTTLENECK}
            modules[f"{block}.conv2"] = f"{block}.conv2.spatial"
    return _with_tensors(modules)


# The modules of an inverted residual in timm, and here; and those of one without expansion.
_INVERTED_RESIDUAL = {
    **{"conv_pw": "expand", "bn1": "bn1", "conv_dw": "conv.spatial", "bn2": "bn2"},
    **{"conv_pwl": "project", "bn3": "bn3"},
}
_SEPARABLE = {"conv_dw": "conv.spatial", "bn1": "bn2", "conv_pw": "project", "bn2": "bn3"}
_EXCITED = {"se.conv_reduce": "se.reduce", "se.conv_expand": "se.expand"}
_CONV = {"conv": "conv.spatial", "bn1": "bn1"}
_FUSED = {"conv_exp": "conv.spatial", "bn1": "bn1", "conv_pwl": "project", "bn2": "bn2"}
_MOST_BLOCKS = 20  # of a stage


def _timm_efficientnet(stages: Sequence[Names]) -> Names:
    """The names of a network whose stages have blocks with these modules."""
    modules = {"conv_stem": "conv1", "bn1": "bn1", "conv_head": "conv2", "bn2": "bn2"}
    modules["classifier"] = "classifier"
    for stage, block in enumerate(stages):
        for i in range(_MOST_BLOCKS):
            for source, target in block.items():
                modules[f"blocks.{stage}.{i}.{source}"] = f"stage{stage + 1}.{i}.{target}"
    return _with_tensors(modules)


_MOBILENETV2 = (_SEPARABLE, *[_INVERTED_RESIDUAL] * 6)
_EFFICIENTNET = tuple(block | _EXCITED for block in _MOBILENETV2)
_EFFICIENTNETV2 = (_CONV, _FUSED, _FUSED, *[_INVERTED_RESIDUAL | _EXCITED] * 3)


_REGNET_BLOCK = {
    "conv1.conv": "conv1",
    "conv1.bn": "bn1",
    "conv2.conv": "conv2.spatial",
    "conv2.bn": "bn2",
    "se.fc1": "squeeze.reduce",
    "se.fc2": "squeeze.expand",
    "conv3.conv": "conv3",
    "conv3.bn": "bn3",
    "downsample.conv": "downsample.0",
    "downsample.bn": "downsample.1",
}


def _timm_regnet(tensors: Mapping[str, Tensor]) -> Names:
    modules = {"stem.conv": "stem.conv", "stem.bn": "stem.bn", "head.fc": "classifier"}
    for i in (1, 2, 3, 4):
        for number in range(1, max(_last_block(f"s{i}.b", tensors), 1) + 1):
            for source, target in _REGNET_BLOCK.items():
                modules[f"s{i}.b{number}.{source}"] = f"stage{i}.{number - 1}.{target}"
    return _with_tensors(modules)


_CONVNEXT_BLOCK = {
    "conv_dw": "conv.spatial",
    "norm": "norm",
    "mlp.fc1": "expand",
    "mlp.grn": "response_norm",
    "mlp.fc2": "reduce",
}


def _timm_convnext(tensors: Mapping[str, Tensor]) -> Names:
    modules = {"stem.0": "stem.0", "stem.1": "stem.1"}
    modules |= {"head.norm": "norm", "head.fc": "classifier"}
    scales: Names = {}
    for i in range(4):
        for part in (0, 1) if i else ():
            modules[f"stages.{i}.downsample.{part}"] = f"downsample{i + 1}.{part}"
        for number in range(_last_block(f"stages.{i}.blocks.", tensors) + 1):
            block, target = f"stages.{i}.blocks.{number}", f"stage{i + 1}.{number}"
            scales[f"{block}.gamma"] = f"{target}.scale.weight"
            modules |= {f"{block}.{s}": f"{target}.{t}" for s, t in _CONVNEXT_BLOCK.items()}
    return _with_tensors(modules) | scales


_VGG_DEPTHS = ((1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4))


def _vgg(tensors: Mapping[str, Tensor], head: Names) -> Names:
    """The names at the depth, with or without batch normalisation, that fits most of a source."""
    found = {name.rpartition(".")[0] for name in tensors}
    tables = [_vgg_features(stages, bn) for stages in _VGG_DEPTHS for bn in (False, True)]
    features = max(tables, key=lambda table: (len(found & table.keys()), -len(table)))
    return _with_tensors(features | head)


def _vgg_features(stages: Sequence[int], batch_norm: bool) -> Names:
    modules: Names = {}
    number = 0
    for stage, convs in enumerate(stages, 1):
        for i in range(convs):
            modules[f"features.{number}"] = f"stage{stage}.{2 * i}.spatial"
            if batch_norm:
                modules[f"features.{number + 1}"] = f"stage{stage}.{2 * i + 1}"
            number += 2 + batch_norm  # the ReLU has a number there
        number += 1  # the pooling
    return modules


_TORCHVISION_HEAD = {"classifier.0": "hidden.0", "classifier.3": "hidden.3"}
_TORCHVISION_HEAD |= {"classifier.6": "classifier"}
_TIMM_HEAD = {"pre_logits.fc1": "hidden.0", "pre_logits.fc2": "hidden.3", "head.fc": "classifier"}


def _with_tensors(modules: Names) -> Names:
    """The names of the tensors that modules with these names can have."""
    tensors = ("weight", "bias", "running_mean", "running_var")
    return {f"{source}.{t}": f"{modules[source]}.{t}" for source in modules for t in tensors}


_TABLES: dict[str, Callable[[Mapping[str, Tensor]], Names]] = {
    "keras_xception": _keras_xception,
    "keras_inception_v3": _keras_inception_v3,
    "timm_legacy_xception": _timm_legacy_xception,
    "torchvision_inception_v3": _torchvision_inception_v3,
    "torchvision_vgg": lambda tensors: _vgg(tensors, _TORCHVISION_HEAD),
    "timm_vgg": lambda tensors: _vgg(tensors, _TIMM_HEAD),
    "torchvision_resnet": _torchvision_resnet,
    "timm_mobilenetv2": lambda _: _timm_efficientnet(_MOBILENETV2),
    "timm_efficientnet": lambda _: _timm_efficientnet(_EFFICIENTNET),
    "timm_efficientnetv2": lambda _: _timm_efficientnet(_EFFICIENTNETV2),
    "timm_regnet": _timm_regnet,
    "timm_convnext": _timm_convnext,
}
