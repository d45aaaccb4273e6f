"""Networks on the dial, one file a family, and the configuration that names them."""

from spectrum.networks.checks import MAX_WIDTH
from spectrum.networks.code import call_code, code_fingerprint, is_code, takes
from spectrum.networks.config import NETWORKS, NetworkConfig, build
from spectrum.networks.convert import convert
from spectrum.networks.inception import Inception, Logits, inception_v2, inception_v3
from spectrum.networks.resegment import projection_loss, resegment
from spectrum.networks.resnet import ResNet, resnet
from spectrum.networks.vgg import VGG, vgg
from spectrum.networks.weights import load_weights, preprocessing
from spectrum.networks.xception import PRESETS, Xception, xception

__all__ = [
    "MAX_WIDTH",
    "NETWORKS",
    "PRESETS",
    "VGG",
    "Inception",
    "Logits",
    "NetworkConfig",
    "ResNet",
    "Xception",
    "build",
    "call_code",
    "code_fingerprint",
    "convert",
    "inception_v2",
    "inception_v3",
    "is_code",
    "load_weights",
    "preprocessing",
    "projection_loss",
    "resegment",
    "resnet",
    "takes",
    "vgg",
    "xception",
]
