"""A list of steps as msgpack: an array of maps, each with its class name as ``step``."""

from __future__ import annotations

from typing import Union, cast

import msgspec

from cloche.plan.step import Step
from cloche.plan.steps import STEPS

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[Union[STEPS], ...])  # type: ignore[valid-type]  # noqa: UP007


def encode(steps: tuple[Step, ...]) -> bytes:
    """One side's steps as msgpack."""
    return _encoder.encode(steps)


def decode(data: bytes | msgspec.Raw) -> tuple[Step, ...]:
    """The steps of ``encode``. Raises ``msgspec.ValidationError`` for an unknown step or a wrong field."""
    return cast("tuple[Step, ...]", _decoder.decode(data))
