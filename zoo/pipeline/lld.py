# SPDX-License-Identifier: Apache-2.0
"""The op of openSMILE's low-level descriptors: parameter names, defaults and ranges of the C++ table."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from zoo.pipeline.op import BaseOp


class Lld(BaseOp, frozen=True, kw_only=True, tag="lld"):
    """Low-level descriptors of emobase2010 and their deltas, [frames, 76]; see :func:`zoo.ops.lld`."""

    rate: Annotated[int, Meta(ge=4000, le=384000)] | None = None


LldOp: TypeAlias = Lld
