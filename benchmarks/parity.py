"""Print how far this project's logits differ from those of Keras, torchvision and timm.

    make parity

sets up an environment with the three libraries, and runs this script. Each of their networks gets
random weights and random statistics of its batch normalisation. ``load_weights`` loads them into
this project's network, and both networks get the same images. The error is the largest difference
divided by the largest logit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peers import import_peer
from torch import Tensor, nn

from spectrum import NetworkConfig, build, load_weights

# A library, its name for a network, this project's name for it, and the sides of the images.
PAIRS = (
    ("Keras", "Xception", "paper", (299, 160)),
    ("Keras", "InceptionV3", "inception_v3", (299, 160)),
    ("timm", "legacy_xception", "paper", (299, 160)),
    ("timm", "inception_v3", "inception_v3", (299, 160)),
    ("timm", "vgg16", "vgg16", (224,)),
    ("timm", "vgg16_bn", "vgg16_bn", (224,)),
    ("timm", "resnet50", "resnet50", (224, 160)),
    ("timm", "resnext50_32x4d", "resnext50_32x4d", (224,)),
    ("torchvision", "inception_v3", "inception_v3", (299, 160)),
    ("torchvision", "vgg16", "vgg16", (224,)),
    ("torchvision", "vgg16_bn", "vgg16_bn", (224,)),
    ("torchvision", "resnet50", "resnet50", (224, 160)),
    ("torchvision", "resnext50_32x4d", "resnext50_32x4d", (224,)),
)
SEGMENTS = {"paper": "C", "resnext50_32x4d": "32"}


def their_network(library: str, name: str, size: int) -> Any:
    """A library's network in eval mode, with random weights."""
    if library == "Keras":
        from keras import applications, utils

        utils.set_random_seed(0)
        make: Callable[..., Any] = getattr(applications, name)
        # Without an activation it returns logits.
        return make(weights=None, input_shape=(size, size, 3), classifier_activation=None)
    peer = import_peer(library)
    assert peer is not None, f"{library} isn't installed; make parity installs it"
    if library == "timm":
        return peer.create_model(name).eval()
    inception = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
    return getattr(peer.models, name)(**inception).eval()


def randomise(network: Any) -> None:
    """Set the scales, shifts and statistics of all batch normalisations to random values."""
    if isinstance(network, nn.Module) and not hasattr(network, "layers"):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.8, 1.4)
                nn.init.normal_(module.bias, std=0.1)
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        return
    for layer in network.layers:
        for weight in layer.weights if "normalization" in layer.name else []:
            low = 0.5 if weight.name in ("gamma", "moving_variance") else -0.1
            weight.assign(torch.empty(weight.shape).uniform_(low, low + (0.9 if low > 0 else 0.2)))


def their_logits(library: str, network: Any, images: Tensor) -> Tensor:
    """The logits of a library's network for images (N, 3, H, W)."""
    if library == "Keras":
        logits: Tensor = network(images.permute(0, 2, 3, 1), training=False)
        return logits
    return network(images)  # type: ignore[no-any-return]


def main() -> None:
    """Print one line per network and image size."""
    torch.manual_seed(0)
    print(f"{'library':13}{'network':18}" + f"{'size':>6}{'error':>10}")
    for library, name, ours, sizes in PAIRS:
        for size in sizes:
            theirs = their_network(library, name, size)
            randomise(theirs)
            network = build(NetworkConfig(name=ours, segments=SEGMENTS.get(ours, "1")))
            load_weights(network, theirs if library == "Keras" else theirs.state_dict()).eval()
            images = torch.randn(2, 3, size, size)
            with torch.no_grad():
                expected = their_logits(library, theirs, images)
                error = (network(images) - expected).abs().max() / expected.abs().max()
            print(f"{library:13}{name:18}{size:6}{error.item():10.1e}", flush=True)


if __name__ == "__main__":
    main()
