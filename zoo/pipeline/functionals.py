# SPDX-License-Identifier: Apache-2.0
"""Functionals of a pipeline: parameter names, defaults and ranges of the C++ table."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from zoo.pipeline.op import BaseOp

WindowRows: TypeAlias = Annotated[int, Meta(ge=1, le=65536)]
Period: TypeAlias = Annotated[float, Meta(ge=1e-6, le=1000)]


class Functionals(BaseOp, frozen=True, kw_only=True, tag="functionals"):
    """Statistics of descriptors over the whole segment, [1, 1582]; see :func:`zoo.ops.functionals`."""

    tail: Annotated[int, Meta(ge=0, le=65536)] = 3
    period: Period = 0.01


class SlidingFunctionals(BaseOp, frozen=True, kw_only=True, tag="sliding_functionals"):
    """Statistics of descriptors over sliding windows, [windows, 1582]; see :func:`zoo.ops.sliding_functionals`."""

    window: WindowRows = 40
    hop: WindowRows = 4
    period: Period = 0.01


FunctionalsOp: TypeAlias = Functionals | SlidingFunctionals
