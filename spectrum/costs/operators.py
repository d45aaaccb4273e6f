"""The multiply-adds of every operator of a forward pass, and the operators whose cost isn't known.

Which operators multiply nothing follows from torch's own tags and schemas: pointwise operators,
reductions, views and random numbers. An operator that says nothing of itself is decomposed as
torch does it, and its parts are asked. Products of matrices and convolutions are counted by
``torch.utils.flop_counter``'s formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_aten = torch.ops.aten
_FREE_TAGS = {
    getattr(torch.Tag, name)
    for name in ("pointwise", "reduction", "view_copy")
    if hasattr(torch.Tag, name)
}
# Operators that torch neither tags nor decomposes. They move, compare or select values, average
# them in windows, or resize images, none of which fvcore counts as multiply-adds but the last.
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
    _aten.copy_,
    _aten.bincount,
    _aten._unique2,
    _aten.nonzero,
    _aten.masked_select,
}
# Of torch's primitives, all others are pointwise, reductions or moves of values.
_COSTLY_PRIMITIVES = ("convolution", "fft", "svd")
# Products that torch's formulas leave out: the elements of the larger argument.
_PRODUCTS: dict[Any, Callable[..., int]] = {
    _aten.mv: lambda matrix, vector: matrix.numel(),
    _aten.dot: lambda one, other: one.numel(),
    _aten.vdot: lambda one, other: one.numel(),
    _aten.addmv: lambda bias, matrix, vector, **_: matrix.numel(),
    _aten.addbmm: lambda bias, one, other, **_: one.numel() * other.shape[-1],
    _aten._trilinear: lambda one, weight, *_, **__: one.numel() * weight.shape[0] * weight.shape[2],
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
        self._free: set[Any] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in self._free or _is_free(function):
            return function(*args, **kwargs)
        packet = function._overloadpacket
        if packet in _PRODUCTS:
            self.macs += _PRODUCTS[packet](*args, **kwargs)
            return function(*args, **kwargs)
        if packet in flop_registry:
            result = function(*args, **kwargs)
            self.macs += flop_registry[packet](*args, **kwargs, out_val=result) // 2
            return result
        return self._decompose(function, args, kwargs)

    def _decompose(self, function: Any, args: Any, kwargs: Any) -> Any:
        before = self.macs, len(self.unknown)
        with self:
            if function in decomposition_table:
                result = decomposition_table[function](*args, **kwargs)
            else:
                result = function.decompose(*args, **kwargs)
        if result is NotImplemented and torch.Tag.nondeterministic_seeded in function.tags:
            return function(*args, **kwargs)  # it draws random numbers
        if result is NotImplemented:
            self.unknown.add(f"aten::{function._overloadpacket.__name__}")
            return function(*args, **kwargs)
        if before == (self.macs, len(self.unknown)):
            self._free.add(function)
        return result


@contextmanager
def unfused() -> Iterator[None]:
    """A context in which attention and recurrent layers run as their parts, not as one operator."""
    fast_path, library = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        torch._C._set_mkldnn_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        torch._C._set_mkldnn_enabled(library)


def _is_free(function: Any) -> bool:
    if function.namespace == "prims":
        return not any(name in str(function) for name in _COSTLY_PRIMITIVES)
    if _FREE_TAGS & set(function.tags) or function._overloadpacket in _FREE:
        return True
    schema = function._schema
    if any(value.alias_info is not None for value in schema.returns):
        return True  # a view, or the argument itself
    return not any("Tensor" in str(argument.type) for argument in schema.arguments)
