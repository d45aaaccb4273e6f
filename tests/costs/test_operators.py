"""Which operators multiply nothing, by torch's own tags, and what products cost, by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from spectrum.costs import count_costs
from spectrum.costs.operators import OperatorCounter, unfused

B, N, K, M = 2, 6, 5, 7


def counted(call: Callable[[], Any]) -> tuple[int, set[str]]:
    with torch.no_grad(), unfused(), OperatorCounter() as counter:
        call()
    return counter.macs, counter.unknown


def tagged(tag: torch.Tag) -> list[Any]:
    """The operators with a tag that take one to three tensors and nothing else."""
    found = []
    for name in dir(torch.ops.aten):
        packet = getattr(torch.ops.aten, name)
        for overload in getattr(packet, "overloads", list)():
            function = getattr(packet, overload)
            required = [a for a in function._schema.arguments if not a.has_default_value()]
            takes_tensors = all(str(a.type) == "Tensor" for a in required)
            is_plain = not function._schema.is_mutable  # neither in place nor into an argument
            if tag in function.tags and takes_tensors and is_plain and 1 <= len(required) <= 3:
                found.append(function)
    return found


@pytest.mark.parametrize("tag", ["pointwise", "reduction"])
def test_operators_that_torch_tags_are_free(tag: str) -> None:
    functions, ran = tagged(getattr(torch.Tag, tag)), 0
    for function in functions:
        count = sum(not a.has_default_value() for a in function._schema.arguments)
        for dtype in (torch.float32, torch.int64, torch.bool):
            tensors = [torch.ones(2, 4, 3, 3).to(dtype) for _ in range(count)]
            try:
                function(*tensors)
            except (RuntimeError, IndexError, TypeError, NotImplementedError):
                continue  # it takes other types or shapes
            assert counted(lambda f=function, t=tensors: f(*t)) == (0, set()), function
            ran += 1
            break
    assert ran > 0.6 * len(functions) > 8


x, m, v = torch.randn(B, 4, 8, 8), torch.randn(B, N, N), torch.randn(N)
FREE: dict[str, Callable[[], Any]] = {
    "selu": lambda: F.selu(x),
    "expand_as": lambda: x[:1].expand_as(x),
    "reshape_as": lambda: x.flatten().reshape_as(x),
    "cumsum": lambda: x.cumsum(1),
    "cumprod": lambda: x.cumprod(1),
    "windows": lambda: (F.max_pool2d(x, 2), F.avg_pool2d(x, 2), F.adaptive_avg_pool2d(x, 3)),
    "circular": lambda: F.pad(x, (1, 1, 1, 1), "circular"),
    "reflect": lambda: F.pad(x, (1, 1, 1, 1), "reflect"),
    "softmax": lambda: (x.softmax(1), x.log_softmax(1), x.logsumexp(1)),
    "dropout": lambda: (F.dropout(x, 0.5, True), F.dropout2d(x, 0.5, True), torch.rand_like(x)),
    "moves": lambda: (torch.cat([x, x]), torch.stack([x, x]), x.repeat(1, 2, 1, 1), x.roll(1, 2)),
    "shuffle": lambda: (F.pixel_shuffle(x, 2), F.channel_shuffle(x, 2), x.flip(1), x.rot90()),
    "index": lambda: (x[:, [0, 1]], x.index_select(1, torch.tensor([0])), x.topk(2), x.sort()),
    "masks": lambda: (m.tril(), torch.where(x > 0, x, 0), x.masked_fill(x > 0, 0.0)),
    "norms": lambda: (F.layer_norm(m, (N,)), F.group_norm(x, 2), F.rms_norm(m, (N,)), m.norm()),
    "normalize": lambda: (F.normalize(x), F.local_response_norm(x, 2), F.lp_pool2d(x, 2, 2)),
    "gates": lambda: (F.glu(x, 1), F.hardswish(x), F.prelu(x, torch.ones(4)), F.logsigmoid(x)),
    "unfold": lambda: F.fold(F.unfold(x, 3), (8, 8), 3),
    "resize": lambda: F.interpolate(x, scale_factor=2, mode="bilinear", antialias=True),
    "made": lambda: torch.arange(4) + torch.zeros(4),
    "types": lambda: x.double().type_as(x).contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("name", FREE)
def test_operators_without_tags_are_free_if_their_parts_are(name: str) -> None:
    assert counted(FREE[name]) == (0, set())


q = torch.randn(B, 3, N, 4)
PRODUCTS: dict[str, tuple[Callable[[], Any], int]] = {
    "matmul": (lambda: torch.randn(B, N, K) @ torch.randn(B, K, M), B * N * K * M),
    "broadcast": (lambda: torch.randn(B, 3, N, K) @ torch.randn(K, M), B * 3 * N * K * M),
    "einsum": (lambda: torch.einsum("bnk,bkm->bnm", m, m), B * N**3),
    "baddbmm": (lambda: torch.baddbmm(m, m, m), B * N**3),
    "addbmm": (lambda: torch.addbmm(m[0], m, m), B * N**3),
    "addmm": (lambda: torch.addmm(m[0], m[0], m[1]), N**3),
    "mv": (lambda: m[0] @ v, N * N),
    "addmv": (lambda: torch.addmv(v, m[0], v), N * N),
    "dot": (lambda: v @ v, N),
    "tensordot": (lambda: torch.tensordot(m, m[0], 1), B * N * N * N),
    "chain": (lambda: torch.linalg.multi_dot([m[0], m[1], m[0]]), 2 * N**3),
    "bilinear": (lambda: F.bilinear(m[0], m[0], torch.randn(K, N, N)), N * K * N * N),
    "attention": (lambda: F.scaled_dot_product_attention(q, q, q), 2 * B * 3 * N * N * 4),
    "convolution": (lambda: F.conv2d(x, torch.randn(3, 2, 3, 3), groups=2), 0),
    "lstm": (lambda: nn.LSTM(N, K, batch_first=True)(m), B * N * (N + K) * 4 * K),
    "gru": (lambda: nn.GRU(N, K, batch_first=True)(m), B * N * (N + K) * 3 * K),
}
PRODUCTS["convolution"] = (lambda: F.conv2d(x, torch.randn(6, 2, 3, 3), groups=2), B * 36 * 6 * 18)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_cost_what_arithmetic_says(name: str) -> None:
    call, macs = PRODUCTS[name]
    assert counted(call) == (macs, set())


UNKNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "fft": lambda x: torch.fft.fft2(x).abs(),
    "cdist": lambda x: torch.cdist(x, x),
    "linalg_inv": lambda x: torch.linalg.inv(x @ x.mT + torch.eye(x.shape[-1])),
}


class Applied(nn.Module):
    """A convolution, then a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


@pytest.mark.parametrize("name", UNKNOWN)
def test_operators_of_unknown_cost_are_named(name: str) -> None:
    with pytest.warns(UserWarning, match=f"Applied runs operators .* aren't counted: .*{name[:3]}"):
        costs = count_costs(Applied(UNKNOWN[name]), (3, 9, 9))
    assert costs.unknown
    assert costs.macs == 8 * 27 * 49


class Attention(nn.Module):
    """Patches of 4x4, then a block of self-attention."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # (N, 16, 16)
        if isinstance(self.block, nn.MultiheadAttention):
            return self.block(tokens, tokens, tokens)[0]
        return self.block(tokens)


@pytest.mark.parametrize(
    ("block", "linear"),
    [
        (nn.MultiheadAttention(16, 4, batch_first=True), 4 * 16 * 16),
        (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 4 * 16 * 16 + 2 * 16 * 32),
    ],
)
def test_attention_is_counted_beside_convolutions_and_linear_layers(
    block: nn.Module, linear: int
) -> None:
    network = Attention(block).eval()
    costs = count_costs(network, (3, 16, 16))
    tokens = 16
    assert costs.macs == 16 * 48 * tokens + tokens * linear
    assert costs.other_macs == 2 * tokens * tokens * 16
    assert costs.unknown == ()
    reference = FlopCounterMode(display=False)
    with torch.no_grad(), unfused(), sdpa_kernel(SDPBackend.MATH), reference:
        network(torch.zeros(1, 3, 16, 16))
    assert costs.macs + costs.other_macs == reference.get_total_flops() // 2
    assert f"other_macs={costs.other_macs:,}" in repr(costs)


def test_a_parallel_model_inside_a_model_counts() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(8, 4, 3), nn.SELU()))
    wrapped = nn.Sequential(plain[0], nn.DataParallel(plain[1]))
    costs, expected = (count_costs(network, (3, 9, 9)) for network in (wrapped, plain))
    assert (costs.macs, costs.params) == (expected.macs, expected.params)
    assert costs.macs == 8 * 27 * 49 + 4 * 72 * 25
    assert [name.replace("module.", "") for name in costs.table["layer"]] == ["0", "1.0"]
    assert math.isclose(costs.table["share"].sum(), 1)
