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
    """

    title: str
    config: NetworkConfig
    keras: str
    torchvision: str
    timm: str
    published: str


def _config(name: str, segments: str = "1", **fields: bool) -> NetworkConfig:
    return NetworkConfig(name=name, segments=segments, **fields)


# Published numbers of Xception and Inception V3: Xception (arXiv:1610.02357), table 3. Of VGG: VGG
# (arXiv:1409.1556), table 2. Of ResNeXt-50 and ResNet-50: ResNeXt (arXiv:1611.05431), table 1. Of
# MobileNetV2: its paper (arXiv:1801.04381), table 4.
ROWS = (
    Row("Xception", _config("paper", "C"), "Xception", "", "legacy_xception", "22,855,952"),
    Row(
        "Inception V3",
        _config("inception_v3"),
        "InceptionV3",
        "inception_v3",
        "inception_v3",
        "23,626,728",
    ),
    Row(
        "  with auxiliary head",
        _config("inception_v3", aux_logits=True),
        "",
        "inception_v3:aux",
        "",
        "",
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
    ),
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
    size = 299 if row.config.name in ("paper", "inception_v3") else 224
    makers: tuple[Callable[[], nn.Module | None], ...] = (
        lambda: build(row.config),
        lambda: None,
        lambda: torchvision_network(row.torchvision) if row.torchvision else None,
        lambda: timm_network(row.timm) if row.timm else None,
    )
    params, macs = [], []
    for make in makers:
        network = make()
        costs = count_costs(network, (3, size, size)) if network is not None else None
        params.append(f"{costs.params:,}" if costs else "-")
        macs.append(f"{costs.macs:,}" if costs else "-")
    keras = keras_parameters(row.keras) if row.keras else None
    params[1] = f"{keras:,}" if keras else "-"
    return [*params, row.published or "-"], [*macs, "-"]


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
