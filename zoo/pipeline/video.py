# SPDX-License-Identifier: Apache-2.0
"""Video ops of a pipeline: parameter names, defaults and ranges of the C++ table."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from zoo.pipeline.op import BaseOp

Level: TypeAlias = Annotated[float, Meta(ge=0, le=255)]


class SampleFps(BaseOp, frozen=True, kw_only=True, tag="sample_fps"):
    """Frames at least 1 / fps s apart. Frames to frames; see :func:`zoo.ops.sample_fps`."""

    fps: Annotated[float, Meta(ge=1e-6, le=100000)] = 1.0


class FrameDifference(BaseOp, frozen=True, kw_only=True, tag="frame_difference"):
    """Mean absolute difference to the frame before, [frames, 1]; see :func:`zoo.ops.frame_difference`."""


class Motion(BaseOp, frozen=True, kw_only=True, tag="motion"):
    """``FrameDifference`` of the first frame of each second, [seconds, 1]; see :func:`zoo.ops.motion`."""


class SceneOffset(BaseOp, frozen=True, kw_only=True, tag="scene_offset"):
    """1 + seconds since the scene began, [seconds, 1]; see :func:`zoo.ops.scene_offset`."""

    threshold: Level = 3.0
    min_content: Level = 15.0
    min_scene_length: Annotated[int, Meta(ge=0, le=2147483647)] = 15
    window: Annotated[int, Meta(ge=1, le=1024)] = 2
    downscale: Annotated[int, Meta(ge=1, le=1024)] | None = None
    order: Literal["rgb", "bgr"] = "rgb"


class FlowEncode(BaseOp, frozen=True, kw_only=True, tag="flow_encode"):
    """Displacements in pixels to bytes. Tensor to frames; see :func:`zoo.ops.flow_encode`."""

    bound: Annotated[float, Meta(ge=1e-3, le=1e6)] = 20.0


class FlowStack(BaseOp, frozen=True, kw_only=True, tag="flow_stack"):
    """The last flows of each frame as channels. Frames to tensor; see :func:`zoo.ops.flow_stack`."""

    length: Annotated[int, Meta(ge=1, le=1024)] = 10
    order: Literal["oldest_first", "rotated"] = "oldest_first"
    scale: Annotated[float, Meta(ge=1e-12, le=1e12)] = 1 / 255


VideoOp: TypeAlias = SampleFps | FrameDifference | Motion | SceneOffset | FlowEncode | FlowStack
