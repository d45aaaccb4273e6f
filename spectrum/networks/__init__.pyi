from .build import build, build_on_meta
from .code import call_user_code, code_fingerprint, code_modules, takes_argument
from .config import NETWORKS, NetworkConfig, is_user_code
from .convert import convert
from .convnext import ConvNeXt, convnext
from .efficientnet import EfficientNet, efficientnet_b0, efficientnetv2_s
from .inception import Inception, Logits, inception_v2, inception_v3
from .mobilenetv2 import MobileNetV2, mobilenetv2
from .options import MAX_WIDTH
from .regnet import RegNet, regnet
from .resegment import projection_loss, resegment
from .resnet import ResNet, resnet
from .shufflenet import ShuffleNet, shufflenet
from .supernet import Supernet
from .vgg import VGG, vgg
from .weights import load_weights, preprocessing
from .xception import PRESETS, Xception, xception

__all__ = [
    "MAX_WIDTH",
    "NETWORKS",
    "PRESETS",
    "VGG",
    "ConvNeXt",
    "EfficientNet",
    "Inception",
    "Logits",
    "MobileNetV2",
    "NetworkConfig",
    "RegNet",
    "ResNet",
    "ShuffleNet",
    "Supernet",
    "Xception",
    "build",
    "build_on_meta",
    "call_user_code",
    "code_fingerprint",
    "code_modules",
    "convert",
    "convnext",
    "efficientnet_b0",
    "efficientnetv2_s",
    "inception_v2",
    "inception_v3",
    "is_user_code",
    "load_weights",
    "mobilenetv2",
    "preprocessing",
    "projection_loss",
    "regnet",
    "resegment",
    "resnet",
    "shufflenet",
    "takes_argument",
    "vgg",
    "xception",
]
