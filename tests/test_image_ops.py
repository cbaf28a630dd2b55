# SPDX-License-Identifier: Apache-2.0
"""Properties and errors of the image ops: any size, every instruction set, over frames, one by one and in batches."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo import _native, ops
from zoo.errors import InputError
from zoo.pipeline import (
    Crop,
    FaceAlign,
    GreyToRgb,
    MoveChannels,
    Normalize,
    Op,
    Pipeline,
    Resize,
    ResizeNormalize,
    SampleFps,
    SquareCrop,
    ToGrey,
)

ISAS = _native.isas()
QUICK = settings(max_examples=40, suppress_health_check=list(HealthCheck))
METHODS: list[Any] = [
    "nearest",
    "nearest_opencv",
    "bilinear",
    "bilinear_antialias",
    "bicubic_antialias",
    "box",
    "area",
]
MARKS = (10.0, 9.0, 25.0, 10.0, 18.0, 17.0, 11.0, 25.0, 24.0, 26.0)


def float32_bound(height: int, width: int) -> float:
    """Grey levels that sums of float32 may be off: each tap rounds by half a unit of values up to 255 (7.6e-6), each weight by
    6e-8 of itself, and a cubic filter's weights add up to 1.3 without their signs.
    """
    return 2e-5 * (height + width + 4)


#: chains of image ops that take any image of 3 channels
CHAINS: list[tuple[Op, ...]] = [
    *((Resize(height=h, width=w, method=m),) for m in METHODS for h, w in ((9, 31), (70, 13))),
    (Resize(shorter=11),),
    (Resize(height=8, width=9, method="area", rounded=False), Normalize(layout="hwc")),
    (ResizeNormalize(height=17, width=70, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0)),),
    (ResizeNormalize(height=17, width=7, method="bilinear", rounded=False, layout="hwc"),),
    (SquareCrop(box=(-3, 2, 20, 14)), ToGrey(), GreyToRgb(), Normalize()),
    (Crop(height=1, width=1), Normalize(scale=1.0)),
    (FaceAlign(landmarks=MARKS, size=24),),
]


def image(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


@QUICK
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 4)),
    to=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    method=st.sampled_from(METHODS),
    rounded=st.booleans(),
)
def test_instruction_sets_agree(
    size: tuple[int, int, int], to: tuple[int, int], method: Any, rounded: bool
) -> None:
    """Whole numbers are equal, but areas are added up in floating point; fractions differ by rounding only."""
    x = image(*size)
    each = [
        Pipeline([Resize(height=to[0], width=to[1], method=method, rounded=rounded)], isa=i)(x) for i in ISAS
    ]
    for got in each[1:]:
        assert got.shape == (*to, size[2])
        assert got.dtype == (np.uint8 if rounded else np.float32)
        worst = np.abs(got.astype(np.float64) - each[0]).max()
        assert worst <= (2 * float32_bound(*size[:2]) if not rounded else 1 if method == "area" else 0)


@QUICK
@given(
    level=st.integers(0, 255),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 4)),
    to=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    isa=st.sampled_from(ISAS),
)
def test_a_constant_stays(level: int, size: tuple[int, int, int], to: tuple[int, int], isa: str) -> None:
    x = np.full(size, level, np.uint8)
    for method in METHODS:
        got = Pipeline([Resize(height=to[0], width=to[1], method=method)], isa=isa)(x)
        # OpenCV's two products of 11 bits, each cut, may lose one level
        assert np.abs(got.astype(int) - level).max() <= (1 if method in ("bilinear", "area") else 0)
        exact = Pipeline([Resize(height=to[0], width=to[1], method=method, rounded=False)], isa=isa)(x)
        assert np.abs(exact - level).max() <= float32_bound(*size[:2])


@QUICK
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 4)),
    method=st.sampled_from(METHODS),
    isa=st.sampled_from(ISAS),
)
def test_the_same_size_is_the_same_image(size: tuple[int, int, int], method: Any, isa: str) -> None:
    x = image(*size)
    for rounded in (True, False):
        resize = Resize(height=size[0], width=size[1], method=method, rounded=rounded)
        np.testing.assert_array_equal(Pipeline([resize], isa=isa)(x), x)


@QUICK
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 4)),
    to=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    method=st.sampled_from(METHODS),
    rounded=st.booleans(),
    layout=st.sampled_from(["hwc", "chw"]),
    isa=st.sampled_from(ISAS),
)
def test_fused_equals_apart(
    size: tuple[int, int, int], to: tuple[int, int], method: Any, rounded: bool, layout: Any, isa: str
) -> None:
    x = image(*size)
    mean, std = (0.4,), tuple(np.linspace(0.1, 2, size[2]).tolist())
    fused = ResizeNormalize(
        height=to[0], width=to[1], method=method, rounded=rounded, mean=mean, std=std, layout=layout
    )
    apart = (
        Resize(height=to[0], width=to[1], method=method, rounded=rounded),
        Normalize(mean=mean, std=std, layout=layout),
    )
    np.testing.assert_array_equal(Pipeline([fused], isa=isa)(x), Pipeline(apart, isa=isa)(x))


@pytest.mark.parametrize("isa", ISAS)
def test_over_frames_in_batches_and_streams(isa: str) -> None:
    """A video is its frames: in one run, by threads, in chunks of any size, and one by one."""
    frames = np.stack([image(37, 41, 3, seed) for seed in range(6)])
    every = SampleFps(fps=1000.0)  # keeps all frames: image ops that follow are mapped over them
    for chain in CHAINS:
        single = Pipeline(chain, isa=isa)
        want = np.stack([single(f) for f in frames])
        np.testing.assert_array_equal(np.stack(single.batch(frames, threads=2)), want)
        video = Pipeline([every, *chain], isa=isa)
        np.testing.assert_array_equal(video(frames, 25.0), want)
        np.testing.assert_array_equal(video(frames, 25.0, threads=3), want)
        for step in (1, 4):
            stream = video.stream(25.0, shape=frames.shape[1:])
            parts = [stream.push(frames[i : i + step]) for i in range(0, 6, step)]
            np.testing.assert_array_equal(np.concatenate([*parts, stream.finish()]), want)


def test_one_plan_takes_images_of_any_size_in_turn() -> None:
    for method in METHODS:
        pipeline = Pipeline([Resize(height=20, width=30, method=method)])
        for h, w, c in ((50, 60, 3), (3, 4, 1), (50, 60, 3), (200, 1, 4), (20, 30, 2)):
            x = image(h, w, c)
            fresh = Pipeline([Resize(height=20, width=30, method=method)])
            np.testing.assert_array_equal(pipeline(x), fresh(x))


@QUICK
@given(h=st.integers(1, 400), w=st.integers(1, 400), shorter=st.integers(1, 300))
def test_shorter_side(h: int, w: int, shorter: int) -> None:
    got = ops.resize(np.zeros((h, w), np.uint8), shorter=shorter, method="nearest")
    assert min(got.shape[:2]) == shorter
    assert got.shape[0] == max(1, h * shorter // min(h, w))
    assert got.shape[1] == max(1, w * shorter // min(h, w))


@QUICK
@given(
    h=st.integers(1, 30),
    w=st.integers(1, 30),
    channels=st.integers(1, 4),
    box=st.tuples(st.floats(-60, 60), st.floats(-60, 60), st.floats(0.01, 50), st.floats(0.01, 50)),
    scale=st.floats(0.1, 3),
)
def test_square_crop_is_a_window_with_repeated_edges(
    h: int, w: int, channels: int, box: tuple[float, ...], scale: float
) -> None:
    x = image(h, w, channels)
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    side = max(1, int(np.floor(scale * max(right - left, bottom - top) + 0.5)))
    y0 = int(np.floor((top + bottom) / 2 - side / 2 + 0.5))
    x0 = int(np.floor((left + right) / 2 - side / 2 + 0.5))
    rows = np.clip(np.arange(y0, y0 + side), 0, h - 1)
    columns = np.clip(np.arange(x0, x0 + side), 0, w - 1)
    np.testing.assert_array_equal(ops.square_crop(x, (left, top, right, bottom), scale), x[rows][:, columns])


@QUICK
@given(h=st.integers(1, 30), w=st.integers(1, 30), data=st.data())
def test_crop(h: int, w: int, data: st.DataObject) -> None:
    x = image(h, w, 3)
    height, width = data.draw(st.integers(1, h)), data.draw(st.integers(1, w))
    y0, x0 = (h - height) // 2, (w - width) // 2
    np.testing.assert_array_equal(ops.crop(x, height, width), x[y0 : y0 + height, x0 : x0 + width])
    y0, x0 = data.draw(st.integers(0, h - height)), data.draw(st.integers(0, w - width))
    np.testing.assert_array_equal(ops.crop(x, height, width, y0, x0), x[y0 : y0 + height, x0 : x0 + width])


@QUICK
@given(shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)), stack=st.integers(0, 3))
def test_layout(shape: tuple[int, int, int], stack: int) -> None:
    full = (stack, *shape) if stack else shape
    x = np.random.default_rng(0).standard_normal(full).astype(np.float32)
    np.testing.assert_array_equal(ops.layout(x), np.moveaxis(x, -1, -3))
    np.testing.assert_array_equal(ops.layout(x, "hwc"), np.moveaxis(x, -3, -1))
    chain = Pipeline([MoveChannels(to="chw"), MoveChannels(to="hwc")], shape=full)
    np.testing.assert_array_equal(chain(x), x)


@QUICK
@given(
    marks=st.lists(st.floats(-500, 500), min_size=10, max_size=10),
    size=st.integers(1, 40),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 4)),
)
def test_face_align_takes_any_landmarks(marks: list[float], size: int, shape: tuple[int, int, int]) -> None:
    x = np.full(shape, 200, np.uint8)
    each = []
    for isa in ISAS:
        try:
            each.append(Pipeline([FaceAlign(landmarks=tuple(marks), size=size)], isa=isa)(x))
        except InputError as error:
            if "lie all in one place" not in str(error):
                raise
            return
    for got in each:
        assert got.shape == (size, size, shape[2])
        assert got.max() <= 200
        assert np.abs(got.astype(int) - each[0]).max() <= 1


def test_an_upright_face_is_only_moved() -> None:
    template = np.array([[30.0, 40], [70, 40], [50, 60], [35, 80], [65, 80]])
    x = image(150, 140, 3)
    got = ops.face_align(x, (template + np.array([7, 11])).ravel(), size=100, destination=template.ravel())
    np.testing.assert_array_equal(got, x[11:111, 7:107])


def test_time_does_not_depend_on_the_pixels() -> None:
    """Fractions of black images are no denormals, and no branch depends on a pixel."""
    pipeline = Pipeline([ResizeNormalize(height=224, width=224, method="bilinear", rounded=False)])
    inputs = [
        np.zeros((300, 300, 3), np.uint8),
        np.eye(300, dtype=np.uint8)[:, :, None].repeat(3, 2),
        image(300, 300, 3),
    ]
    times: list[list[float]] = [[], [], []]
    for _ in range(9):
        for x, t in zip(inputs, times, strict=True):
            start = time.perf_counter()
            pipeline.run(x)
            t.append(time.perf_counter() - start)
    best = [min(t) for t in times]
    assert max(best) <= 3 * min(best)


E = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.resize(E), "height is 0; it must lie between 1 and 65536"),
        (lambda: ops.resize(E, 3), "width is 0; it must lie between"),
        (lambda: ops.resize(E, 3, 4, shorter=2), "give either height and width, or shorter"),
        (lambda: ops.resize(E, 3, 70000), "width is 70000; it must lie between 1 and 65536"),
        (lambda: ops.resize(E, 3, 4, method="cubic"), "method is 'cubic'; it must be one of nearest, "),  # type: ignore[arg-type]
        (lambda: ops.resize(E.astype(np.float32), 3, 4), "image must be uint8"),
        (
            lambda: ops.resize(np.zeros((4, 5, 5), np.uint8), 3, 4),
            "4 x 5 pixels with 5 channels; it must have",
        ),
        (lambda: ops.resize(np.zeros((0, 5, 3), np.uint8), 3, 4), "the input has 0 rows"),
        (lambda: ops.resize(np.zeros(5, np.uint8), 3, 4), "image has 1 dimensions; it must have 2 or 3"),
        (lambda: ops.resize(np.zeros((2, 2, 2, 2), np.uint8), 3, 4), "image has 4 dimensions"),
        (
            lambda: ops.resize(np.zeros((1, 9000), np.uint8), shorter=9000),
            "the output: .* 9000 x 81000000 pixels",
        ),
        (lambda: ops.normalize(E, mean=(1, 2)), "mean has 2 values, the image 3 channels"),
        (lambda: ops.normalize(E, std=(1, 0, 1)), r"std\[1\] is 0.000000; it must be finite and positive"),
        (lambda: ops.normalize(E, mean=(float("nan"),)), r"mean\[0\] is -?nan; it must be finite"),
        (lambda: ops.normalize(E, scale=0.0), "scale is 0; it must lie between"),
        (lambda: ops.normalize(E, mean=(1, 2, 3, 4, 5)), "mean has 5 values; give one, or one a channel"),
        (lambda: ops.resize_normalize(E, 3, 4, std=(1, 1)), "std has 2 values, the image 3 channels"),
        (lambda: ops.crop(E, 5, 5), "rows 0 to 5 and columns 0 to 5 do not lie within an image of 4 x 5"),
        (lambda: ops.crop(E, 2, 2, 3, 0), "rows 3 to 5 and columns 0 to 2 do not lie within"),
        (lambda: ops.square_crop(E, (0, 0, 4)), "box has 3 values; it must be left, top, right, bottom"),
        (lambda: ops.square_crop(E, (4, 0, 4, 9)), "the box is empty; left < right and top < bottom"),
        (lambda: ops.square_crop(E, (0, 0, float("inf"), 9)), r"box\[2\] is inf; it must lie within"),
        (lambda: ops.square_crop(E, (0, 0, 900000, 9)), "the square has 1080000 pixels a side"),
        (lambda: ops.to_grey(E[:, :, :2]), "the image has 2 channels; it must have 1, 3"),
        (lambda: ops.grey_to_rgb(E[:, :, :2]), "the image has 2 channels; it must have 1, or 3"),
        (lambda: ops.face_align(E, (1, 2)), "landmarks has 2 values; it must have x and y of 5 points"),
        (lambda: ops.face_align(E, (3.0, 4.0) * 5), "lie all in one place; no similarity"),
        (lambda: ops.face_align(E, (float("nan"),) * 10), r"landmarks\[0\] is -?nan; it must lie within"),
        (lambda: ops.face_align(E, MARKS, destination=(1.0,)), "destination has 1 values"),
        (lambda: ops.layout(np.zeros((2, 2), np.float32)), "needs an image tensor of 3 dimensions"),
        (lambda: ops.layout(np.full((2, 2, 2), np.nan, np.float32)), "value 0 is not finite"),
        (
            lambda: Pipeline([Resize(height=2, width=2, rounded=False), Resize(height=2, width=2)]),
            r"op 1 \(resize\): it needs a uint8 image; put it before",
        ),
        (
            lambda: Pipeline([Normalize(), Resize(height=2, width=2)]),
            r"op 1 \(resize\) takes image, .* gives tensor",
        ),
    ],
)
def test_messages(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_a_video_may_start_with_an_image_op() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (7, 30, 40, 3), np.uint8)
    video = Pipeline([ResizeNormalize(height=12, width=17)], shape=(-1, -1, -1, 3))
    assert video.output_shape((7, 30, 40, 3)) == (7, 3, 12, 17)
    whole = video(frames, 25.0)
    for frame, got in zip(frames, whole, strict=True):
        np.testing.assert_array_equal(got, ops.resize_normalize(frame, height=12, width=17))
    np.testing.assert_array_equal(video(frames, 25.0, threads=3), whole)
    stream = video.stream(25.0, shape=(30, 40, 3))
    parts = [stream.push(frames[:2]), stream.push(frames[2:2]), stream.push(frames[2:]), stream.finish()]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    with pytest.raises(InputError, match="frames has 2 dimensions; it must have 3 or 4"):
        video(frames[0, :, :, 0], 25.0)
    with pytest.raises(InputError, match=r"shape \(7, 30, 40, 1\); the pipeline takes frames of shape"):
        video(frames[..., 0], 25.0)
