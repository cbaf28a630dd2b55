# SPDX-License-Identifier: Apache-2.0
"""Optical flow ops of a pipeline: parameter names, defaults and ranges of the C++ table."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from zoo.pipeline.op import BaseOp


class FlowDis(BaseOp, frozen=True, kw_only=True, tag="flow_dis"):
    """Dense inverse search. Frames to [frames - 1, height, width, 2]; see :func:`zoo.ops.flow_dis`."""

    preset: Literal["ultrafast", "fast", "medium"] = "medium"


class FlowFarneback(BaseOp, frozen=True, kw_only=True, tag="flow_farneback"):
    """Polynomial expansion. Frames to [frames - 1, height, width, 2]; see :func:`zoo.ops.flow_farneback`."""

    pyr_scale: Annotated[float, Meta(ge=0.1, le=0.95)] = 0.5
    levels: Annotated[int, Meta(ge=0, le=30)] = 3
    winsize: Annotated[int, Meta(ge=3, le=255)] = 15
    iterations: Annotated[int, Meta(ge=1, le=100)] = 3
    poly_n: Annotated[int, Meta(ge=1, le=15)] = 5
    poly_sigma: Annotated[float, Meta(ge=0.3, le=15)] = 1.2
    window: Literal["box", "gaussian"] = "box"


class FlowTvl1(BaseOp, frozen=True, kw_only=True, tag="flow_tvl1"):
    """Total variation and L1. Frames to [frames - 1, height, width, 2]; see :func:`zoo.ops.flow_tvl1`."""

    tau: Annotated[float, Meta(ge=0.001, le=0.25)] = 0.25
    lambda_: Annotated[float, Meta(ge=0.001, le=10)] = 0.15
    theta: Annotated[float, Meta(ge=0.01, le=10)] = 0.3
    scales: Annotated[int, Meta(ge=1, le=30)] = 5
    warps: Annotated[int, Meta(ge=1, le=100)] = 5
    epsilon: Annotated[float, Meta(ge=0, le=1)] = 0.01
    inner_iterations: Annotated[int, Meta(ge=1, le=1000)] = 30
    outer_iterations: Annotated[int, Meta(ge=1, le=1000)] = 10
    scale_step: Annotated[float, Meta(ge=0.1, le=0.95)] = 0.8
    gamma: Annotated[float, Meta(ge=0, le=10)] = 0.0
    median_filtering: Annotated[int, Meta(ge=1, le=5)] = 5


FlowOp: TypeAlias = FlowDis | FlowFarneback | FlowTvl1
