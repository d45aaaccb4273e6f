"""The known layouts of weights, the settings of their networks and the images they expect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from spectrum.networks.convnext import ConvNeXt
from spectrum.networks.efficientnet import EfficientNet
from spectrum.networks.inception import Inception
from spectrum.networks.mobilenetv2 import MobileNetV2
from spectrum.networks.options import Pooling
from spectrum.networks.regnet import RegNet
from spectrum.networks.resnet import ResNet
from spectrum.networks.vgg import VGG
from spectrum.networks.xception import Xception

OWN = "spectrum"


@dataclass(frozen=True)
class Preprocessing:
    """The preparation of images for a trained network.

    Attributes:
        size: the shorter side after resizing, in pixels.
        crop: the side of the square that is cut from the middle, in pixels.
        mean: mean of each channel, subtracted from images scaled to 0..1.
        std: standard deviation of each channel, by which the difference is divided.
    """

    size: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Layout:
    """Where weights come from, and the settings of their network that tensors don't show.

    Attributes:
        title: the name for messages.
        network: the class in this package that the weights fit.
        bn_eps: added to the variance in batch normalisation; None if the network has none.
        bn_momentum: weight of the newest batch in the running statistics; None as for ``bn_eps``.
        pooling: how poolings pad; None if the network's poolings have no such option.
        preprocessing: the preparation of images for the published weights.
    """

    title: str
    network: type[nn.Module]
    bn_eps: float | None
    bn_momentum: float | None
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
    "timm_mobilenetv2": Layout("timm's MobileNetV2", MobileNetV2, 1e-5, 0.1, None, _IMAGENET),
    "timm_efficientnet": Layout("timm's EfficientNet", EfficientNet, 1e-5, 0.1, None, _IMAGENET),
    "timm_efficientnetv2": Layout(
        "timm's EfficientNetV2",
        EfficientNet,
        1e-5,
        0.1,
        None,
        Preprocessing(384, 384, mean=_IMAGENET.mean, std=_IMAGENET.std),
    ),
    "timm_regnet": Layout("timm's RegNet", RegNet, 1e-5, 0.1, None, _IMAGENET),
    "timm_convnext": Layout("timm's ConvNeXt", ConvNeXt, None, None, None, _IMAGENET),
}


def recognise(names: Iterable[str]) -> str:
    """Recognise a layout by the names of its tensors.

    The names of timm's ``inception_v3`` and ResNets are torchvision's.

    Returns:
        One of ``LAYOUTS``, or ``"spectrum"``: unknown names are taken to be the network's own.
    """
    names = set(names)

    def any_name(start: str, end: str = "") -> bool:
        return any(name.startswith(start) and name.endswith(end) for name in names)

    if any_name("", "/depthwise_kernel"):
        return "keras_xception"
    if any("conv2d" in name and "/" in name for name in names):
        return "keras_inception_v3"
    if any_name("block1.rep."):
        return "timm_legacy_xception"
    if any_name("Mixed_5b."):
        return "torchvision_inception_v3"
    if names & {"features.0.weight", "features.0.bias"}:
        return "timm_vgg" if any_name("pre_logits.") else "torchvision_vgg"
    # This package's ResNet has the same names, except for its segmented convolutions.
    if any_name("layer1.0.conv1.") and not any_name("layer1.0.conv2.spatial."):
        return "torchvision_resnet"
    if any(".conv_exp." in name for name in names):
        return "timm_efficientnetv2"
    if any(".conv_pwl." in name for name in names):
        excited = any(".se.conv_reduce." in name for name in names)
        return "timm_efficientnet" if excited else "timm_mobilenetv2"
    if any_name("s1.b1."):
        return "timm_regnet"
    if any_name("stages.0.blocks.0."):
        return "timm_convnext"
    return OWN
