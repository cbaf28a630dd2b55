# SPDX-License-Identifier: Apache-2.0
"""Properties and errors of the video ops: streams, threads and parts give the bits of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo import _native, ops
from zoo.errors import InputError
from zoo.pipeline import (
    FlowEncode,
    FlowStack,
    FrameDifference,
    Motion,
    Op,
    Pipeline,
    Resize,
    SampleFps,
    SceneOffset,
)

ISAS = _native.isas()
QUICK = settings(max_examples=40, suppress_health_check=list(HealthCheck))
Array = np.ndarray[Any, Any]


def movie(n: int, seed: int, channels: int = 3) -> Array:
    """Frames that mostly drift, with a new scene now and then."""
    rng = np.random.default_rng(seed)
    frames = np.empty((n, 5, 7, channels), np.uint8)
    level = rng.integers(0, 256, (5, 7, channels))
    for i in range(n):
        level = rng.integers(0, 256, (5, 7, channels)) if rng.random() < 0.08 else level + rng.integers(-2, 3)
        frames[i] = np.clip(level, 0, 255)
    return frames


CHAINS: dict[str, tuple[Op, ...]] = {
    "sample_fps": (SampleFps(fps=2.0),),
    "frame_difference": (FrameDifference(),),
    "motion": (Motion(),),
    "scene_offset": (SceneOffset(min_scene_length=3),),
    "scene_offset, reduced": (SceneOffset(downscale=2, window=1, threshold=1.5, min_content=5.0),),
    "sampled motion": (SampleFps(fps=3.0), Resize(height=3, width=4), Motion()),
    "sampled differences": (SampleFps(fps=5.0), FrameDifference()),
}


def in_chunks(pipeline: Pipeline, data: Array, rate: float, sizes: list[int]) -> Array:
    stream = pipeline.stream(rate, shape=data.shape[1:])
    out, at, i = [], 0, 0
    while at < len(data):
        out.append(stream.push(data[at : at + sizes[i % len(sizes)]]))
        at += sizes[i % len(sizes)]
        i += 1
    return np.concatenate([*out, stream.finish()])


@QUICK
@given(
    name=st.sampled_from(sorted(CHAINS)),
    n=st.integers(1, 120),
    rate=st.sampled_from([3.0, 7.5, 10.0, 23.976, 25.0, 29.97]),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(any),
    threads=st.integers(1, 4),
    seed=st.integers(0, 99),
    isa=st.sampled_from(ISAS),
)
def test_streams_and_threads_equal_the_whole(
    name: str, n: int, rate: float, sizes: list[int], threads: int, seed: int, isa: str
) -> None:
    pipeline, data = Pipeline(CHAINS[name], isa=isa), movie(n, seed)
    whole = pipeline(data, rate)
    np.testing.assert_array_equal(in_chunks(pipeline, data, rate, sizes), whole)
    np.testing.assert_array_equal(pipeline(data, rate, threads=threads), whole)
    np.testing.assert_array_equal(pipeline.batch([data, data[:1]], rate)[0], whole)
    # no pixel passes through floating point but in the means, which are sums of integers divided once
    np.testing.assert_array_equal(Pipeline(CHAINS[name], isa=ISAS[0])(data, rate), whole)


@QUICK
@given(n=st.integers(1, 200), rate=st.floats(1, 60), fps=st.floats(0.3, 70))
def test_a_part_is_enough(n: int, rate: float, fps: float) -> None:
    """Only frames up to the last one taken are asked for."""
    frames = movie(n, 1, 1)
    for op in (SampleFps(fps=fps), Motion()):
        pipeline = Pipeline([op])
        start, stop = pipeline.input_range(frames.shape, rate)
        assert start == 0
        got = pipeline(frames[start:stop], rate, start=start, total=n)
        np.testing.assert_array_equal(got, pipeline(frames, rate))


@QUICK
@given(
    rate=st.floats(1, 200).map(lambda r: round(r, 3)),
    n=st.integers(1, 400),
)
def test_motion_takes_the_first_frame_of_each_second(rate: float, n: int) -> None:
    frames = (np.arange(n) ** 2 % 251).astype(np.uint8).reshape(n, 1, 1)
    got = ops.motion(frames, rate)[:, 0]
    want, last = [0.0], 0
    for i in range(1, n):
        if i / rate - last >= 1:
            want.append(float(abs(int(frames[i, 0, 0]) - int(frames[i - 1, 0, 0]))))
            last = int(i / rate)
    assert got.tolist() == want


@QUICK
@given(
    n=st.integers(1, 30),
    length=st.integers(1, 12),
    order=st.sampled_from(["oldest_first", "rotated"]),
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
    isa=st.sampled_from(ISAS),
)
def test_flow_streams(n: int, length: int, order: Any, sizes: list[int], isa: str) -> None:
    flow = np.random.default_rng(n).normal(0, 15, (n, 4, 9, 2)).astype(np.float32)
    chain = (FlowEncode(), Resize(height=5, width=6), FlowStack(length=length, order=order))
    pipeline = Pipeline(chain, shape=(-1, 4, 9, 2), isa=isa)
    whole = pipeline(flow)
    assert whole.shape == (n, 2 * length, 5, 6)
    np.testing.assert_array_equal(in_chunks(pipeline, flow, 0.0, sizes), whole)
    np.testing.assert_array_equal(pipeline(flow, threads=3), whole)


def test_streams_answer_as_early_as_they_can() -> None:
    frames = movie(100, 3)
    for op, ready in ((SampleFps(fps=5.0), 10), (Motion(), 2), (FrameDifference(), 50), (FlowStack(), 50)):
        data = frames[:, :, :, :2] if isinstance(op, FlowStack) else frames
        stream = Pipeline([op]).stream(25.0, shape=data.shape[1:])
        assert len(stream.push(np.ascontiguousarray(data[:50]))) == ready
    # a second is known when two frames beyond its first one are: the cut may lie there
    stream = Pipeline([SceneOffset()]).stream(25.0, shape=frames.shape[1:])
    assert len(stream.push(frames[:28])) == 1
    assert len(stream.push(frames[28:29])) == 1


def test_a_still_video_has_one_scene_and_no_motion() -> None:
    frames = np.full((100, 4, 4, 3), 7, np.uint8)
    assert ops.scene_offset(frames, 10.0)[:, 0].tolist() == list(range(1, 11))
    assert (ops.motion(frames, 10.0) == 0).all()
    assert (ops.frame_difference(frames) == 0).all()
    frames[1::2] = 255
    assert (ops.frame_difference(frames)[1:] == 248).all()


F = np.zeros((3, 4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.motion(F, 0.0), "motion: the frame rate is not known; give it in frames a second"),
        (lambda: ops.motion(F, 0.5), "the frame rate is 0.500000 frames a second; it must lie between 1 and"),
        (lambda: ops.motion(F, float("nan")), "the frame rate is -?nan frames a second"),
        (lambda: ops.motion(F[:0], 25.0), "the input has 0 frames"),
        (lambda: ops.motion(F.astype(np.float32), 25.0), "frames must be uint8"),
        (lambda: ops.sample_fps(F, 0.0), "sample_fps: the frame rate is not known"),
        (lambda: ops.sample_fps(F, -1.0), "the frame rate is -1.000000 frames a second; it must be positive"),
        (lambda: ops.sample_fps(F, 25.0, fps=0.0), "fps is 0; it must lie between"),
        (lambda: ops.scene_offset(F[:, :, :, :1], 25.0), "the frames have 1 channels; they must have 3"),
        (lambda: ops.scene_offset(F, 0.9), "scene_offset: the frame rate is 0.900000"),
        (lambda: ops.scene_offset(F, 25.0, window=0), "window is 0; it must lie between 1 and 1024"),
        (lambda: ops.flow_encode(np.zeros((4, 5), np.float32)), r"flow has shape \(4, 5\); it must be"),
        (
            lambda: ops.flow_encode(np.zeros((4, 5, 3), np.float32)),
            r"needs flow of shape \(frames, height, width, 2\)",
        ),
        (lambda: ops.flow_encode(np.full((1, 1, 2), np.nan, np.float32)), "value 0 is not finite"),
        (lambda: ops.flow_encode(np.zeros((4, 5, 2))), "the input must be float32"),  # type: ignore[arg-type]
        (
            lambda: ops.flow_encode(np.zeros((4, 5, 2), np.float32), bound=0.0),
            "bound is 0; it must lie between",
        ),
        (lambda: ops.flow_stack(F), "the frames have 3 channels; they must have 2"),
        (lambda: ops.flow_stack(F[:, :, :, :2], length=0), "length is 0; it must lie between"),
        (
            lambda: Pipeline([SampleFps(), Resize(height=2, width=2, rounded=False), Motion()]),
            r"op 2 \(motion\): it needs uint8 frames",
        ),
        (lambda: Pipeline([Motion()]).stream(0.0, shape=(4, 5, 3)), "the frame rate is not known"),
    ],
)
def test_messages(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
