"""Batch normalisation and its ReLU by the kernels, against torch's own operators."""

import copy
import sys

import pytest
import torch
from torch import Tensor, nn

from spectrum.kernels import normalize
from spectrum.kernels.plan_costs import INTEL
from spectrum.layers import BatchNorm2d, BatchNormReLU

SHAPE = (3, 20, 50, 48)  # large enough for the kernel


def _norm(relu: bool = False, **options: bool) -> BatchNorm2d:
    norm = (BatchNormReLU if relu else BatchNorm2d)(20, **options)
    if norm.affine:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    return norm


def _plain(norm: BatchNorm2d) -> nn.Sequential:
    """Torch's own modules with copies of a layer's weights and statistics."""
    plain = nn.BatchNorm2d(20)
    plain.load_state_dict(norm.state_dict())
    return nn.Sequential(plain, nn.ReLU() if norm.relu else nn.Identity()).train(norm.training)


def _images(dtype: torch.dtype = torch.float32) -> Tensor:
    scaled = 3 * torch.randn(SHAPE) + torch.arange(20.0)[:, None, None]
    return scaled.to(dtype).to(memory_format=torch.channels_last)


def _uses_kernel(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Whether the kernel runs. A copy is normalised, so the layer's statistics do not change."""
    return normalize(copy.deepcopy(norm), x, relu=True) is not None


def _direction(norm: BatchNorm2d, x: Tensor) -> Tensor:
    """A gradient of the output, 0 where rounding decides on which side of the ReLU's cut it is."""
    direction = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    before_relu = _plain(norm).double()[0](x.double())
    return direction.masked_fill(before_relu.abs() < 1e-3, 0) if norm.relu else direction


def _passes(norm: nn.Module, x: Tensor, direction: Tensor) -> list[Tensor]:
    """The output, the gradients and the running statistics of a training step."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = norm(x)
    gradients = torch.autograd.grad(y, (x, *norm.parameters()), direction.to(y.dtype))
    mean, variance, count = norm.buffers()
    assert count == 1
    return [y.detach(), *gradients, mean, variance]


@pytest.fixture(autouse=True)
def _on_a_fitting_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[normalize.__module__], "cpu_kind", lambda: INTEL)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_equals_float64(dtype: torch.dtype, relu: bool) -> None:
    norm, x = _norm(relu), _images(dtype)
    assert _uses_kernel(norm, x)
    direction = _direction(norm, x)
    expected = _passes(_plain(norm).double(), x.double(), direction)
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
    for one, wanted in zip(_passes(norm, x, direction), expected, strict=True):
        assert (one.double() - wanted).abs().max() <= tolerance * wanted.abs().max()


def test_a_large_mean_does_not_swallow_the_variance() -> None:
    x = (_images() + 3000).contiguous(memory_format=torch.channels_last)
    norm = BatchNorm2d(20)
    assert _uses_kernel(norm, x)
    expected = nn.functional.batch_norm(x.double(), None, None, training=True)
    assert (norm(x).double() - expected).abs().max() < 1e-2


@pytest.mark.parametrize("relu", [True, False])
def test_evaluation_equals_torchs_modules(relu: bool) -> None:
    norm, x = _norm(relu).eval(), _images()
    with torch.no_grad():
        assert _uses_kernel(norm, x)
        torch.testing.assert_close(norm(x), _plain(norm)(x))
    assert not _uses_kernel(norm, x)  # torch computes gradients with fixed statistics


def test_gradients_can_be_differentiated_again() -> None:
    norm, x = _norm(relu=True), _images()
    twice = []
    for module in (norm, _plain(norm)):
        given = x.clone(memory_format=torch.preserve_format).requires_grad_()
        (slope,) = torch.autograd.grad(module(given).square().sum(), given, create_graph=True)
        weight = next(module.parameters())
        twice.append(torch.autograd.grad(slope.square().sum(), (given, weight)))
    (x_found, weight_found), (x_wanted, weight_wanted) = twice
    error = (x_found - x_wanted).abs().flatten().sort().values
    # Where the ReLU cuts, rounding may fall on either side.
    assert error[:-25].max() <= 1e-2 * x_wanted.abs().max()
    assert (weight_found - weight_wanted).abs().max() <= 1e-2 * weight_wanted.abs().max()


@pytest.mark.parametrize(
    "norm",
    [
        _norm(affine=False),
        _norm(track_running_stats=False),
        BatchNormReLU(20, momentum=None),
        BatchNormReLU(20).double(),
    ],
)
def test_torch_executes_what_the_kernel_does_not_support(norm: BatchNorm2d) -> None:
    assert not _uses_kernel(norm, _images())


def test_torch_executes_layers_with_hooks_small_images_and_compiled_layers() -> None:
    norm, x = _norm(relu=True), _images()
    assert _uses_kernel(norm, x)
    assert not _uses_kernel(norm, x[:, :, :8, :8].contiguous(memory_format=torch.channels_last))
    seen: list[Tensor] = []
    handle = norm.register_forward_hook(lambda module, given, y: seen.append(y))
    assert not _uses_kernel(norm, x)
    assert norm(x) is seen[0]
    assert seen[0].min() == 0
    handle.remove()
    norm(x)
    assert len(seen) == 1
    compiled = torch.compile(norm.eval(), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), _plain(norm)(x))
