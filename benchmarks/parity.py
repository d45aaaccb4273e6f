"""Print how far this project's networks differ from those of Keras, torchvision and timm.

    make parity

sets up an environment with the three libraries, and runs this script. Each of their networks gets
random weights and random statistics of its normalisation. ``load_weights`` loads them into this
project's network, and both networks get the same images. The columns are:

- logits: in eval mode and float32, the largest difference divided by the largest logit;
- training: the same in training mode and float64, without dropout, for 96 x 96 pixels;
- gradients: of the cross-entropy there, the norm of all differences divided by that of all
  gradients.

Keras's networks are compared in eval mode alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import torch.nn.functional as F
from peers import import_peer
from torch import Tensor, nn

from spectrum import NetworkConfig, build, load_weights
from spectrum.networks.efficientnet import V2_SEGMENTS
from spectrum.networks.weights import read_weights

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
    ("timm", "mobilenetv2_035", "mobilenetv2", (224,)),
    ("timm", "mobilenetv2_050", "mobilenetv2", (224,)),
    ("timm", "mobilenetv2_075", "mobilenetv2", (224,)),
    ("timm", "mobilenetv2_100", "mobilenetv2", (224, 160)),
    ("timm", "mobilenetv2_140", "mobilenetv2", (224,)),
    ("timm", "efficientnet_b0", "efficientnet_b0", (224, 160)),
    ("timm", "efficientnetv2_s", "efficientnetv2_s", (384, 160)),
    ("timm", "regnetx_002", "regnetx_002", (224, 160)),
    ("timm", "regnetx_080", "regnetx_080", (224,)),
    ("timm", "regnety_004", "regnety_004", (224, 160)),
    ("timm", "regnety_032", "regnety_032", (224,)),
    ("timm", "convnext_tiny", "convnext_tiny", (224, 160)),
    ("timm", "convnextv2_atto", "convnextv2_atto", (224, 160)),
    ("timm", "convnextv2_tiny", "convnextv2_tiny", (224,)),
    ("torchvision", "inception_v3", "inception_v3", (299, 160)),
    ("torchvision", "vgg16", "vgg16", (224,)),
    ("torchvision", "vgg16_bn", "vgg16_bn", (224,)),
    ("torchvision", "resnet50", "resnet50", (224, 160)),
    ("torchvision", "resnext50_32x4d", "resnext50_32x4d", (224,)),
)
# The segments of the published network, where they aren't the default of its name.
SEGMENTS = {"paper": "C", "resnext50_32x4d": "32"}
SEGMENTS |= dict.fromkeys(("inception_v3", "vgg16", "vgg16_bn", "resnet50"), "1")
SEGMENTS |= {"efficientnetv2_s": V2_SEGMENTS}
WIDTHS = {"mobilenetv2_035": 0.35, "mobilenetv2_050": 0.5, "mobilenetv2_075": 0.75}
WIDTHS |= {"mobilenetv2_140": 1.4}


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
    """Set all scales, shifts and statistics to random values, since some start at zero."""
    if isinstance(network, nn.Module) and not hasattr(network, "layers"):
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            if name.endswith(("bias", "running_mean")):
                nn.init.normal_(tensor, std=0.1)
            elif tensor.dim() == 1:
                nn.init.uniform_(tensor, 0.8, 1.4)
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


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference divided by the largest value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def errors_in_training(theirs: nn.Module, network: nn.Module, images: Tensor) -> list[float]:
    """The errors of the logits and of the gradients in training mode and float64."""
    labels = torch.arange(len(images))
    logits = []
    for module in (theirs.double().train(), network.double().train()):
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        logits.append(module(images[..., :96, :96].double()))
        F.cross_entropy(logits[-1], labels).backward()
    # The names of gradients are translated as those of weights are.
    expected = read_weights({n: p.grad for n, p in theirs.named_parameters()}).state
    differences = [p.grad - expected[n] for n, p in network.named_parameters()]
    norms = [
        torch.cat([t.flatten() for t in part]).norm() for part in (differences, expected.values())
    ]
    return [relative_error(logits[1], logits[0]), (norms[0] / norms[1]).item()]


def main() -> None:
    """Print one line per network and image size."""
    print(f"{'library':13}{'network':18}{'size':>6}{'logits':>10}{'training':>10}{'gradients':>11}")
    for library, name, ours, sizes in PAIRS:
        for size in sizes:
            torch.manual_seed(0)
            theirs = their_network(library, name, size)
            randomise(theirs)
            segments = {"segments": SEGMENTS[ours]} if ours in SEGMENTS else {}
            network = build(NetworkConfig(name=ours, width=WIDTHS.get(name, 1.0), **segments))
            load_weights(network, theirs if library == "Keras" else theirs.state_dict()).eval()
            images = torch.randn(2, 3, size, size)
            with torch.no_grad():
                error = relative_error(network(images), their_logits(library, theirs, images))
            cells = ["-", "-"]
            if library != "Keras":
                cells = [f"{e:.1e}" for e in errors_in_training(theirs, network, images)]
            line = f"{library:13}{name:18}{size:6}{error:10.1e}{cells[0]:>10}{cells[1]:>11}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
