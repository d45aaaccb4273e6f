"""The options of the networks, with their bounds. No torch is imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from spectrum.errors import errors_about
from spectrum.fields import Config
from spectrum.layers.arguments import ACTIVATIONS, MAX_CHANNELS, Activation, Order
from spectrum.segments import format_setting

MAX_WIDTH = 1000
Channels: TypeAlias = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
Pooling: TypeAlias = Literal["symmetric", "keras"]
"""How a pooling pads: the same on both sides, or as Keras does for ``"same"``."""

_scaled: ContextVar[set[tuple[int, float, float]]] = ContextVar("scaled")


@contextmanager
def record_scaled() -> Iterator[set[tuple[int, float, float]]]:
    """Collect the arguments of all calls of ``Options.scale`` in a ``with`` block.

    Networks of one family that differ in their width alone have the same calls. They are the same
    network if all calls return the same.
    """
    token = _scaled.set(set())
    try:
        yield _scaled.get()
    finally:
        _scaled.reset(token)


def _parse_activation(value: Any) -> Any:
    if value not in (None, *ACTIVATIONS, "none"):
        raise ValueError(f"must be one of none, {', '.join(ACTIVATIONS)}")
    return None if value == "none" else value


def _parse_order(value: Any) -> Any:
    return None if value == "own" else value


def _parse_pointwise(value: Any) -> str:
    with errors_about("pointwise_segments"):
        return format_setting(value)


class Options(Config):
    """The options of all families of networks, each with its bounds.

    They are arguments of the functions that build the networks, which document them, and fields
    of ``NetworkConfig``. No family has all of them.
    """

    num_classes: Channels = 1000
    in_channels: Channels = 3
    width: float = Field(default=1.0, gt=0, le=MAX_WIDTH)
    order: Annotated[Order | None, BeforeValidator(_parse_order)] = None
    activation: Annotated[Activation | None, BeforeValidator(_parse_activation)] = None
    residual: bool = True
    hidden: Annotated[tuple[Channels, ...], Field(max_length=100)] = ()
    dropout: float = Field(default=0.0, ge=0, lt=1)
    repeats: int | None = Field(default=None, ge=0, le=1000)
    channel_multiple: Channels = 1
    pooling: Pooling = "symmetric"
    bn_eps: float = Field(default=1e-5, gt=0, le=1)
    bn_momentum: float = Field(default=0.1, gt=0, le=1)
    aux_logits: bool = False
    pointwise_segments: Annotated[str, BeforeValidator(_parse_pointwise)] = "1"
    shuffle: bool = False
    depth: int | None = Field(default=None, ge=4, le=1000)
    w0: int | None = Field(default=None, ge=1, le=10_000)
    wa: float | None = Field(default=None, gt=0, le=10_000)
    wm: float | None = Field(default=None, gt=1, le=10)

    def scale(self, channels: int, factor: float = 1.0, kept: float = 0.0) -> int:
        """The number of channels at this width, rounded to the nearest positive multiple.

        Args:
            channels: the number at width 1.
            factor: another multiplier beside the width.
            kept: the share of the channels that rounding must keep. Where the nearest multiple is
                less, it is the next one.
        """
        if (scaled := _scaled.get(None)) is not None:
            scaled.add((channels, factor, kept))
        multiples = channels * (self.width * factor) / self.channel_multiple
        rounded = max(int(multiples + 0.5), 1)
        return (rounded + (rounded < kept * multiples)) * self.channel_multiple
