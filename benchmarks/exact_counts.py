"""Print exact counts of this project's networks and of the same networks in other libraries.

    make counts

sets up an environment with Keras, torchvision and timm, and runs this script. Each column is
counted on that library's own network. Parameters are the trainable ones. MACs are multiply-adds of
convolutions and linear layers for one image, by fvcore's trace. A dash means that a library isn't
installed or doesn't have the network. The last column holds the numbers printed in papers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

os.environ["KERAS_BACKEND"] = "torch"
os.environ["HF_HUB_OFFLINE"] = "1"

from peers import import_peer
from torch import nn

from spectrum import NetworkConfig, build, count_costs


class Row(NamedTuple):
    """A network with its name in each library, or "" if a library doesn't have it.

    Attributes:
        title: its name in the table.
        config: its configuration in this project.
        keras: its name in ``keras.applications``.
        torchvision: its name in ``torchvision.models``.
        timm: its name for ``timm.create_model``.
        published: its parameters as printed in a paper.
        published_macs: its MACs as printed there.
        side: height and width of the image.
    """

    title: str
    config: NetworkConfig
    keras: str
    torchvision: str
    timm: str
    published: str
    published_macs: str = ""
    side: int = 224


def _config(name: str, segments: str = "1", **fields: bool) -> NetworkConfig:
    return NetworkConfig(name=name, segments=segments, **fields)


# Published numbers of Xception and Inception V3: Xception (arXiv:1610.02357), table 3. Of VGG: VGG
# (arXiv:1409.1556), table 2. Of ResNeXt-50 and ResNet-50: ResNeXt (arXiv:1611.05431), table 1. Of
# MobileNetV2: its paper (arXiv:1801.04381), table 4. Of EfficientNet: arXiv:1905.11946, table 2;
# arXiv:2104.00298, table 7. Of RegNet, ConvNeXt and ConvNeXt V2: facebookresearch's
# repositories pycls (MODEL_ZOO.md), ConvNeXt and ConvNeXt-V2. Of ShuffleNet: its paper
# (arXiv:1707.01083), table 1.
ROWS = (
    Row(
        "Xception",
        _config("paper", "C"),
        "Xception",
        "",
        "legacy_xception",
        "22,855,952",
        side=299,
    ),
    Row(
        "Inception V3",
        _config("inception_v3"),
        "InceptionV3",
        "inception_v3",
        "inception_v3",
        "23,626,728",
        side=299,
    ),
    Row(
        "  with auxiliary head",
        _config("inception_v3", aux_logits=True),
        "",
        "inception_v3:aux",
        "",
        "",
        side=299,
    ),
    Row("VGG-16", _config("vgg16"), "VGG16", "vgg16", "vgg16", "138 million"),
    Row("VGG-19", _config("vgg19"), "VGG19", "vgg19", "vgg19", "144 million"),
    Row("ResNet-50", _config("resnet50"), "ResNet50", "resnet50", "resnet50", "25.5 million"),
    Row("ResNet-101", _config("resnet101"), "ResNet101", "resnet101", "resnet101", ""),
    Row("ResNet-152", _config("resnet152"), "ResNet152", "resnet152", "resnet152", ""),
    Row(
        "ResNeXt-50 32x4d",
        _config("resnext50_32x4d", "32"),
        "",
        "resnext50_32x4d",
        "resnext50_32x4d",
        "25.0 million",
    ),
    Row(
        "MobileNetV2",
        _config("mobilenetv2", "C"),
        "MobileNetV2",
        "mobilenet_v2",
        "mobilenetv2_100",
        "3.4 million",
        "300 million",
    ),
    Row(
        "EfficientNet-B0",
        NetworkConfig(name="efficientnet_b0"),
        "EfficientNetB0",
        "efficientnet_b0",
        "efficientnet_b0",
        "5.3 million",
        "0.39 billion",
    ),
    Row(
        "EfficientNetV2-S",
        NetworkConfig(name="efficientnetv2_s"),
        "EfficientNetV2S",
        "efficientnet_v2_s",
        "efficientnetv2_s",
        "22 million",
        side=384,
    ),
    Row(
        "RegNetX-400MF",
        NetworkConfig(name="regnetx_004"),
        "",
        "regnet_x_400mf",
        "regnetx_004",
        "5.2 million",
        "0.4 billion",
    ),
    Row(
        "RegNetY-400MF",
        NetworkConfig(name="regnety_004"),
        "",
        "regnet_y_400mf",
        "regnety_004",
        "4.3 million",
        "0.4 billion",
    ),
    Row(
        "ConvNeXt-T",
        NetworkConfig(name="convnext_tiny"),
        "ConvNeXtTiny",
        "convnext_tiny",
        "convnext_tiny",
        "28 million",
        "4.5 billion",
    ),
    Row(
        "ConvNeXt V2-A",
        NetworkConfig(name="convnextv2_atto"),
        "",
        "",
        "convnextv2_atto",
        "3.7 million",
        "0.55 billion",
    ),
    Row("ShuffleNet 1x, g = 3", NetworkConfig(name="shufflenet_g3"), "", "", "", "", "137 million"),
)
LIBRARIES = ("this project", "Keras", "torchvision", "timm", "published")


def keras_parameters(name: str) -> int | None:
    """The trainable parameters of one of Keras's networks; None if Keras isn't installed."""
    try:
        from keras import applications
    except ModuleNotFoundError:
        return None
    model = getattr(applications, name)(weights=None)
    return sum(int(weight.value.numel()) for weight in model.trainable_weights)


def torchvision_network(name: str) -> nn.Module | None:
    """One of torchvision's networks with random weights; None if it isn't installed."""
    torchvision = import_peer("torchvision")
    if torchvision is None:
        return None
    name, _, aux = name.partition(":")
    if name.startswith("inception"):
        return torchvision.models.inception_v3(aux_logits=bool(aux), init_weights=False)
    return getattr(torchvision.models, name)()


def timm_network(name: str) -> nn.Module | None:
    """One of timm's networks with random weights; None if it isn't installed."""
    timm = import_peer("timm")
    return timm.create_model(name) if timm is not None else None


def counts(row: Row) -> tuple[list[str], list[str]]:
    """The cells of a row: the parameters and the MACs in each library."""
    makers: tuple[Callable[[], nn.Module | None], ...] = (
        lambda: build(row.config),
        lambda: None,
        lambda: torchvision_network(row.torchvision) if row.torchvision else None,
        lambda: timm_network(row.timm) if row.timm else None,
    )
    params, macs = [], []
    for make in makers:
        network = make()
        costs = count_costs(network, (3, row.side, row.side)) if network is not None else None
        params.append(f"{costs.params:,}" if costs else "-")
        macs.append(f"{costs.macs:,}" if costs else "-")
    keras = keras_parameters(row.keras) if row.keras else None
    params[1] = f"{keras:,}" if keras else "-"
    return [*params, row.published or "-"], [*macs, row.published_macs or "-"]


def main() -> None:
    """Print the table."""
    cells = {row.title: counts(row) for row in ROWS}
    for i, heading in enumerate(("trainable parameters", "MACs, one image")):
        print("\n" * min(i, 1), end="")
        print(f"{heading:24}" + "".join(f"{library:>16}" for library in LIBRARIES))
        for title, row in cells.items():
            if any(cell != "-" for cell in row[i]) and not (i and title.startswith(" ")):
                print(f"{title:24}" + "".join(f"{cell:>16}" for cell in row[i]))


if __name__ == "__main__":
    main()
