# SPDX-License-Identifier: Apache-2.0
"""Farneback's and the TV-L1 flow beside OpenCV's: the flow itself, and its error where the truth is known."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zoo import ops

cv2 = pytest.importorskip("cv2")
ndimage = pytest.importorskip("scipy.ndimage")

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Pair = tuple[U8, U8, F32, NDArray[np.bool_]]  # two frames, the true flow, where it is known

FARNEBACK: list[dict[str, Any]] = [
    {"window": window, "poly_n": n, "poly_sigma": sigma}
    for window in ("box", "gaussian")
    for n, sigma in ((5, 1.2), (7, 1.5))
]
# two orders of magnitude less work than the defaults: OpenCV needs a minute for one pair of 640 x 480
BRIEF: dict[str, Any] = {"warps": 2, "inner_iterations": 5, "outer_iterations": 2}


def error(flow: F32, pair: Pair) -> float:
    """Mean end-point error, pixels."""
    return float(np.sqrt(((flow - pair[2])[pair[3]] ** 2).sum(-1)).mean())


def distance(flow: F32, reference: F32) -> F32:
    return np.sqrt(((flow - reference) ** 2).sum(-1))


def warped(image: U8, amplitude: float, seed: int) -> Pair:
    """A pair with a known smooth flow: the first frame is the second one seen through it."""
    h, w = image.shape
    y, x = np.mgrid[:h, :w].astype(np.float64)
    a, b, c, d = np.random.default_rng(seed).uniform(0.3, 1.2, 4)
    flow = amplitude * np.stack(
        [np.sin(2 * np.pi * (a * x / w + b * y / h)), np.cos(2 * np.pi * (c * y / h - d * x / w))], -1
    )
    at = np.stack([y + flow[..., 1], x + flow[..., 0]])
    first = ndimage.map_coordinates(image.astype(np.float64), at, order=3, mode="mirror")
    inside = (at >= 0).all(0) & (at[0] <= h - 1) & (at[1] <= w - 1)
    return np.clip(np.rint(first), 0, 255).astype(np.uint8), image, flow.astype(np.float32), inside


@pytest.fixture(scope="module")
def motorcycle(data_root: Path) -> Pair:
    folder = data_root / "flow" / "motorcycle"
    left, right = (cv2.imread(str(folder / f"motorcycle_{side}.png"), 0) for side in ("left", "right"))
    disparity = np.load(folder / "motorcycle_disp.npz")["arr_0"]
    known = np.isfinite(disparity)
    flow = np.stack([-np.where(known, disparity, 0), np.zeros_like(disparity)], -1)
    return left, right, flow.astype(np.float32), known


@pytest.fixture(scope="module")
def pairs(data_root: Path, motorcycle: Pair) -> dict[str, Pair]:
    """Real frames seen through smooth flows, in the sizes that matter and odd ones."""
    faces = sorted((data_root / "faces_hires").glob("*.jpg"))
    face = [cv2.resize(cv2.imread(str(f), 0), (224, 224), interpolation=cv2.INTER_AREA) for f in faces[:2]]
    video = cv2.VideoCapture(str(data_root / "video" / "carphone_pristine.mp4"))
    frame = cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2GRAY)
    video.release()
    street = motorcycle[0]
    return {
        "face 224": warped(face[0], 2.0, 1),
        "face 224, far": warped(face[1], 6.0, 2),
        "street 640 x 480": warped(np.ascontiguousarray(street[:480, :640]), 3.0, 3),
        "video": warped(frame, 1.5, 4),
        "street 131 x 97": warped(np.ascontiguousarray(street[100:197, 200:331]), 1.0, 5),
    }


@cache
def _cached(call: Callable[..., F32], key: tuple[Any, ...]) -> F32:
    return call(*key)


_frames: dict[int, tuple[U8, U8]] = {}


def reference(method: str, pair: Pair, **options: Any) -> F32:
    """OpenCV's flow, once for all instruction sets."""
    _frames[id(pair[0])] = pair[:2]
    return _cached(_opencv, (method, id(pair[0]), *sorted(options.items())))


def _opencv(method: str, frames: int, *items: tuple[str, Any]) -> F32:
    prev, following = _frames[frames]
    o = dict(items)
    if method == "farneback":
        flags = cv2.OPTFLOW_FARNEBACK_GAUSSIAN if o.get("window") == "gaussian" else 0
        names = {
            "pyr_scale": 0.5,
            "levels": 3,
            "winsize": 15,
            "iterations": 3,
            "poly_n": 5,
            "poly_sigma": 1.2,
        }
        values = [o.get(name, default) for name, default in names.items()]
        return np.asarray(cv2.calcOpticalFlowFarneback(prev, following, None, *values, flags))
    names = {"lambda_": "Lambda", "scales": "ScalesNumber", "warps": "WarpingsNumber"}
    flow = cv2.optflow.DualTVL1OpticalFlow_create()
    for name, value in o.items():  # not as arguments of create: "lambda" is a keyword
        getattr(flow, "set" + names.get(name, name.title().replace("_", "")))(value)
    return np.asarray(flow.calc(prev, following, None))


def farneback(pair: Pair, **options: Any) -> F32:
    return ops.flow_farneback(np.stack(pair[:2]), **options)[0]


def tvl1(pair: Pair, **options: Any) -> F32:
    return ops.flow_tvl1(np.stack(pair[:2]), **options)[0]


# ------------------------------------------------------------------------------------------------------- Farneback


@pytest.mark.parametrize("options", FARNEBACK)
def test_farneback_on_a_stereo_pair(isa: str, motorcycle: Pair, options: dict[str, Any]) -> None:
    got, expected = farneback(motorcycle, **options), reference("farneback", motorcycle, **options)
    assert error(got, motorcycle) <= 1.01 * error(expected, motorcycle)
    # Displacements of 60 pixels are beyond the method: there the estimate jumps on the last bit of its sums. Elsewhere
    # only rounding differs.
    far = distance(got, expected)
    assert np.median(far) <= 1e-4
    assert np.percentile(far, 99) <= 5e-3


@pytest.mark.parametrize("options", FARNEBACK)
def test_farneback_where_the_flow_is_known(isa: str, pairs: dict[str, Pair], options: dict[str, Any]) -> None:
    for name, pair in pairs.items():
        got, expected = farneback(pair, **options), reference("farneback", pair, **options)
        assert error(got, pair) <= 1.01 * error(expected, pair), name
        far = distance(got, expected)
        # single precision sums of squared derivatives, over a determinant that may be a thousandth of them
        assert far.mean() <= 1e-4, f"{name}: {far.mean()}"
        assert np.percentile(far, 99.9) <= 1e-2, f"{name}: {np.percentile(far, 99.9)}"


@pytest.mark.parametrize(
    "options",
    [
        {"pyr_scale": 0.8, "levels": 5},
        {"levels": 0, "iterations": 1},
        {"iterations": 7, "winsize": 20},
        {"winsize": 3, "poly_n": 3, "poly_sigma": 0.9},
        {"winsize": 61, "window": "gaussian", "poly_n": 10, "poly_sigma": 3.0},
    ],
)
def test_farneback_with_other_options(isa: str, pairs: dict[str, Pair], options: dict[str, Any]) -> None:
    pair = pairs["face 224"]
    got, expected = farneback(pair, **options), reference("farneback", pair, **options)
    assert error(got, pair) <= 1.01 * error(expected, pair)
    far = distance(got, expected)
    assert far.mean() <= 1e-3, far.mean()


@pytest.mark.parametrize(
    ("height", "width"),
    [(10, 10), (11, 300), (300, 11), (33, 31), (64, 40), (47, 129), (1, 1), (1, 9), (4, 7)],
)
def test_farneback_of_small_frames(isa: str, height: int, width: int) -> None:
    """Below 10 pixels a side OpenCV's test for the border wraps around; only what is next to zero is compared there."""
    rng = np.random.default_rng(height * 1000 + width)
    image = cv2.GaussianBlur(rng.integers(0, 256, (height + 2, width), dtype=np.uint8), (0, 0), 1.5)
    prev, following = (np.ascontiguousarray(image[k : k + height]) for k in (1, 0))  # moves down by a pixel
    for window, flags in (("box", 0), ("gaussian", cv2.OPTFLOW_FARNEBACK_GAUSSIAN)):
        got = ops.flow_farneback(np.stack([prev, following]), window=window)[0]  # type: ignore[arg-type]
        expected = cv2.calcOpticalFlowFarneback(prev, following, None, 0.5, 3, 15, 3, 5, 1.2, flags)
        assert np.abs(got - expected).max() <= 2e-3


# ----------------------------------------------------------------------------------------------------------- TV-L1


def test_tvl1_on_a_stereo_pair(isa: str, motorcycle: Pair) -> None:
    """A sixth of the side: OpenCV takes a minute for the whole. Local minima make fields differ in places."""
    prev, following, _, _ = motorcycle
    size = (124, 84)
    small = [cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in (prev, following)]
    known = cv2.resize(motorcycle[3].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    flow = cv2.resize(motorcycle[2], size, interpolation=cv2.INTER_NEAREST) * np.float32(124 / 741)
    pair: Pair = (_kept("prev", small[0]), _kept("next", small[1]), flow, known)
    got, expected = tvl1(pair), reference("tvl1", pair)
    assert error(got, pair) <= 1.01 * error(expected, pair)
    assert np.median(distance(got, expected)) <= 0.02


_kept_frames: dict[str, U8] = {}


def _kept(name: str, frame: U8) -> U8:
    """The same array in every call, so that its flow is computed once."""
    return _kept_frames.setdefault(name, frame)


def test_tvl1_where_the_flow_is_known(isa: str, pairs: dict[str, Pair]) -> None:
    for name in ("face 224", "street 131 x 97"):
        pair = pairs[name]
        got, expected = tvl1(pair), reference("tvl1", pair)
        assert error(got, pair) <= 1.01 * error(expected, pair), name
        # an iteration more or less where the change is just at epsilon, a hundredth of a pixel
        assert distance(got, expected).mean() <= 2e-2, name


def test_tvl1_with_few_iterations_agrees_with_opencv(
    isa: str, pairs: dict[str, Pair], motorcycle: Pair
) -> None:
    for name, pair in [*pairs.items(), ("stereo", motorcycle)]:
        got, expected = tvl1(pair, **BRIEF), reference("tvl1", pair, **BRIEF)
        assert error(got, pair) <= 1.01 * error(expected, pair), name
        far = distance(got, expected)
        # the data term is a threshold: a pixel at it goes one way or the other; there are more on the stereo pair, whose
        # displacements are beyond these few iterations
        assert far.mean() <= (5e-3 if name == "stereo" else 1e-4), f"{name}: {far.mean()}"
        assert np.median(far) <= (1e-4 if name == "stereo" else 2e-5), f"{name}: {np.median(far)}"


@pytest.mark.parametrize(
    "options",
    [
        {"median_filtering": 1},
        {"median_filtering": 3},
        {"gamma": 0.2},
        {"lambda_": 0.05, "theta": 0.2, "tau": 0.1},
        {"scales": 3, "scale_step": 0.5},
        {"epsilon": 0.0, "inner_iterations": 3},
    ],
)
def test_tvl1_with_other_options(isa: str, pairs: dict[str, Pair], options: dict[str, Any]) -> None:
    pair = pairs["face 224"]
    both = {**BRIEF, **options}
    got, expected = tvl1(pair, **both), reference("tvl1", pair, **both)
    assert error(got, pair) <= 1.01 * error(expected, pair)
    far = distance(got, expected)
    assert far.mean() <= 1e-3, far.mean()
    assert np.median(far) <= 2e-5, np.median(far)


@pytest.mark.parametrize(("height", "width"), [(3, 3), (5, 8), (16, 16), (17, 33), (3, 40)])
def test_tvl1_of_small_frames(isa: str, height: int, width: int) -> None:
    rng = np.random.default_rng(height * 1000 + width)
    image = cv2.GaussianBlur(rng.integers(0, 256, (height + 2, width), dtype=np.uint8), (0, 0), 1.5)
    prev, following = (np.ascontiguousarray(image[k : k + height]) for k in (1, 0))
    got = ops.flow_tvl1(np.stack([prev, following]), **BRIEF)[0]
    flow = cv2.optflow.DualTVL1OpticalFlow_create(warps=2, innnerIterations=5, outerIterations=2)  # so spelt
    assert np.abs(got - flow.calc(prev, following, None)).max() <= 2e-3
