# SPDX-License-Identifier: Apache-2.0
"""Video ops beside NumPy and OpenCV."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from run import Row

from zoo.ops import isa, sample_times
from zoo.pipeline import FlowEncode, FlowStack, FrameDifference, Motion, Pipeline, SampleFps, SceneOffset

cv2.setNumThreads(1)
INPUTS = 4
RATE = 25.0


def clips(frames: int, height: int, width: int) -> list[Any]:
    """Frames of moving noise."""
    rng = np.random.default_rng(1)
    big = rng.integers(0, 256, (height + frames + INPUTS, width + frames, 3), dtype=np.uint8)
    big = cv2.GaussianBlur(big, (0, 0), 4)
    big = cv2.normalize(big, None, 0, 255, cv2.NORM_MINMAX)
    return [
        np.stack([big[t + k : t + k + height, t : t + width] for t in range(frames)]) for k in range(INPUTS)
    ]


def worst(a: Any, b: Any, bound: float) -> str | None:
    """None when no two values are further apart than `bound`."""
    difference = float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())
    return None if difference <= bound else f"worst difference {difference:.3g}, bound {bound:g}"


def mean_difference(a: Any, b: Any) -> float:
    """Mean absolute difference in NumPy."""
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())


def numpy_motion(frames: Any) -> Any:
    """Sheet 04's rule, frame by frame."""
    out, last = [0.0], 0
    for i in range(1, len(frames)):
        if i / RATE - last >= 1:
            out.append(mean_difference(frames[i], frames[i - 1]))
            last = int(i / RATE)
    return np.array(out)[:, None]


def numpy_flow(flow: Any) -> Any:
    """Clipped and mapped in float32."""
    return np.rint((np.clip(flow, -20, 20) + np.float32(20)) * np.float32(255 / 40)).astype(np.uint8)


def content_scores(frames: Any) -> Any:
    """PySceneDetect's score with OpenCV and NumPy; the part of the detector that costs time."""
    scores, before = [], None
    factor = frames.shape[2] // 256
    size = (round(frames.shape[2] / factor), round(frames.shape[1] / factor))
    for frame in frames:
        now = cv2.split(cv2.cvtColor(cv2.resize(frame, size), cv2.COLOR_RGB2HSV))
        if before is not None:
            planes = zip(now, before, strict=True)
            scores.append(
                sum(np.sum(np.abs(a.astype(np.int32) - b.astype(np.int32))) / a.size for a, b in planes) / 3
            )
        before = now
    return scores


def numpy_times(times: Any, fps: float) -> Any:
    """Sheet 04's rule in NumPy: one search a frame taken."""
    picked, at = [0], 0
    while True:
        at = int(np.searchsorted(times, times[at] + (1 - 1e-9) / fps))
        if at >= len(times):
            return np.array(picked)
        picked.append(at)


def numpy_stack(flow: Any) -> Any:
    """Ten flows as channels."""
    x = flow.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    at = np.maximum(np.arange(len(flow))[:, None] + np.arange(-9, 1), 0)
    return x[at].reshape(len(flow), 20, *flow.shape[1:3])


def rows() -> Iterator[Row]:
    """Sampling, motion, scenes, flow."""
    videos = clips(100, 360, 640)

    def row(
        op: str, peer: str, ours: Any, theirs: Any, bound: float, goal: float | None, inputs: int = INPUTS
    ) -> Row:
        return Row(
            op=op,
            peer=peer,
            ours=ours,
            theirs=theirs,
            inputs=inputs,
            check=lambda: worst(ours(0), theirs(0), bound),
            goal=goal,
        )

    motion = Pipeline([Motion()], isa=isa())
    yield row(
        "motion 640x360, 4 s",
        "NumPy, frame by frame",
        lambda i: motion.run(videos[i], RATE),
        lambda i: numpy_motion(videos[i]),
        1e-5,
        10,
    )
    difference = Pipeline([FrameDifference()], isa=isa())
    yield row(
        "frame_difference 640x360, 100 frames",
        "NumPy, frame by frame",
        lambda i: difference.run(videos[i])[1:, 0],
        lambda i: [mean_difference(a, b) for a, b in itertools.pairwise(videos[i])],
        1e-5,
        10,
    )
    sample = Pipeline([SampleFps(fps=1.0)], isa=isa())
    yield row(
        "sample_fps 25 -> 1, 640x360, 4 s",
        "NumPy x[::25].copy()",
        lambda i: sample.run(videos[i], RATE),
        lambda i: videos[i][::25].copy(),
        0,
        None,
    )
    times = [np.cumsum(np.random.default_rng(s).uniform(0.02, 0.06, 45000)) for s in range(INPUTS)]
    for fps in (1.0, 10.0):
        yield row(
            f"sample_times 30 min at {fps:g} fps",
            "NumPy searchsorted",
            lambda i, f=fps: sample_times(times[i], f),
            lambda i, f=fps: numpy_times(times[i], f),
            0,
            10,
        )
    scenes = Pipeline([SceneOffset()], isa=isa())
    yield Row(
        op="scene_offset 640x360, 4 s",
        peer="OpenCV + NumPy scores only",
        ours=lambda i: scenes.run(videos[i], RATE),
        theirs=lambda i: content_scores(videos[i]),
        inputs=INPUTS,
        check=lambda: (
            None if scenes.run(videos[0], RATE)[:, 0].tolist() == [1, 2, 3, 4] else "a cut was found"
        ),
        goal=None,
    )
    rng = np.random.default_rng(3)
    flows = [(rng.standard_normal((20, 224, 224, 2)) * 9).astype(np.float32) for _ in range(INPUTS)]
    encode = Pipeline([FlowEncode()], shape=(-1, 224, 224, 2), isa=isa())
    yield row(
        "flow_encode 224x224, 20 flows",
        "NumPy clip, scale, rint",
        lambda i: encode.run(flows[i]),
        lambda i: numpy_flow(flows[i]),
        0,
        10,
    )
    encoded = [numpy_flow(f) for f in flows]
    stack = Pipeline([FlowStack()], isa=isa())
    yield row(
        "flow_stack 224x224, 20 frames",
        "NumPy gather",
        lambda i: stack.run(encoded[i]),
        lambda i: numpy_stack(encoded[i]),
        1e-7,
        None,
    )
