# SPDX-License-Identifier: Apache-2.0
"""Optical flow ops of a pipeline: parameter names, defaults and ranges of the C++ table."""

from __future__ import annotations

from typing import Literal, TypeAlias

from zoo.pipeline.op import BaseOp


class FlowDis(BaseOp, frozen=True, kw_only=True, tag="flow_dis"):
    """Dense inverse search. Frames to [frames - 1, height, width, 2]; see :func:`zoo.ops.flow_dis`."""

    preset: Literal["ultrafast", "fast", "medium"] = "medium"


FlowOp: TypeAlias = FlowDis
