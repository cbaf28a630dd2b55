# SPDX-License-Identifier: Apache-2.0
"""Properties of Farneback's and the TV-L1 flow: any frames, any division of them, extremes, errors."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zoo import _native, ops
from zoo.errors import InputError
from zoo.pipeline import FlowFarneback, FlowTvl1, Pipeline

U8 = NDArray[np.uint8]

# what the properties need of TV-L1 does not depend on how long it iterates
BRIEF: dict[str, Any] = {"warps": 2, "inner_iterations": 4, "outer_iterations": 2}
OPS: list[tuple[str, dict[str, Any]]] = [
    ("flow_farneback", {}),
    ("flow_farneback", {"window": "gaussian", "poly_n": 7, "poly_sigma": 1.5}),
    ("flow_farneback", {"winsize": 31, "poly_n": 3, "iterations": 5}),
    ("flow_tvl1", BRIEF),
    ("flow_tvl1", {**BRIEF, "gamma": 0.3, "median_filtering": 3}),
]
STRUCTS = {"flow_farneback": FlowFarneback, "flow_tvl1": FlowTvl1}


def flow(op: str, frames: U8, options: dict[str, Any]) -> NDArray[np.float32]:
    return np.asarray(getattr(ops, op)(frames, **options))


def frames_of(seed: int, count: int, height: int, width: int, channels: int) -> U8:
    """Smooth random frames that move."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    shape = (count, height, width) if channels == 1 else (count, height, width, channels)
    out = np.empty(shape, np.uint8)
    phase, pitch = rng.uniform(0, 6, 4), rng.uniform(0.1, 0.9, 4)
    for t in range(count):
        grey = 120 + 50 * np.sin(pitch[0] * (x - t) + phase[0]) * np.cos(pitch[1] * (y + 0.5 * t) + phase[1])
        grey = grey + 40 * np.sin(pitch[2] * x + pitch[3] * y + phase[2]) + rng.normal(0, 3, grey.shape)
        grey = np.clip(grey, 0, 255).astype(np.uint8)
        out[t] = grey if channels == 1 else grey[..., None] - np.arange(channels, dtype=np.uint8)
    return out


@pytest.fixture(autouse=True)
def _default_isa() -> Iterator[None]:
    yield
    _native.set_isa("")


@settings(max_examples=25)
@given(
    op=st.sampled_from(OPS),
    seed=st.integers(0, 99),
    count=st.integers(2, 4),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    channels=st.sampled_from([1, 3]),
)
def test_a_run_of_frames_is_its_pairs(
    op: tuple[str, dict[str, Any]], seed: int, count: int, height: int, width: int, channels: int
) -> None:
    frames = frames_of(seed, count, height, width, channels)
    whole = flow(op[0], frames, op[1])
    assert whole.shape == (count - 1, height, width, 2)
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    for t in range(count - 1):
        np.testing.assert_array_equal(whole[t], flow(op[0], frames[t : t + 2], op[1])[0])


@settings(max_examples=15)
@given(
    op=st.sampled_from(OPS),
    seed=st.integers(0, 99),
    count=st.integers(0, 6),
    cuts=st.lists(st.integers(0, 6), max_size=4),
)
def test_a_stream_gives_the_same_bits(
    op: tuple[str, dict[str, Any]], seed: int, count: int, cuts: list[int]
) -> None:
    frames = frames_of(seed, count, 37, 41, 1)[..., None] if count else np.empty((0, 37, 41, 1), np.uint8)
    pipeline = Pipeline([STRUCTS[op[0]](**op[1])])
    stream = pipeline.stream(shape=frames.shape[1:])
    edges = sorted({0, count, *(c for c in cuts if c <= count)})
    parts = []
    if count < 2:
        with pytest.raises(InputError, match="frames"):
            pipeline.run(frames)
        return
    for begin, end in pairwise(edges):
        parts.append(np.array(stream.push(frames[begin:end])))
    parts.append(np.array(stream.finish()))
    np.testing.assert_array_equal(np.concatenate(parts), pipeline.run(frames))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (31, 33), (64, 80)])
def test_instruction_sets_agree(op: tuple[str, dict[str, Any]], height: int, width: int) -> None:
    frames = frames_of(5, 2, height, width, 1)
    results = []
    for isa in _native.isas():
        _native.set_isa(isa)
        results.append(flow(op[0], frames, op[1]))
    for other in results[1:]:
        # rounding, magnified where the moments are close to singular (Farneback) or at the threshold (TV-L1)
        assert np.abs(other - results[0]).mean() <= 1e-3


@pytest.mark.parametrize("op", OPS)
def test_what_does_not_move_has_no_flow(op: tuple[str, dict[str, Any]]) -> None:
    frame = frames_of(1, 1, 50, 60, 1)[0]
    still = np.abs(flow(op[0], np.stack([frame, frame]), op[1]))[0]
    # Farneback's last row and column have no neighbour to interpolate with and count as outside of the second frame, as
    # in OpenCV: there, and as far as windows reach, is a little flow.
    assert (still[:18, :28] if op[0] == "flow_farneback" else still).max() <= (
        0.05 if "winsize" in op[1] else 1e-4
    )
    for value in (0, 255):
        flat = np.full((2, 50, 60), value, np.uint8)
        assert np.abs(flow(op[0], flat, op[1])).max() <= 1e-4


@pytest.mark.parametrize("op", OPS)
def test_a_shift_is_found(op: tuple[str, dict[str, Any]]) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :112]
    waves = rng.uniform(0.05, 0.6, (12, 2)) * rng.choice([-1, 1], (12, 2))
    phase = rng.uniform(0, 6, 12)

    def scene(dx: float, dy: float) -> U8:
        value = sum(np.sin(a * (x - dx) + b * (y - dy) + p) for (a, b), p in zip(waves, phase, strict=True))
        return np.clip(128 + 18 * value, 0, 255).astype(np.uint8)

    options = {} if op[0] == "flow_tvl1" else op[1]
    got = flow(op[0], np.stack([scene(0, 0), scene(1.25, -0.75)]), options)[0]
    middle = got[16:-16, 16:-16].reshape(-1, 2)
    np.testing.assert_allclose(middle.mean(0), [1.25, -0.75], atol=0.05)


@pytest.mark.parametrize("op", OPS)
def test_extremes_are_finite(op: tuple[str, dict[str, Any]]) -> None:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:45, :53]
    board = ((x + y) % 2 * 255).astype(np.uint8)
    noise = (rng.random((45, 53)) < 0.5).astype(np.uint8) * np.uint8(255)
    spot = np.zeros((45, 53), np.uint8)
    spot[20, 20] = 255
    for pair in ((board, 255 - board), (noise, noise[::-1]), (spot, np.roll(spot, 7, 1)), (spot, 0 * spot)):
        assert np.isfinite(flow(op[0], np.stack(pair), op[1])).all()


@pytest.mark.parametrize("op", OPS)
def test_memory_layout_does_not_matter(op: tuple[str, dict[str, Any]]) -> None:
    frames = frames_of(4, 3, 40, 50, 1)
    spread = np.empty((3, 40, 101), np.uint8)[:, :, 1::2]
    spread[...] = frames
    np.testing.assert_array_equal(flow(op[0], spread, op[1]), flow(op[0], frames, op[1]))


def test_bad_input_is_refused() -> None:
    frames = frames_of(0, 2, 20, 20, 1)
    for op, _ in OPS[::3]:
        function = getattr(ops, op)
        with pytest.raises(InputError, match="two frames"):
            function(frames[:1])
        with pytest.raises(InputError):
            function(frames.astype(np.float32))
        with pytest.raises(InputError, match="channels"):
            function(np.zeros((2, 20, 20, 2), np.uint8))
        with pytest.raises(InputError):
            function(np.zeros((2, 0, 20), np.uint8))
        with pytest.raises(InputError, match="16384"):
            function(np.zeros((2, 1, 16385), np.uint8))
    with pytest.raises(InputError, match="winsize"):
        ops.flow_farneback(frames, winsize=1)
    with pytest.raises(InputError, match="pyr_scale"):
        ops.flow_farneback(frames, pyr_scale=1.0)
    with pytest.raises(InputError, match="median_filtering"):
        ops.flow_tvl1(frames, median_filtering=4)
    with pytest.raises(InputError, match="tau"):
        ops.flow_tvl1(frames, tau=0.3)


def test_optical_flow_is_the_op() -> None:
    frames = frames_of(7, 2, 40, 50, 1)
    for op, options in OPS:
        pair = ops.optical_flow(frames[0], frames[1], method=op.removeprefix("flow_"), **options)  # type: ignore[arg-type]
        np.testing.assert_array_equal(pair, flow(op, frames, options)[0])
    with pytest.raises(InputError, match="no option 'preset'; it has tau, lambda_"):
        ops.optical_flow(frames[0], frames[1], method="tvl1", preset="fast")
    with pytest.raises(InputError, match="'farneback', 'tvl1'"):
        ops.optical_flow(frames[0], frames[1], method="lucas")  # type: ignore[arg-type]
