"""Which operators multiply nothing, by torch's own tags, and what products cost, by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
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


KINDS: dict[str, Callable[[Any], bool]] = {
    "pointwise": lambda f: torch.Tag.pointwise in f.tags and not f._schema.is_mutable,
    "reduction": lambda f: torch.Tag.reduction in f.tags and not f._schema.is_mutable,
    "view": lambda f: (
        not f._schema.is_mutable and any(r.alias_info is not None for r in f._schema.returns)
    ),
    "in place": lambda f: (
        f._schema.name.endswith("_")
        and torch.Tag.pointwise in getattr(f._overloadpacket, f._overloadname).tags
    ),
}


def operators(kind: str) -> list[Any]:
    """The operators of a kind that take one to three tensors and nothing else."""
    found = []
    for name in dir(torch.ops.aten):
        packet = getattr(torch.ops.aten, name)
        for overload in getattr(packet, "overloads", list)():
            function = getattr(packet, overload)
            required = [a for a in function._schema.arguments if not a.has_default_value()]
            takes_tensors = all(str(a.type) == "Tensor" for a in required)
            if takes_tensors and 1 <= len(required) <= 3 and KINDS[kind](function):
                found.append(function)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_operators_that_torch_tags_are_free(kind: str) -> None:
    functions, ran = operators(kind), 0
    for function in functions:
        count = sum(not a.has_default_value() for a in function._schema.arguments)
        for shape, dtype in product(
            ((2, 4, 3, 3), (2, 2)), (torch.float32, torch.int64, torch.bool, torch.complex64)
        ):
            tensors = [torch.ones(shape).to(dtype) for _ in range(count)]
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
    "selected": lambda: (x.median(1), x.mode(1), x.kthvalue(1), x.cummax(1), x.unique(dim=0)),
    "in place": lambda: (x.clone().copy_(x), x.clone().fill_(1), x.clone().squeeze_(), v + v.sum()),
    "out": lambda: (torch.add(x, x, out=x.clone()), torch.cumsum(x, 1, out=x.clone())),
    "assigned": lambda: x.clone().__setitem__(x > 0, 1.0),
    "random": lambda: (x.clone().normal_(), F.rrelu(x, training=True), x.sigmoid().bernoulli()),
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
    "convolution": (lambda: F.conv2d(x, torch.randn(6, 2, 3, 3), groups=2), B * 36 * 6 * 18),
    "transposed": (lambda: F.conv_transpose2d(x, torch.randn(4, 3, 3, 3)), B * 64 * 4 * 3 * 9),
    "lstm": (lambda: nn.LSTM(N, K, batch_first=True)(m), B * N * (N + K) * 4 * K),
    "gru": (lambda: nn.GRU(N, K, batch_first=True)(m), B * N * (N + K) * 3 * K),
}
PRODUCTS |= {
    "stacked lstm": (
        lambda: nn.LSTM(N, K, num_layers=2, bidirectional=True)(m),
        B * N * 2 * ((N + K) + (2 * K + K)) * 4 * K,
    ),
    "lstm cell": (lambda: nn.LSTMCell(N, K)(m[0]), N * (N + K) * 4 * K),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_cost_what_arithmetic_says(name: str) -> None:
    call, macs = PRODUCTS[name]
    assert counted(call) == (macs, set())


one, other = torch.randn(N, K), torch.randn(K, M)
several, others = torch.randn(B, N, K), torch.randn(B, K, M)
INTO: dict[str, tuple[tuple[Tensor, ...], tuple[int, ...], int]] = {
    "mm": ((one, other), (N, M), N * K * M),
    "bmm": ((several, others), (B, N, M), B * N * K * M),
    "mv": ((one, other[:, 0]), (N,), N * K),
    "dot": ((v, v), (), N),
    "matmul": ((several, other), (B, N, M), B * N * K * M),
    "addmm": ((torch.randn(N, M), one, other), (N, M), N * K * M),
    "addmv": ((torch.randn(N), one, other[:, 0]), (N,), N * K),
    "addbmm": ((torch.randn(N, M), several, others), (N, M), B * N * K * M),
    "baddbmm": ((torch.randn(B, N, M), several, others), (B, N, M), B * N * K * M),
}


@pytest.mark.parametrize("name", INTO)
def test_products_that_write_into_a_tensor_cost_the_same(name: str) -> None:
    arguments, shape, macs = INTO[name]
    assert counted(lambda: getattr(torch, name)(*arguments)) == (macs, set())
    into = torch.empty(shape)
    assert counted(lambda: getattr(torch, name)(*arguments, out=into)) == (macs, set())
    if hasattr(Tensor, f"{name}_"):
        assert counted(lambda: getattr(arguments[0].clone(), f"{name}_")(*arguments[1:])) == (
            macs,
            set(),
        )


@pytest.mark.parametrize("tags", [(), (torch.Tag.nondeterministic_seeded,)], ids=["", "random"])
@pytest.mark.parametrize(
    "schema", ["(Tensor x) -> Tensor", "(Tensor(a!) x) -> Tensor(a!)", "(Tensor(a!) x) -> ()"]
)
def test_an_operator_from_elsewhere_is_named(schema: str, tags: tuple[torch.Tag, ...]) -> None:
    with torch.library._scoped_library("users_operators", "DEF") as library:
        library.define(f"rotate{schema}", tags=tags)
        result = None if schema.endswith("()") else x
        library.impl("rotate", lambda _: result, "CPU")
        called = counted(lambda: torch.ops.users_operators.rotate(x.clone()))
    assert called == (0, {"users_operators::rotate"})


UNKNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "fft": lambda x: torch.fft.fft2(x).abs(),
    "cdist": lambda x: torch.cdist(x, x),
    "fft.out": lambda x: torch.fft.fft(x, out=x.to(torch.complex64)).abs(),
    "embedding": lambda x: F.embedding_bag(torch.zeros(1, 2, dtype=torch.int), x[0, 0]),
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
    with pytest.warns(UserWarning, match=rf"\AApplied runs .* aren't counted: aten::.*{name[:3]}"):
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
    assert costs.table["other_macs"].sum() == costs.other_macs
    (row,) = costs.table.query("other_macs > 0").to_dict("records")
    assert row["kind"] == "MultiheadAttention"


def test_products_are_those_of_the_module_that_computes_them() -> None:
    inner = Applied(lambda x: x @ x.mT)  # (1, 8, 7, 7)
    network = nn.Sequential(nn.Sequential(inner, nn.SELU()), Applied(lambda x: x), inner)
    network[1].conv = nn.Conv2d(8, 3, 1)
    costs = count_costs(network, (3, 9, 9))
    found = dict(costs.table[["layer", "other_macs"]].itertuples(index=False))
    macs = [8 * side**3 for side in (7, 5)]
    assert found == {"0.0": sum(macs), "0.0.conv": 0, "1.conv": 0}
    assert costs.other_macs == sum(macs)
    assert list(count_costs(network[0][0].conv, (3, 9, 9)).table)[-1] == "share"


@pytest.mark.parametrize("devices", [[], [0, 1]])
def test_a_parallel_model_inside_a_model_counts(devices: list[int]) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(8, 4, 3), nn.SELU()))
    wrapped = nn.Sequential(plain[0], nn.DataParallel(plain[1]))
    wrapped[1].device_ids = devices  # as on a machine with GPUs
    costs, expected = (count_costs(network, (3, 9, 9)) for network in (wrapped, plain))
    assert wrapped[1].device_ids == devices
    assert (costs.macs, costs.params) == (expected.macs, expected.params)
    assert costs.macs == 8 * 27 * 49 + 4 * 72 * 25
    assert [name.replace("module.", "") for name in costs.table["layer"]] == ["0", "1.0"]
    assert math.isclose(costs.table["share"].sum(), 1)
