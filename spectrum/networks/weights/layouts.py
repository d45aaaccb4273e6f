"""The layouts that are known: what their networks do and what images they were trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from spectrum.networks.inception import Inception
from spectrum.networks.resnet import ResNet
from spectrum.networks.vgg import VGG
from spectrum.networks.xception import Pooling, Xception

__all__ = ["LAYOUTS", "OWN", "Layout", "Preprocessing", "recognise"]

OWN = "spectrum"


@dataclass(frozen=True)
class Preprocessing:
    """What a network was trained to see.

    Attributes:
        size: the shorter side after resizing, in pixels.
        crop: the side of the square cut from the middle.
        mean: of each channel, subtracted from images scaled to 0..1.
        std: of each channel, divided by after that.
    """

    size: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Layout:
    """Names of tensors, and what they don't say about the network they belong to.

    Attributes:
        title: for messages.
        network: the class here that it fits.
        bn_eps: added to the variance in batch normalisation.
        bn_momentum: weight of the newest batch in the running statistics.
        pooling: how the network pads where it pools; None where it leaves no choice.
        preprocessing: of the published weights.
    """

    title: str
    network: type[nn.Module]
    bn_eps: float
    bn_momentum: float
    pooling: Pooling | None
    preprocessing: Preprocessing


_HALF = (0.5, 0.5, 0.5)
_IMAGENET = Preprocessing(256, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_KERAS = Preprocessing(299, 299, mean=_HALF, std=_HALF)

LAYOUTS: dict[str, Layout] = {
    "keras_xception": Layout("Keras's Xception", Xception, 1e-3, 0.01, "keras", _KERAS),
    "keras_inception_v3": Layout("Keras's Inception V3", Inception, 1e-3, 0.01, "keras", _KERAS),
    "timm_legacy_xception": Layout(
        "timm's legacy_xception",
        Xception,
        1e-5,
        0.1,
        "symmetric",
        Preprocessing(333, 299, mean=_HALF, std=_HALF),  # 299 is 0.8975 of 333
    ),
    # torchvision's preset normalises with ImageNet's mean and deviation, and its network turns
    # that into these halves before the first layer.
    "torchvision_inception_v3": Layout(
        "torchvision's inception_v3",
        Inception,
        1e-3,
        0.1,
        "symmetric",
        Preprocessing(342, 299, mean=_HALF, std=_HALF),
    ),
    "torchvision_vgg": Layout("torchvision's VGG", VGG, 1e-5, 0.1, None, _IMAGENET),
    "timm_vgg": Layout("timm's VGG", VGG, 1e-5, 0.1, None, _IMAGENET),
    "torchvision_resnet": Layout("torchvision's ResNet", ResNet, 1e-5, 0.1, None, _IMAGENET),
}


def recognise(names: Iterable[str]) -> str:
    """The layout that names of tensors belong to: one of ``LAYOUTS``, or ``"spectrum"``.

    timm calls the tensors of ``inception_v3`` and its ResNets as torchvision does. Names that
    nothing is known of are taken to be a network's own.
    """
    names = set(names)

    def some(start: str, end: str = "") -> bool:
        return any(name.startswith(start) and name.endswith(end) for name in names)

    if some("", "/depthwise_kernel"):
        return "keras_xception"
    if any("conv2d" in name and "/" in name for name in names):
        return "keras_inception_v3"
    if some("block1.rep."):
        return "timm_legacy_xception"
    if some("Mixed_5b."):
        return "torchvision_inception_v3"
    if some("features.0."):
        return "timm_vgg" if some("pre_logits.") else "torchvision_vgg"
    # Our own ResNet differs in its dialled layer alone.
    if some("layer1.0.conv1.") and not some("layer1.0.conv2.spatial."):
        return "torchvision_resnet"
    return OWN
