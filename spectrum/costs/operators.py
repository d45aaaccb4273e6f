"""The multiply-adds of every operator of a forward pass, and the operators whose cost isn't known.

Which operators multiply nothing follows from torch's own tags and schemas: pointwise operators,
reductions, views and random numbers. An operator that says nothing of itself is decomposed as
torch does it, and its parts are asked. One that writes into a tensor costs what its twin costs,
which makes a new tensor. Products of matrices and convolutions are counted by
``torch.utils.flop_counter``'s formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_aten = torch.ops.aten
_FREE_TAGS = {
    getattr(torch.Tag, name)
    for name in ("pointwise", "reduction", "view_copy", "inplace_view")
    if hasattr(torch.Tag, name)
}
# Operators that torch neither tags nor decomposes. They move, compare, select or accumulate values,
# average them in windows, resize images, or apply the gates of a recurrent layer.
_FREE = {
    _aten.avg_pool1d,
    _aten.avg_pool2d,
    _aten.avg_pool3d,
    _aten._adaptive_avg_pool2d,
    _aten._adaptive_avg_pool3d,
    _aten.fractional_max_pool2d,
    _aten.fractional_max_pool3d,
    _aten.max_pool2d_with_indices,
    _aten.max_pool3d_with_indices,
    _aten._upsample_bilinear2d_aa,
    _aten._upsample_bicubic2d_aa,
    _aten.index,
    _aten.index_put,
    _aten.gather,
    _aten.scatter,
    _aten.scatter_add,
    _aten.scatter_reduce,
    _aten.full_like,
    _aten.sort,
    _aten.topk,
    _aten._local_scalar_dense,
    _aten.copy,
    _aten.bincount,
    _aten.histc,
    _aten.kthvalue,
    _aten.median,
    _aten.nanmedian,
    _aten.mode,
    _aten.cummax,
    _aten.cummin,
    _aten.logcumsumexp,
    _aten.searchsorted,
    _aten._unique2,
    _aten.unique_dim,
    _aten.unique_consecutive,
    _aten.nonzero,
    _aten.masked_select,
    _aten.masked_scatter,
    _aten.put,
    _aten._pack_padded_sequence,
    _aten.index_reduce,
    _aten._thnn_fused_lstm_cell,
    _aten._thnn_fused_gru_cell,
}
# Of torch's primitives, all others are pointwise, reductions or moves of values.
_COSTLY_PRIMITIVES = ("convolution", "fft", "svd")


def _recurrent(x: Tensor, *weights: Any) -> int:
    """The multiply-adds of a recurrent layer: each matrix once at each step of each sequence.

    Args:
        x: the sequences, (..., features).
        weights: the matrices and vectors, one by one or in a list, before arguments of other kinds.
    """
    found = weights[0] if isinstance(weights[0], list | tuple) else weights[:4]
    used: int = sum(weight.numel() for weight in found if weight.dim() == 2)
    return x.numel() // x.shape[-1] * used


# Products that torch's formulas leave out.
_PRODUCTS: dict[Any, Callable[..., int]] = {
    _aten.mv: lambda matrix, vector: matrix.numel(),
    _aten.dot: lambda one, other: one.numel(),
    _aten.vdot: lambda one, other: one.numel(),
    _aten.addmv: lambda bias, matrix, vector, **_: matrix.numel(),
    _aten.addbmm: lambda bias, one, other, **_: one.numel() * other.shape[-1],
    _aten._int_mm: lambda one, other: one.numel() * other.shape[-1],
    _aten._trilinear: lambda one, weight, *_, **__: one.numel() * weight.shape[0] * weight.shape[2],
    _aten.mkldnn_rnn_layer: _recurrent,
    _aten._cudnn_rnn: _recurrent,
    _aten.miopen_rnn: _recurrent,
}


class OperatorCounter(TorchDispatchMode):
    """A context that counts the multiply-adds of all operators that run in it.

    Attributes:
        macs: of convolutions and of products of matrices and vectors, attention among them.
        unknown: the names of the operators that may multiply more and whose cost isn't known.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0
        self.unknown: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        outputs = {a.name for a in function._schema.arguments if a.is_out}
        inputs = {name: value for name, value in kwargs.items() if name not in outputs}
        twin = _twin(function)
        if twin in _PRODUCTS:
            self.macs += _PRODUCTS[twin](*args, **inputs)
            return function(*args, **kwargs)
        if twin in flop_registry:
            result = function(*args, **kwargs)
            self.macs += flop_registry[twin](*args, **inputs, out_val=result) // 2
            return result
        if _is_free(function, twin):
            return function(*args, **kwargs)
        if outputs or twin is not function._overloadpacket:
            with self:
                twin(*args, **inputs)
            return function(*args, **kwargs)
        return self._decompose(function, args, kwargs)

    def _decompose(self, function: Any, args: Any, kwargs: Any) -> Any:
        with self:
            if function in decomposition_table:
                result = decomposition_table[function](*args, **kwargs)
            else:
                result = function.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        name = function._schema.name
        is_random = torch.Tag.nondeterministic_seeded in function.tags and "attention" not in name
        if not (is_random and name.startswith("aten::")):
            self.unknown.add(name)
        return function(*args, **kwargs)


@contextmanager
def unfused() -> Iterator[None]:
    """A context in which attention runs as its parts, not as one operator."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _twin(function: Any) -> Any:
    """The operator of any overload that makes a new tensor; itself if there is no other."""
    packet = function._overloadpacket
    name = function._schema.name.removeprefix("aten::")
    if function._schema.is_mutable and name.endswith("_"):
        return getattr(_aten, name[:-1], packet)
    return packet


def _is_free(function: Any, twin: Any) -> bool:
    if function.namespace == "prims":
        return not any(name in str(function) for name in _COSTLY_PRIMITIVES)
    if _FREE_TAGS & set(function.tags) or twin in _FREE:
        return True
    schema = function._schema
    if not schema.is_mutable and any(value.alias_info is not None for value in schema.returns):
        return True  # a view
    return not any("Tensor" in str(argument.type) for argument in schema.arguments)
