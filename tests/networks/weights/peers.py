"""timm's and torchvision's networks rewritten: their names, shapes and forward passes only.

They can't be dependencies of the tests, as torchvision must match PyTorch's version exactly. That
the names are theirs was seen once by loading state dicts of timm 1.0.31 and torchvision 0.29.2.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in eval mode, with weights and statistics that keep signals at a moderate size."""
    g = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5, generator=g)
            for tensor in (part.bias, part.running_mean):
                nn.init.uniform_(tensor, -0.3, 0.3, generator=g)
        elif isinstance(part, nn.Conv2d | nn.Linear):
            gain = "linear" if getattr(part, "groups", 1) > 1 else "relu"
            nn.init.kaiming_normal_(part.weight, nonlinearity=gain, generator=g)
            if part.bias is not None:
                nn.init.uniform_(part.bias, -0.3, 0.3, generator=g)
    return module.eval()


class Separable(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in, bias=False)
        self.pointwise = nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.conv1(x))


class XceptionBlock(nn.Module):
    def __init__(self, widths: Sequence[int], stride: int, relu_first: bool = True) -> None:
        super().__init__()
        rep: list[nn.Module] = []
        for c_in, c_out in itertools.pairwise(widths):
            rep += [nn.ReLU(), Separable(c_in, c_out), nn.BatchNorm2d(c_out)]
        rep = rep if relu_first else rep[1:]
        if stride > 1:
            rep.append(nn.MaxPool2d(3, stride, 1))
            self.skip = nn.Conv2d(widths[0], widths[-1], 1, stride=stride, bias=False)
            self.skipbn = nn.BatchNorm2d(widths[-1])
        self.stride = stride
        self.rep = nn.Sequential(*rep)

    def forward(self, x: Tensor) -> Tensor:
        return self.rep(x) + (self.skipbn(self.skip(x)) if self.stride > 1 else x)


class TimmXception(nn.Module):
    """timm's legacy_xception."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.block1 = XceptionBlock((64, 128, 128), 2, relu_first=False)
        self.block2 = XceptionBlock((128, 256, 256), 2)
        self.block3 = XceptionBlock((256, 728, 728), 2)
        for i in range(4, 12):
            self.add_module(f"block{i}", XceptionBlock((728,) * 4, 1))
        self.block12 = XceptionBlock((728, 728, 1024), 2)
        self.conv3, self.bn3 = Separable(1024, 1536), nn.BatchNorm2d(1536)
        self.conv4, self.bn4 = Separable(1536, 2048), nn.BatchNorm2d(2048)
        self.fc = nn.Linear(2048, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        for i in range(1, 13):
            x = self.get_submodule(f"block{i}")(x)
        x = self.bn3(self.conv3(x)).relu()
        x = self.bn4(self.conv4(x)).relu()
        return self.fc(x.mean((2, 3)))


class Unit(nn.Module):
    """torchvision's BasicConv2d."""

    def __init__(self, c_in: int, c_out: int, kernel: object, stride: int = 1) -> None:
        super().__init__()
        pad = (0, 0) if stride > 1 else tuple(k // 2 for k in _pair(kernel))
        self.conv = nn.Conv2d(c_in, c_out, _pair(kernel), stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()


def _pair(kernel: object) -> tuple[int, int]:
    return kernel if isinstance(kernel, tuple) else (kernel, kernel)


class Module(nn.Module):
    """An Inception module from rows of (name, channels, kernel); a list splits the row's end."""

    def __init__(self, c_in: int, rows: Sequence[Sequence[object]], pool: str | None) -> None:
        super().__init__()
        self.rows, self.pool = rows, pool
        for row in rows:
            c = c_in
            for step in row:
                steps = step if isinstance(step, list) else [step]
                for name, *shape in steps:
                    self.add_module(name, Unit(c, *shape))
                c = steps[-1][1]

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for row in self.rows:
            # A row that starts with the pooling branch pools first.
            y = F.avg_pool2d(x, 3, 1, 1) if row[0][0] == "branch_pool" else x
            for step in row:
                steps = step if isinstance(step, list) else [step]
                y = torch.cat([self.get_submodule(name)(y) for name, *_ in steps], 1)
            outputs.append(y)
        if self.pool == "max":
            outputs.append(F.max_pool2d(x, 3, 2))
        return torch.cat(outputs, 1)


def _a(c_in: int, pooled: int) -> Module:
    triple = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)]
    five = [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)]
    return Module(c_in, [[("branch1x1", 64, 1)], five, triple, [("branch_pool", pooled, 1)]], None)


def _b() -> Module:
    triple = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)]
    return Module(288, [[("branch3x3", 384, 3, 2)], triple], "max")


def _c(c: int) -> Module:
    tall, flat = (7, 1), (1, 7)
    seven = [("branch7x7_1", c, 1), ("branch7x7_2", c, flat), ("branch7x7_3", 192, tall)]
    double = [("branch7x7dbl_1", c, 1), ("branch7x7dbl_2", c, tall), ("branch7x7dbl_3", c, flat)]
    double += [("branch7x7dbl_4", c, tall), ("branch7x7dbl_5", 192, flat)]
    return Module(768, [[("branch1x1", 192, 1)], seven, double, [("branch_pool", 192, 1)]], None)


def _d() -> Module:
    seven = [("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7))]
    seven += [("branch7x7x3_3", 192, (7, 1)), ("branch7x7x3_4", 192, 3, 2)]
    return Module(768, [[("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)], seven], "max")


def _e(c_in: int) -> Module:
    ends = [("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))]
    double = [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3)]
    split = [("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))]
    rows = [[("branch1x1", 320, 1)], [("branch3x3_1", 384, 1), ends], [*double, split]]
    return Module(c_in, [*rows, [("branch_pool", 192, 1)]], None)


class TorchvisionInception(nn.Module):
    """torchvision's and timm's inception_v3, without the input's transform."""

    def __init__(self, classes: int, aux: bool) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3)
        for valid in (self.Conv2d_2a_3x3, self.Conv2d_4a_3x3):
            valid.conv.padding = (0, 0)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _a(192, 32), _a(256, 64), _a(288, 64)
        self.Mixed_6a, self.Mixed_6b = _b(), _c(128)
        self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = _c(160), _c(160), _c(192)
        if aux:
            self.AuxLogits = nn.Module()
            self.AuxLogits.conv0 = Unit(768, 128, 1)
            self.AuxLogits.conv1 = Unit(128, 768, 5)
            self.AuxLogits.fc = nn.Linear(768, classes)
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = _d(), _e(1280), _e(2048)
        self.fc = nn.Linear(2048, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = self.get_submodule(f"Mixed_{name}")(x)
        return self.fc(x.mean((2, 3)))


class TorchvisionVGG(nn.Module):
    """torchvision's vgg16 and vgg16_bn, an eighth as wide; ``timm`` for timm's names."""

    def __init__(self, classes: int, batch_norm: bool, timm: bool = False) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        c_in = 3
        for c in (8, 8, 0, 16, 16, 0, 32, 32, 32, 0, 64, 64, 64, 0, 64, 64, 64, 0):
            if c == 0:
                parts.append(nn.MaxPool2d(2, 2))
                continue
            norm = [nn.BatchNorm2d(c)] if batch_norm else []
            parts += [nn.Conv2d(c_in, c, 3, padding=1), *norm, nn.ReLU()]
            c_in = c
        self.features = nn.Sequential(*parts)
        self.timm = timm
        if timm:
            self.pre_logits = nn.Module()
            self.pre_logits.fc1 = nn.Conv2d(64, 512, 7)
            self.pre_logits.fc2 = nn.Conv2d(512, 512, 1)
            self.head = nn.Module()
            self.head.fc = nn.Linear(512, classes)
            return
        self.classifier = nn.Sequential(
            nn.Linear(64 * 49, 512),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(512, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), 7)
        if not self.timm:
            return self.classifier(x.flatten(1))
        x = self.pre_logits.fc2(self.pre_logits.fc1(x).relu()).relu()
        return self.head.fc(x.mean((2, 3)))


class Bottleneck(nn.Module):
    def __init__(self, c_in: int, inner: int, c_out: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, c_out, 1, bias=False), nn.BatchNorm2d(c_out)
        self.downsample = None
        if c_in != c_out:
            shortcut = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        x = x if self.downsample is None else self.downsample(x)
        return (self.bn3(self.conv3(y)) + x).relu()


class TorchvisionResNet(nn.Module):
    """torchvision's and timm's resnet50 and resnext50, a quarter as wide."""

    def __init__(self, classes: int, groups: int = 1, inner: int = 16) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16)
        c = 16
        for i, depth in enumerate((3, 4, 6, 3)):
            layer = nn.Sequential()
            for block in range(depth):
                stride = 2 if i > 0 and block == 0 else 1
                layer.append(Bottleneck(c, inner * 2**i, 64 * 2**i, stride, groups))
                c = 64 * 2**i
            self.add_module(f"layer{i + 1}", layer)
        self.fc = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
        return self.fc(x.mean((2, 3)))


class ConvNorm(nn.Module):
    """timm's ConvNormAct."""

    def __init__(self, c_in: int, c_out: int, k: int, stride: int, groups: int, relu: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, k, stride, k // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x.relu() if self.relu else x


class RegNetBlock(nn.Module):
    def __init__(self, c_in: int, c: int, stride: int, groups: int, squeezed: bool) -> None:
        super().__init__()
        self.conv1 = ConvNorm(c_in, c, 1, 1, 1, relu=True)
        self.conv2 = ConvNorm(c, c, 3, stride, groups, relu=True)
        self.se = None
        if squeezed:
            self.se = nn.Module()
            self.se.fc1, self.se.fc2 = nn.Conv2d(c, c_in // 4, 1), nn.Conv2d(c_in // 4, c, 1)
        self.conv3 = ConvNorm(c, c, 1, 1, 1, relu=False)
        self.downsample = ConvNorm(c_in, c, 1, stride, 1, relu=False) if c_in != c else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        if self.se is not None:
            means = F.adaptive_avg_pool2d(y, 1)
            y = y * torch.sigmoid(self.se.fc2(F.relu(self.se.fc1(means))))
        return (self.conv3(y) + (x if self.downsample is None else self.downsample(x))).relu()


class TimmRegNet(nn.Module):
    """timm's regnetx_002 and regnety_002, half as wide and in four groups."""

    def __init__(self, classes: int, squeezed: bool) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 16, 3, 2, 1, relu=True)
        c_in = 16
        for i, (c, depth) in enumerate(((12, 1), (28, 1), (76, 4), (184, 7)), 1):
            stage = nn.Module()
            for block in range(depth):
                stage.add_module(
                    f"b{block + 1}", RegNetBlock(c_in, c, 1 if block else 2, 4, squeezed)
                )
                c_in = c
            self.add_module(f"s{i}", stage)
        self.head = nn.Module()
        self.head.fc = nn.Linear(184, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i in range(1, 5):
            for block in self.get_submodule(f"s{i}").children():
                x = block(x)
        return self.head.fc(x.mean((2, 3)))


class ConvNeXtBlock(nn.Module):
    """timm's block; ``linear`` for its larger networks, which have linear layers for the 1x1."""

    def __init__(self, c: int, v2: bool, linear: bool) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(c, c, 7, padding=3, groups=c)
        self.norm = nn.LayerNorm(c, eps=1e-6)
        self.mlp = nn.Module()
        pairs = (("fc1", c, 4 * c), ("fc2", 4 * c, c))
        for name, c_in, c_out in pairs:
            made = nn.Linear(c_in, c_out) if linear else nn.Conv2d(c_in, c_out, 1)
            self.mlp.add_module(name, made)
        if v2:
            self.mlp.grn = nn.Module()
            self.mlp.grn.weight = nn.Parameter(torch.rand(4 * c))
            self.mlp.grn.bias = nn.Parameter(torch.rand(4 * c))
        else:
            self.gamma = nn.Parameter(torch.rand(c))
        self.v2 = v2

    def forward(self, x: Tensor) -> Tensor:
        def dense(layer: nn.Module, y: Tensor) -> Tensor:
            return y @ layer.weight.flatten(1).T + layer.bias

        y = self.norm(self.conv_dw(x).permute(0, 2, 3, 1))
        y = F.gelu(dense(self.mlp.fc1, y))
        if self.v2:
            norms = y.square().sum((1, 2), keepdim=True).sqrt()
            relative = norms / (norms.mean(-1, keepdim=True) + 1e-6)
            y = y + self.mlp.grn.weight * y * relative + self.mlp.grn.bias
        y = dense(self.mlp.fc2, y)
        return x + (y if self.v2 else y * self.gamma).permute(0, 3, 1, 2)


class ChannelsLast(nn.LayerNorm):
    """timm's LayerNorm2d."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TimmConvNeXt(nn.Module):
    """timm's convnext_tiny, or its convnextv2_atto, at a fraction of the width."""

    def __init__(self, classes: int, v2: bool, linear: bool) -> None:
        super().__init__()
        depths, widths = (
            ((2, 2, 6, 2), (20, 40, 80, 160)) if v2 else ((3, 3, 9, 3), (12, 24, 48, 96))
        )
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), ChannelsLast(widths[0], eps=1e-6))
        self.stages = nn.Sequential()
        c_in = widths[0]
        for depth, c in zip(depths, widths, strict=True):
            stage = nn.Sequential()
            if c != c_in:
                stage.downsample = nn.Sequential(
                    ChannelsLast(c_in, eps=1e-6), nn.Conv2d(c_in, c, 2, 2)
                )
            stage.blocks = nn.Sequential(*(ConvNeXtBlock(c, v2, linear) for _ in range(depth)))
            self.stages.append(stage)
            c_in = c
        self.head = nn.Module()
        self.head.norm = nn.LayerNorm(c_in, eps=1e-6)
        self.head.fc = nn.Linear(c_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem(x))
        return self.head.fc(self.head.norm(x.mean((2, 3))))


def _conv(c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)


def _relu6(x: Tensor) -> Tensor:
    return x.clamp(0, 6)


def _silu(x: Tensor) -> Tensor:
    return x * x.sigmoid()


class Excitation(nn.Module):
    def __init__(self, c: int, reduced: int) -> None:
        super().__init__()
        self.conv_reduce, self.conv_expand = nn.Conv2d(c, reduced, 1), nn.Conv2d(reduced, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = _silu(self.conv_reduce(x.mean((2, 3), keepdim=True)))
        return x * self.conv_expand(y).sigmoid()


class InvertedResidual(nn.Module):
    """timm's block of this name, or its DepthwiseSeparableConv if ``t`` is 1."""

    def __init__(
        self, c_in: int, c_out: int, t: int, stride: int, *, kernel: int, segment: int, se: bool
    ) -> None:
        super().__init__()
        c, self.t, self.act = t * c_in, t, _silu if se else _relu6
        if t > 1:
            self.conv_pw, self.bn1 = _conv(c_in, c), nn.BatchNorm2d(c)
        self.conv_dw = _conv(c, c, kernel, stride, c // segment)
        self.add_module("bn2" if t > 1 else "bn1", nn.BatchNorm2d(c))
        self.se = Excitation(c, c_in // 4) if se else nn.Identity()
        self.add_module("conv_pwl" if t > 1 else "conv_pw", _conv(c, c_out))
        self.add_module("bn3" if t > 1 else "bn2", nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        if self.t == 1:
            return self.bn2(self.conv_pw(self.se(self.act(self.bn1(self.conv_dw(x))))))
        y = self.act(self.bn1(self.conv_pw(x)))
        y = self.bn3(self.conv_pwl(self.se(self.act(self.bn2(self.conv_dw(y))))))
        return y + x if self.adds else y


class EdgeResidual(nn.Module):
    """timm's fused block, or its ConvBnAct if ``t`` is 1."""

    def __init__(self, c_in: int, c_out: int, t: int, stride: int) -> None:
        super().__init__()
        c, self.t = t * c_in, t
        self.add_module("conv_exp" if t > 1 else "conv", _conv(c_in, c, 3, stride))
        self.bn1 = nn.BatchNorm2d(c)
        if t > 1:
            self.conv_pwl, self.bn2 = _conv(c, c_out), nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        y = _silu(self.bn1(self.conv_exp(x) if self.t > 1 else self.conv(x)))
        y = self.bn2(self.conv_pwl(y)) if self.t > 1 else y
        return y + x if self.adds else y


# The stem, the stages and the head. A stage is: t, kernel (0 for a fused block), c, n, s.
Rows = tuple[tuple[int, int, int, int, int], ...]
MOBILENETV2_035: tuple[int, Rows, int] = (
    16,
    (
        *((1, 3, 8, 1, 1), (6, 3, 8, 2, 2), (6, 3, 16, 3, 2), (6, 3, 24, 4, 2)),
        *((6, 3, 32, 3, 1), (6, 3, 56, 3, 2), (6, 3, 112, 1, 1)),
    ),
    1280,
)
B0_QUARTER: tuple[int, Rows, int] = (
    8,
    (
        *((1, 3, 8, 1, 1), (6, 3, 8, 2, 2), (6, 5, 16, 2, 2), (6, 3, 24, 3, 2)),
        *((6, 5, 32, 3, 1), (6, 5, 48, 4, 2), (6, 3, 80, 1, 1)),
    ),
    320,
)
V2_S_QUARTER: tuple[int, Rows, int] = (
    8,
    (
        *((1, 0, 8, 2, 1), (4, 0, 16, 4, 2), (4, 0, 16, 4, 2)),
        *((4, 3, 32, 6, 2), (6, 3, 40, 9, 1), (6, 3, 64, 15, 2)),
    ),
    320,
)


class TimmEfficientNet(nn.Module):
    """timm's network of these sizes.

    ``group_size`` are timm's channels per segment. ``se`` is False for MobileNetV2.
    """

    def __init__(
        self, classes: int, sizes: tuple[int, Rows, int], group_size: int = 1, se: bool = True
    ) -> None:
        super().__init__()
        c_in, rows, head = sizes
        self.act = _silu if se else _relu6
        self.conv_stem, self.bn1 = _conv(3, c_in, 3, 2), nn.BatchNorm2d(c_in)
        self.blocks = nn.Sequential()
        for number, (t, kernel, c, n, s) in enumerate(rows):
            stage = nn.Sequential()
            for i in range(n):
                stride = s if i == 0 else 1
                if kernel:
                    block: nn.Module = InvertedResidual(
                        c_in, c, t, stride, kernel=kernel, segment=group_size, se=se
                    )
                else:
                    block = EdgeResidual(c_in, c, t, stride)
                # Only in EfficientNetV2 has a first block as many inputs as outputs by its table.
                block.adds = i > 0 or (number == 0 and not kernel)
                stage.append(block)
                c_in = c
            self.blocks.append(stage)
        self.conv_head, self.bn2 = _conv(c_in, head), nn.BatchNorm2d(head)
        self.classifier = nn.Linear(head, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.act(self.bn1(self.conv_stem(x))))
        x = self.act(self.bn2(self.conv_head(x)))
        return self.classifier(x.mean((2, 3)))
