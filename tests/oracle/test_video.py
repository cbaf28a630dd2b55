# SPDX-License-Identifier: Apache-2.0
"""Video ops against NumPy and OpenCV on real clips, on every instruction set.

The references follow the fact sheets' definitions (04: sampling, motion, scenes; 05: flow) frame by frame.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zoo import ops
from zoo.errors import InputError
from zoo.pipeline import FlowEncode, FlowStack, Pipeline, Resize

cv2 = pytest.importorskip("cv2")

Frames = NDArray[np.uint8]


def read(path: Path, limit: int) -> tuple[Frames, float]:
    """Frames (BGR, as OpenCV gives them) and their rate."""
    video = cv2.VideoCapture(str(path))
    frames: list[Any] = []
    while len(frames) < limit:
        ok, frame = video.read()
        if not ok:
            break
        frames.append(frame)
    assert frames
    return np.stack(frames), float(video.get(cv2.CAP_PROP_FPS))


@pytest.fixture(scope="module")
def clips(data_root: Path) -> list[tuple[Frames, float]]:
    """Real clips of 25, 29.97 and 24 frames a second, and an edit of three of them with known cuts."""
    folder = data_root / "video"
    bikes = read(folder / "bikes.mp4", 120)
    phone = read(folder / "carphone_pristine.mp4", 120)
    bunny = read(folder / "moviepy_big_buck_bunny_0_30.webm", 40)
    chaplin = read(folder / "moviepy_chaplin.mp4", 120)
    small = [
        np.stack([cv2.resize(f, (320, 180)) for f in x[0][a:b]])
        for x, a, b in ((chaplin, 0, 31), (bikes, 0, 50), (phone, 0, 9), (chaplin, 60, 118), (bikes, 70, 99))
    ]
    return [bikes, phone, bunny, chaplin, (np.concatenate(small), 25.0)]


def mean_difference(a: Frames, b: Frames) -> float:
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())


def test_frame_difference(isa: str, clips: list[tuple[Frames, float]]) -> None:
    """Sums are exact: float64's mean, rounded to float32 once."""
    del isa
    for frames, _ in clips:
        part = frames[:30]
        want = [0.0, *(cv2.absdiff(b, a).mean() for a, b in itertools.pairwise(part))]
        np.testing.assert_array_equal(ops.frame_difference(part)[:, 0], np.float32(want))
        assert np.abs(np.float64(want[1]) - mean_difference(part[1], part[0])) < 1e-9


@pytest.mark.parametrize("rate", [None, 1.0, 7.3, 23.976, 29.97, 119.88])
def test_motion(isa: str, clips: list[tuple[Frames, float]], rate: float | None) -> None:
    del isa
    for frames, own in clips:
        fps = rate or own
        want, last = [0.0], 0
        for i in range(1, len(frames)):
            if i / fps - last >= 1:
                want.append(mean_difference(frames[i], frames[i - 1]))
                last = int(i / fps)
        got = ops.motion(frames, fps)
        assert got.shape == (len(want), 1)
        np.testing.assert_array_equal(got[:, 0], np.float32(want))


@pytest.mark.parametrize(
    ("fps", "rates"), [(1.0, (25.0, 30000 / 1001, 24.0, 1.0, 0.5)), (8.0, (30.0, 24.0, 50.0))]
)
def test_sample_fps(
    isa: str, clips: list[tuple[Frames, float]], fps: float, rates: tuple[float, ...]
) -> None:
    """The definition in exact arithmetic, on thousandths of a frame: float64 would pick 10 for 9 at 30 over 10 frames a second."""
    del isa
    from fractions import Fraction

    frames = clips[1][0]
    for rate in rates:
        exact, want = Fraction(rate).limit_denominator(2000), [0]
        for i in range(len(frames)):
            if Fraction(i - want[-1]) / exact >= 1 / Fraction(fps):
                want.append(i)
        np.testing.assert_array_equal(ops.sample_fps(frames, rate, fps=fps), frames[want])
        times = np.arange(len(frames)) / rate
        assert ops.sample_times(times, fps).tolist() == want


def test_sample_times_of_uneven_frames() -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0, 0.2, 3000))
    for fps in (0.7, 1.0, 9.0, 1000.0):
        want: list[int] = []
        for i, t in enumerate(times):
            if not want or t - times[want[-1]] >= 1 / fps:
                want.append(i)
        assert ops.sample_times(times, fps).tolist() == want
    assert ops.sample_times(np.zeros(0)).tolist() == []
    with pytest.raises(InputError, match="time 2 lies before the one of the frame before"):
        ops.sample_times([0.0, 1.0, 0.5])
    with pytest.raises(InputError, match="time 1 is not finite"):
        ops.sample_times([0.0, np.nan])


_SCORES: dict[tuple[int, int], list[float]] = {}


def content_scores(frames: Frames, factor: int) -> list[float]:
    """Mean absolute differences of hue, saturation and value, averaged; kept, since they do not depend on the instruction set."""
    key = (id(frames), factor)
    if key in _SCORES:
        return _SCORES[key]
    _, height, width, _ = frames.shape
    scores = [0.0]
    before: Any = None
    for frame in frames:
        small = cv2.resize(frame, (round(width / factor), round(height / factor))) if factor > 1 else frame
        now = cv2.cvtColor(small, cv2.COLOR_BGR2HSV)
        if before is not None:
            sums = cv2.absdiff(now, before).reshape(-1, 3).sum(0, dtype=np.int64)
            scores.append(sum(sums / (now.shape[0] * now.shape[1])) / 3.0)
        before = now
    _SCORES[key] = scores
    return scores


def scene_reference(
    frames: Frames,
    rate: float,
    *,
    threshold: float = 3.0,
    min_content: float = 15.0,
    min_scene_length: int = 15,
    window: int = 2,
    downscale: int | None = None,
) -> list[float]:
    """Scores, cuts, scenes and offsets as the documentation of PySceneDetect 0.6.1 and sheet 04 define them."""
    n = len(frames)
    scores = content_scores(frames, downscale or max(1, frames.shape[2] // 256))
    cuts: list[int] = []
    for f in range(window, n - window):
        around = sum(scores[i] for i in range(f - window, f + window + 1) if i != f) / (2.0 * window)
        if abs(around) < 0.00001:
            ratio = 255.0 if scores[f] >= min_content else 0.0
        else:
            ratio = min(scores[f] / around, 255.0)
        apart = not cuts or f - cuts[-1] >= min_scene_length
        if ratio >= threshold and scores[f] >= min_content and apart:
            cuts.append(f)
    ends = [*(math.ceil(c / rate) for c in cuts), math.inf]
    offsets, scene, start = [], 0, 0
    for s in range(1 + math.floor((n - 1) / rate)):
        while s >= ends[scene]:
            scene, start = scene + 1, s
        offsets.append(s - start + 1)
    return [*map(float, offsets)]


def test_scene_offset(isa: str, clips: list[tuple[Frames, float]]) -> None:
    del isa
    for frames, rate in clips:
        got = ops.scene_offset(frames, rate, order="bgr")
        assert got[:, 0].tolist() == scene_reference(frames, rate)
    edit, rate = clips[-1]
    # chaplin 31 frames, bikes 50 with a cut of its own after 30, phone 9 (shorter than a scene may be), chaplin 58, bikes 29 with
    # one of its own after 6: cuts at 31, 61, 81 and 148
    assert ops.scene_offset(edit, rate, order="bgr")[:, 0].tolist() == [1, 2, 1, 1, 1, 2, 1, 2]
    for options in (
        {"min_scene_length": 0},
        {"threshold": 1.2, "min_content": 1.0},
        {"window": 5, "downscale": 2},
        {"downscale": 1, "min_content": 40.0},
    ):
        for fps in (5.0, 29.97):
            got = ops.scene_offset(edit, fps, order="bgr", **options)  # type: ignore[arg-type]
            assert got[:, 0].tolist() == scene_reference(edit, fps, **options)  # type: ignore[arg-type]
    swapped = ops.scene_offset(np.ascontiguousarray(edit[..., ::-1]), rate)
    np.testing.assert_array_equal(swapped, ops.scene_offset(edit, rate, order="bgr"))


def test_hsv_scores_are_opencvs(isa: str) -> None:
    """Cuts depend on the last bit of hue, saturation and value: every pair of colours here decides one."""
    del isa
    rng = np.random.default_rng(4)
    colours = np.concatenate([rng.integers(0, 256, (60, 3)), rng.integers(0, 6, (20, 3))]).astype(np.uint8)
    hsv = cv2.cvtColor(colours[None], cv2.COLOR_BGR2HSV)[0].astype(int)
    for a, b, x, y in zip(colours[:-1], colours[1:], hsv[:-1], hsv[1:], strict=True):
        frames = np.broadcast_to(np.stack([a] * 3 + [b] * 3)[:, None, None], (6, 3, 5, 3))
        score = np.abs(x - y).sum() / 3
        if score == 0:
            continue
        # at 3 frames a second the cut at frame 3 begins second 1
        for level, want in ((score, [1, 1]), (score + 0.3, [1, 2])):
            got = ops.scene_offset(frames, 3.0, min_content=float(min(level, 255)), order="bgr")
            assert got[:, 0].tolist() == (want if level <= 255 else got[:, 0].tolist())


def numpy_encode(flow: NDArray[np.float32], bound: float) -> NDArray[np.uint8]:
    clipped = np.clip(flow, -np.float32(bound), np.float32(bound))
    return np.rint((clipped + np.float32(bound)) * np.float32(255 / (2 * bound))).astype(np.uint8)


@pytest.mark.parametrize("bound", [20.0, 15.0, 0.7])
def test_flow_encode(isa: str, clips: list[tuple[Frames, float]], bound: float) -> None:
    del isa
    grey = [cv2.cvtColor(f, cv2.COLOR_BGR2GRAY) for f in clips[1][0][:4]]
    flow = np.stack(
        [
            cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 3, 5, 1.2, 0)
            for a, b in itertools.pairwise(grey)
        ]
    )
    ties = (
        (np.arange(510, dtype=np.float32) / 2 + 0.25) * np.float32(2 * bound / 255) - np.float32(bound)
    ).reshape(1, 15, 17, 2)
    huge = np.random.default_rng(0).standard_cauchy((2, 9, 13, 2)).astype(np.float32) * 50
    huge[0, 3, :, 0], huge[1, :, 5, 1] = 3e38, -3e38
    for x in (flow, ties, huge):
        got = ops.flow_encode(x, bound=bound)
        np.testing.assert_array_equal(got, numpy_encode(x, bound))
        np.testing.assert_array_equal(ops.flow_encode(x[0], bound=bound), got[0])
    edges = np.array([-bound, 0, bound, 1e30, -1e30, -0.0], np.float32).reshape(1, 3, 2)
    assert ops.flow_encode(edges, bound=bound).ravel()[[0, 2, 3, 4]].tolist() == [0, 255, 255, 0]
    assert (
        bound != 20 or (ops.flow_encode(edges).ravel()[[1, 5]] == 128).all()
    )  # no motion: a tie, to the even level


def test_flow_stack(isa: str) -> None:
    """Sheet 05: ten flows that end at the current frame; in the published weights' order the first one is last."""
    rng = np.random.default_rng(1)
    flow = rng.integers(0, 256, (14, 6, 7, 2), dtype=np.uint8)
    for length in (10, 1, 3):
        plain = np.empty((14, 2 * length, 6, 7), np.float32)
        quirk = np.empty_like(plain)
        for t in range(14):
            for j in range(length):
                source = flow[max(0, t - length + 1 + j)].astype(np.float32) * np.float32(1 / 255)
                for axis in (0, 1):
                    plain[t, 2 * j + axis] = source[:, :, axis]
                    quirk[t, 2 * (j - 1) + axis] = source[:, :, axis]  # -2 and -1 wrap around to the end
        np.testing.assert_array_equal(ops.flow_stack(flow, length=length), plain)
        np.testing.assert_array_equal(ops.flow_stack(flow, length=length, order="rotated"), quirk)
    # the chain of sheet 05: encode, resize the images, stack
    floats = rng.normal(0, 9, (12, 40, 50, 2)).astype(np.float32)
    chain = Pipeline([FlowEncode(), Resize(height=28, width=28), FlowStack()], shape=(-1, 40, 50, 2), isa=isa)
    small = np.stack([ops.resize(f, 28, 28) for f in ops.flow_encode(floats)])
    np.testing.assert_array_equal(chain(floats), ops.flow_stack(small))
