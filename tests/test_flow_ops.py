# SPDX-License-Identifier: Apache-2.0
"""Properties of the optical flow ops: any size and division, extremes, messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo import _native, ops
from zoo.errors import InputError
from zoo.pipeline import FlowDis, Op, Pipeline

Array = np.ndarray[Any, Any]
QUICK = settings(max_examples=25, suppress_health_check=list(HealthCheck))
PRESETS = ("ultrafast", "fast", "medium")

#: One entry a method: name -> (op, smallest side).
METHODS: dict[str, tuple[Op, int]] = {f"dis {p}": (FlowDis(preset=p), 8) for p in PRESETS}  # type: ignore[arg-type]


def pattern(
    t: int, height: int, width: int, *, seed: int = 0, shift: tuple[float, float] = (1.0, -0.5)
) -> Array:
    """Waves that move by `shift` pixels from frame to frame."""
    rng = np.random.default_rng(seed)
    time_, y, x = np.mgrid[:t, :height, :width].astype(np.float64)
    x, y = x - shift[0] * time_, y - shift[1] * time_
    value = np.zeros((t, height, width))
    for size in (40, 30, 25, 15):
        kx, ky = rng.uniform(-0.35, 0.35, 2)
        value += size * np.sin(kx * x + ky * y + rng.uniform(0, 6))
    return np.clip(np.rint(128 + value), 0, 255).astype(np.uint8)


@pytest.fixture(params=_native.isas())
def isa(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize("method", METHODS)
def test_a_shift_is_found(method: str, isa: str) -> None:
    frames = pattern(2, 120, 160, shift=(2.25, -1.5))
    flow = Pipeline([METHODS[method][0]], isa=isa).run(frames)[0]
    assert flow.shape == (120, 160, 2)
    assert flow.dtype == np.float32
    inner = flow[16:-16, 16:-16]
    assert np.abs(inner - (2.25, -1.5)).mean() < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_equal_frames_do_not_move(method: str, isa: str) -> None:
    pipeline = Pipeline([METHODS[method][0]], isa=isa)
    still = np.repeat(pattern(1, 75, 101), 3, axis=0)
    np.testing.assert_array_equal(pipeline.run(still), np.zeros((2, 75, 101, 2), np.float32))
    for grey in (0, 255):
        flat = np.full((2, 64, 96), grey, np.uint8)
        np.testing.assert_array_equal(pipeline.run(flat), np.zeros((1, 64, 96, 2), np.float32))


@QUICK
@given(
    method=st.sampled_from(sorted(METHODS)), height=st.integers(1, 110), width=st.integers(1, 110),
    kind=st.sampled_from(["noise", "waves", "checkers", "black to white"]), name=st.sampled_from(_native.isas()),
)  # fmt: skip
def test_any_size_gives_a_finite_flow_or_a_message(
    method: str, height: int, width: int, kind: str, name: str
) -> None:
    op, smallest = METHODS[method]
    made: dict[str, Callable[[], Array]] = {
        "noise": lambda: np.random.default_rng(height).integers(0, 256, (2, height, width), np.uint8),
        "waves": lambda: pattern(2, height, width),
        "checkers": lambda: (np.indices((2, height, width)).sum(0) % 2 * 255).astype(np.uint8),
        "black to white": lambda: np.stack(
            [np.zeros((height, width), np.uint8), np.full((height, width), 255, np.uint8)]
        ),
    }
    frames = made[kind]()
    pipeline = Pipeline([op], isa=name)
    if min(height, width) < smallest:
        with pytest.raises(
            InputError, match=rf"frames are {width} x {height} pixels; .* sides of {smallest} to"
        ):
            pipeline.run(frames)
        return
    flow = pipeline.run(frames)
    assert flow.shape == (1, height, width, 2)
    assert np.isfinite(flow).all()


@QUICK
@given(
    method=st.sampled_from(sorted(METHODS)), t=st.integers(1, 7), channels=st.sampled_from([1, 3]),
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(any), threads=st.integers(1, 3),
)  # fmt: skip
def test_streams_ranges_and_threads_give_the_same_bits(
    method: str, t: int, channels: int, sizes: list[int], threads: int
) -> None:
    pipeline = Pipeline([METHODS[method][0]])
    frames = np.stack([pattern(t, 40, 52, seed=c) for c in range(channels)], -1)
    stream = pipeline.stream(shape=frames.shape[1:])
    out, at, i = [], 0, 0
    while at < t:
        out.append(stream.push(frames[at : at + sizes[i % len(sizes)]]))
        at += sizes[i % len(sizes)]
        i += 1
        assert sum(map(len, out)) == max(min(at, t) - 1, 0)  # each flow as soon as its second frame is there
    if t < 2:
        with pytest.raises(InputError, match="flow lies between two frames; the input has 1"):
            stream.finish()
        with pytest.raises(InputError, match="flow lies between two frames; the input has 1"):
            pipeline.run(frames)
        return
    whole = pipeline.run(frames)
    np.testing.assert_array_equal(np.concatenate([*out, stream.finish()]), whole)
    np.testing.assert_array_equal(pipeline.run(frames, threads=threads), whole)
    for k in range(t - 1):
        np.testing.assert_array_equal(pipeline.run(frames[k : k + 2])[0], whole[k])


def test_a_batch_equals_its_members() -> None:
    pipeline = Pipeline([FlowDis(preset="fast")])
    videos = [pattern(2 + i % 3, 40 + 17 * i, 90 - 11 * i, seed=i) for i in range(5)]
    for got, video in zip(pipeline.batch(videos, threads=2), videos, strict=True):
        np.testing.assert_array_equal(got, pipeline.run(video))


def test_a_state_serves_frames_of_changing_size() -> None:
    pipeline = Pipeline([FlowDis()])
    small, large = pattern(2, 33, 41), pattern(2, 130, 170)
    first = pipeline.run(small)
    pipeline.run(large)
    np.testing.assert_array_equal(pipeline.run(small), first)


def test_no_input_is_slow() -> None:
    """Weights and derivatives of flat or saturated frames do not fall into denormals: within 20 times a normal frame."""
    pipeline = Pipeline([FlowDis()])
    normal = pattern(2, 160, 160)
    faint = np.full((2, 160, 160), 17, np.uint8)
    faint[0, 80, 80] = 18

    def seconds(frames: Array) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            pipeline.run(frames)
            times.append(time.perf_counter() - start)
        return min(times)

    seconds(normal)
    assert seconds(faint) < 20 * seconds(normal)


def test_optical_flow_is_the_op() -> None:
    frames = pattern(2, 60, 80)
    for preset in PRESETS:
        flow = ops.optical_flow(frames[0], frames[1], method="dis", preset=preset)  # type: ignore[arg-type]
        np.testing.assert_array_equal(flow, ops.flow_dis(frames, preset=preset)[0])  # type: ignore[arg-type]
    colour = np.repeat(frames[..., None], 3, axis=-1)
    np.testing.assert_array_equal(
        ops.optical_flow(colour[0], colour[1]), ops.optical_flow(frames[0], frames[1])
    )
    strided = np.asfortranarray(frames[0])[::1], frames[1]
    np.testing.assert_array_equal(ops.optical_flow(*strided), ops.optical_flow(frames[0], frames[1]))


@pytest.mark.parametrize(
    ("prev", "following", "options", "message"),
    [
        (np.zeros((20, 20)), np.zeros((20, 20)), {}, "prev is float64 of shape .20, 20.; it must be uint8"),
        (np.zeros(20, np.uint8), np.zeros(20, np.uint8), {}, "prev is uint8 of shape .20,."),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 21), np.uint8), {}, "next .20, 21.; they must be equal"),
        (np.zeros((20, 20, 2), np.uint8), np.zeros((20, 20, 2), np.uint8), {}, "2 channels; flow needs 1 .grey. or 3"),
        (np.zeros((7, 20), np.uint8), np.zeros((7, 20), np.uint8), {}, "20 x 7 pixels; flow_dis takes sides of 8 to 16384"),
        (np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8), {}, "1 x 1 pixels"),
        (np.zeros((8, 16385), np.uint8), np.zeros((8, 16385), np.uint8), {}, "16385 x 8 pixels"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8), {"method": "sift"}, "method is 'sift'; it must be"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8), {"preset": "slow"}, "preset is 'slow'; it must be one of"),
    ],
)  # fmt: skip
def test_messages(prev: Array, following: Array, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ops.optical_flow(prev, following, **options)
