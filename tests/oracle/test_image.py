# SPDX-License-Identifier: Apache-2.0
"""Image ops against Pillow, OpenCV and NumPy, on real faces and on extremes, on every instruction set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zoo import ops
from zoo.pipeline import Normalize, Pipeline, Resize, ResizeNormalize, SquareCrop

cv2 = pytest.importorskip("cv2")
PIL = pytest.importorskip("PIL")
Image = pytest.importorskip("PIL.Image")

Pixels = NDArray[np.uint8]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: (height, width) of outputs: enlarged and reduced, square and not, vertical pass first and last
SIZES = [(224, 224), (112, 112), (48, 48), (500, 300), (97, 301), (301, 97), (1, 1), (7, 700)]
PILLOW = {"nearest": 0, "bilinear_antialias": 2, "bicubic_antialias": 3, "box": 4}


@pytest.fixture(scope="module")
def faces(data_root: Path) -> list[Pixels]:
    """Real faces: 10 of high resolution (colour and grey), 6 of 48 x 48."""
    files = sorted(p for p in (data_root / "faces_hires").iterdir() if p.suffix in (".jpg", ".png"))
    large = [np.asarray(Image.open(f)) for f in files[:: len(files) // 10][:10]]
    small = np.load(data_root / "faces" / "ferplus_valid.npz")["images"][:6]
    return [*large, *small]


def extremes() -> list[Pixels]:
    """Noise, black, white, checks and gradients, of awkward shapes and every number of channels."""
    rng = np.random.default_rng(5)
    checks = (np.indices((61, 83)).sum(0) % 2 * 255).astype(np.uint8)
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (3, 256, 2))
    return [
        rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
        rng.integers(0, 256, (131, 17, 4), dtype=np.uint8),
        rng.integers(0, 2, (1, 300, 1), dtype=np.uint8) * 255,
        np.full((33, 45, 3), 255, np.uint8),
        np.zeros((5, 1, 3), np.uint8),
        np.full((1, 1, 3), 77, np.uint8),
        checks,
        np.ascontiguousarray(ramp),
    ]


def planes(image: Pixels) -> list[Pixels]:
    """The channels: Pillow and OpenCV treat them alike, and Pillow has no plain image of 2 or 4."""
    return (
        [image] if image.ndim == 2 else [np.ascontiguousarray(image[:, :, c]) for c in range(image.shape[2])]
    )


def pillow(image: Pixels, height: int, width: int, method: str) -> Pixels:
    """Pillow's result, by its two passes one after the other: which comes first depends on Pillow's version."""
    flag, out = PILLOW[method], []
    for plane in planes(image):
        h, w = plane.shape
        source = Image.fromarray(plane)
        if method != "nearest":
            first = height < h and 2 * (width - w) > height - h
            source = source.resize((w, height) if first else (width, h), flag)
        out.append(np.asarray(source.resize((width, height), flag)))
    return np.stack(out, -1)


def grey_levels(got: Any, want: Any, worst: float, mean: float) -> None:
    """Asserts the largest and the mean difference."""
    difference = np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64))
    assert difference.max() <= worst
    assert difference.mean() <= mean


@pytest.mark.parametrize("method", PILLOW)
def test_pillow_methods_have_pillows_bits(isa: str, faces: list[Pixels], method: Any) -> None:
    del isa
    for i, image in enumerate([*faces, *extremes()]):
        for height, width in SIZES[i % 3 :: 3] if i < len(faces) else SIZES:
            got = ops.resize(image, height, width, method=method)
            np.testing.assert_array_equal(got, pillow(image, height, width, method))
            # Pillow 13 has the order of passes that the ops have; before, the horizontal one was always first
            if int(PIL.__version__.split(".")[0]) >= 13 and (image.ndim == 2 or image.shape[2] == 3):
                direct = Image.fromarray(image).resize((width, height), PILLOW[method])
                np.testing.assert_array_equal(got.squeeze(), np.asarray(direct).squeeze())


@pytest.mark.parametrize(("method", "flag"), [("bilinear", 1), ("area", 3), ("nearest_opencv", 0)])
def test_opencv_methods(isa: str, faces: list[Pixels], method: Any, flag: int) -> None:
    """The same bits, but: OpenCV rounds rows of less than 16 values, and what is left of longer ones, in another way than its
    vectors, and adds up areas in another order. Each is one grey level at most.
    """
    del isa
    for i, image in enumerate([*faces, *extremes()]):
        for height, width in SIZES[i % 3 :: 3] if i < len(faces) else SIZES:
            got = ops.resize(image, height, width, method=method)
            want = cv2.resize(image, (width, height), interpolation=flag).reshape(got.shape)
            exact = method == "nearest_opencv" or (method == "bilinear" and width * got.shape[2] % 64 == 0)
            grey_levels(got, want, 0 if exact else 1, 0 if exact else 0.3 if width < 16 else 0.1)


def reference_bilinear(image: Pixels, height: int, width: int) -> NDArray[np.float64]:
    """Half-pixel centres, no antialiasing, edge pixels repeated; float64."""
    x = image.reshape(*image.shape[:2], -1).astype(np.float64)
    for axis, size in ((0, height), (1, width)):
        n = x.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.minimum(at.astype(int), max(n - 2, 0))
        share = np.expand_dims(at - low, [a for a in range(3) if a != axis])
        x = x.take(low, axis) * (1 - share) + x.take(np.minimum(low + 1, n - 1), axis) * share
    return x


def reference_normalize(x: NDArray[Any]) -> NDArray[np.float64]:
    return ((x.astype(np.float64) / 255 - MEAN) / STD).transpose(2, 0, 1)


def test_fractions_are_kept(isa: str, faces: list[Pixels]) -> None:
    """Bilinear without rounding, in grey levels: float32 resolves 1.5e-5 at 255, and each pass rounds once or twice."""
    del isa
    for image in [*faces, *extremes()]:
        for height, width in SIZES:
            got = ops.resize(image, height, width, method="bilinear", rounded=False)
            assert got.dtype == np.float32
            grey_levels(got, reference_bilinear(image, height, width), 1e-4, 2e-5)


@pytest.mark.parametrize("method", ["bilinear_antialias", "bicubic_antialias", "box", "area", "nearest"])
def test_fractions_round_to_the_rounded_image(isa: str, faces: list[Pixels], method: Any) -> None:
    """Pillow rounds twice, by half a grey level each; where a cubic filter overshoots it also cuts what lies beyond 0 and 255
    after the first pass, hence only a mean.
    """
    del isa
    for image in faces[::3]:
        for height, width in SIZES[:5]:
            exact = ops.resize(image, height, width, method=method, rounded=False)
            whole = ops.resize(image, height, width, method=method)
            difference = np.abs(np.clip(exact, 0, 255) - whole)
            assert difference.mean() <= 0.4
            assert method == "bicubic_antialias" or difference.max() <= 1.001


def test_chain_of_sheet_08(isa: str, faces: list[Pixels]) -> None:
    """Box, square crop with repeated edges, bilinear, /255, mean and std, NCHW: within 1e-5 of NumPy in float64."""
    rng = np.random.default_rng(8)
    for i, image in enumerate(faces):
        colour = np.repeat(image[:, :, None], 3, 2) if image.ndim == 2 else image
        h, w = image.shape[:2]
        left, top = rng.uniform(-0.2, 0.4, 2) * (w, h)
        right, bottom = (left, top) + rng.uniform(0.3, 0.9, 2) * (w, h)
        side = int(np.floor(1.2 * max(right - left, bottom - top) + 0.5))
        x0, y0 = (int(np.floor((a + b) / 2 - side / 2 + 0.5)) for a, b in ((left, right), (top, bottom)))
        rows, columns = (np.clip(np.arange(a, a + side), 0, n - 1) for a, n in ((y0, h), (x0, w)))
        square = colour[rows][:, columns]
        box = (float(left), float(top), float(right), float(bottom))
        np.testing.assert_array_equal(ops.square_crop(colour, box), square)
        size = (224, 112)[i % 2]
        want = reference_normalize(reference_bilinear(square, size, size))
        fused = ResizeNormalize(height=size, width=size, method="bilinear", rounded=False, mean=MEAN, std=STD)
        apart = [
            Resize(height=size, width=size, method="bilinear", rounded=False),
            Normalize(mean=MEAN, std=STD),
        ]
        got = Pipeline([SquareCrop(box=box), fused], isa=isa)(colour)
        assert got.shape == (3, size, size)
        assert np.abs(got - want).max() <= 1e-5
        np.testing.assert_array_equal(Pipeline([SquareCrop(box=box), *apart], isa=isa)(colour), got)


@pytest.mark.parametrize("layout", ["chw", "hwc"])
def test_normalize(isa: str, faces: list[Pixels], layout: Any) -> None:
    """Two roundings of float32 on values up to 2.7."""
    del isa
    for image in faces[:4]:
        colour = np.repeat(image[:, :, None], 3, 2) if image.ndim == 2 else image
        want = reference_normalize(colour)
        got = ops.normalize(colour, mean=MEAN, std=STD, layout=layout)
        assert np.abs((got if layout == "chw" else got.transpose(2, 0, 1)) - want).max() <= 4e-7
    every = np.arange(256, dtype=np.uint8)[None]
    assert (
        np.abs(ops.normalize(every, layout=layout).ravel() - np.arange(256) / 255).max() <= 1.2e-7
    )  # of 1 / 255 and of the product


def test_grey(isa: str, faces: list[Pixels]) -> None:
    del isa
    rng = np.random.default_rng(0)
    for image in [*(f for f in faces if f.ndim == 3), rng.integers(0, 256, (500, 700, 3), dtype=np.uint8)]:
        want = np.asarray(Image.fromarray(image).convert("L"))
        np.testing.assert_array_equal(ops.to_grey(image)[:, :, 0], want)
        np.testing.assert_array_equal(ops.grey_to_rgb(want), np.stack([want] * 3, -1))


TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def umeyama(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Umeyama's closed form by singular values (the op regresses complex numbers)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, v = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    turn = (u * sign) @ v * (s @ sign / (a**2).sum())
    return np.c_[turn, target.mean(0) - turn @ source.mean(0)]


def test_face_align(isa: str, faces: list[Pixels]) -> None:
    """OpenCV warps with coordinates and weights in fixed point: one grey level where they round the other way."""
    del isa
    rng = np.random.default_rng(2)
    for image in faces:
        h, w = image.shape[:2]
        for angle, scale, size in ((0.1, 0.9, 112), (-0.7, 1.6, 160), (2.5, 0.4, 112)):
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            middle = np.array([w, h]) * rng.uniform(0.3, 0.7, 2)
            marks = (TEMPLATE - 56) @ turn.T * scale * min(h, w) / 150 + middle + rng.normal(0, 1.5, (5, 2))
            matrix = umeyama(marks, TEMPLATE * size / 112)
            want = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
            got = ops.face_align(image, marks.ravel(), size=size)
            grey_levels(got, want.reshape(got.shape), 1, 0.1)


def test_face_align_takes_a_template(isa: str, faces: list[Pixels]) -> None:
    del isa
    image = faces[0]
    marks = np.array([[100.0, 90], [200, 95], [150, 150], [110, 210], [190, 212]])
    target = TEMPLATE[::-1] * 0.5 + 3
    want = cv2.warpAffine(image, umeyama(marks, target), (64, 64), flags=cv2.INTER_LINEAR)
    got = ops.face_align(image, marks.ravel(), size=64, destination=target.ravel())
    grey_levels(got, want.reshape(got.shape), 1, 0.1)
