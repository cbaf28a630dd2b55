# SPDX-License-Identifier: Apache-2.0
"""Calls of single ops: pipelines of one op, kept for reuse."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zoo import _native
from zoo._native import isa
from zoo.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@lru_cache(maxsize=64)
def _plan(
    isa_name: str, op: str, params: tuple[tuple[str, Any], ...], shape: tuple[int, ...] | None = None
) -> _native.Pipeline:
    return _native.Pipeline([{"op": op, **dict(params)}], isa_name, shape)


def run(op: str, data: ArrayLike, rate: float = 0.0, /, **params: Any) -> NDArray[Any]:
    """One op on audio, an image, frames or EEG."""
    return _plan(isa(), op, tuple(params.items())).run(data, rate)


def run_tensor(op: str, data: NDArray[Any], /, **params: Any) -> NDArray[Any]:
    """One op on a tensor; plans are kept for each number of columns."""
    shape = getattr(data, "shape", None)
    if not shape or 0 in shape:
        what = "no shape" if shape is None else f"shape {shape}"
        raise InputError(f"{op}: the input has {what}; it must be a float32 array with at least one value")
    return _plan(isa(), op, tuple(params.items()), (-1, *shape[1:])).run(data)
