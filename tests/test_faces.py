# SPDX-License-Identifier: Apache-2.0
"""Faces in photos: what is cut out where, with a detector that finds bright squares; and OpenCV's own on real photos."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from zoo import faces, ops
from zoo.errors import InputError, ProviderUnavailable
from zoo.faces import FaceFinder, slope

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")


class Bright:
    """Stands in for the cascade of faces: every patch that is not black is one."""

    def detectMultiScale(self, grey: NDArray[np.uint8], **options: object) -> list[tuple[int, int, int, int]]:
        _, _, stats, _ = cv2.connectedComponentsWithStats((grey > 0).astype(np.uint8))
        return [(x, y, w, w) for x, y, w, h, area in stats[1:].tolist() if w >= 24]


class Eyes:
    """Stands in for the cascade of eyes: what it is told."""

    def __init__(self, *found: tuple[int, int, int, int]) -> None:
        self.found = found

    def detectMultiScale(self, grey: NDArray[np.uint8], **options: object) -> list[tuple[int, int, int, int]]:
        return list(self.found)


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FaceFinder]:
    def make(*eyes: tuple[int, int, int, int], **options: object) -> FaceFinder:
        monkeypatch.setattr(faces, "_cascade", lambda cv2, name: Eyes(*eyes) if "eye" in name else Bright())
        return FaceFinder(**options)

    return make


def photo(height: int, width: int, *squares: tuple[int, int, int]) -> NDArray[np.uint8]:
    image = np.zeros((height, width), np.uint8)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = 255
    return image


def test_every_face_is_cut_out_the_largest_first(finder: Callable[..., FaceFinder]) -> None:
    image = photo(400, 600, (20, 30, 60), (200, 100, 150), (500, 10, 60))
    found = finder()(image)
    assert [face.box for face in found] == [(200, 100, 350, 250), (20, 30, 80, 90), (500, 10, 560, 70)]
    assert [face.pixels.shape for face in found] == [(150, 150), (60, 60), (60, 60)]
    assert all((face.pixels == 255).all() and face.turned == 0 for face in found)
    (wide,) = finder(scale=2.0)(photo(400, 400, (150, 150, 100)))
    assert wide.pixels.shape == (200, 200)
    assert wide.pixels[50:150, 50:150].min() == 255
    assert wide.pixels.sum() == 255 * 100 * 100


def test_colour_stays_and_is_found_as_grey_is(finder: Callable[..., FaceFinder]) -> None:
    image = photo(200, 200, (50, 60, 80))
    rgb = np.stack([image, image, np.where(image, 250, 0).astype(np.uint8)], axis=2)
    (face,) = finder()(rgb)
    assert face.box == (50, 60, 130, 140)
    assert face.pixels.shape == (80, 80, 3)
    assert face.pixels[0, 0].tolist() == [255, 255, 250]


def test_a_large_photo_is_searched_small_and_cut_at_full_size(finder: Callable[..., FaceFinder]) -> None:
    (face,) = finder()(photo(10_000, 10_000, (4000, 5000, 2000)))
    assert face.box == pytest.approx((4000, 5000, 6000, 7000), abs=10_000 / 1280)
    assert face.pixels.shape[0] == pytest.approx(2000, abs=10)
    assert (face.pixels == 255).mean() > 0.99


def test_tiny_and_empty_photos_have_no_face(finder: Callable[..., FaceFinder]) -> None:
    for image in (photo(1, 1), photo(23, 4000), photo(300, 300), np.full((20, 20, 3), 255, np.uint8)):
        assert finder()(image) == ()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 5), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((9, 9)),
        np.zeros(9, np.uint8),
        "face.jpg",
    ],
)
def test_what_is_no_photo_is_told(finder: Callable[..., FaceFinder], image: object) -> None:
    with pytest.raises(InputError, match="faces are looked for in"):
        finder()(image)


def test_a_tilted_face_is_turned_until_its_eyes_are_level(finder: Callable[..., FaceFinder]) -> None:
    """Eyes of the stand-in: the right one 20 of 128 pixels lower. The face has a bar along the same slope."""
    image = photo(300, 300, (70, 70, 160))
    x, y = np.meshgrid(np.arange(300), np.arange(300))
    bar = np.abs((y - 149.5) - (x - 149.5) * 20 / 60) < 4
    image[bar & (image > 0)] = 210
    eyes = (24, 30, 20, 20), (84, 50, 20, 20)
    (face,) = finder(*eyes)(image)
    assert face.turned == pytest.approx(math.degrees(math.atan2(20, 60)))
    assert face.pixels.shape == (160, 160)
    # Of the middle only: the square's own edges have been turned too.
    middle = np.abs(face.pixels[40:120].astype(int) - 210) < 15
    heights = [40 + np.flatnonzero(middle[:, column]).mean() for column in (40, 120)]
    assert heights == pytest.approx([79.5, 79.5], abs=1)
    (straight,) = finder(*eyes, level=False)(image)
    assert straight.turned == 0
    assert np.array_equal(straight.pixels, image[70:230, 70:230])


def test_slope_takes_the_pair_in_the_middle_and_no_other() -> None:
    assert slope([(30, 40), (98, 40)], 128) == 0
    assert slope([(98, 50), (30, 40)], 128) == pytest.approx(math.degrees(math.atan2(10, 68)))
    assert slope([(30, 40), (98, 40), (90, 60), (10, 42)], 128) == 0
    assert slope([], 128) == slope([(30, 40)], 128) == 0
    assert slope([(20, 40), (50, 40)], 128) == 0  # both in one half
    assert slope([(40, 10), (88, 60)], 128) == 0  # too steep
    assert slope([(60, 40), (68, 41)], 128) == 0  # too near


@given(st.lists(st.tuples(st.floats(0, 128), st.floats(0, 128)), max_size=6))
def test_slope_of_anything_is_small(eyes: list[tuple[float, float]]) -> None:
    assert abs(slope(eyes, 128)) <= 25
    assert (
        slope(eyes, 128) == pytest.approx(-slope([(128 - x, y) for x, y in eyes], 128), abs=1e-6)
        or len(eyes) > 2
    )


def test_an_opencv_without_cascades_and_none_at_all_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cv2.data, "haarcascades", f"{tmp_path}/")
    with pytest.raises(
        ProviderUnavailable, match=r"comes without haarcascade_frontalface_alt2.xml: pip install"
    ):
        FaceFinder()
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(ProviderUnavailable, match=r"pip install 'affect-zoo\[faces\]'"):
        FaceFinder()


@pytest.fixture(scope="module")
def opencv() -> FaceFinder:
    try:
        return FaceFinder()
    except ProviderUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def portraits(data_root: Path) -> list[Path]:
    files = sorted((data_root / "faces_hires").glob("*_0001.jpg"))[:24]
    if not files:
        pytest.skip(f"no photos in {data_root / 'faces_hires'}")
    return files


def test_opencv_finds_most_real_faces_and_all_of_one_photo(opencv: FaceFinder, portraits: list[Path]) -> None:
    images = [ops.read_image(path) for path in portraits]
    found = [opencv(image) for image in images]
    assert np.mean([len(one) == 1 for one in found]) >= 0.8
    two = [
        image for image, one in zip(images, found, strict=True) if len(one) == 1 and image.shape == (350, 350)
    ]
    group = np.concatenate([np.pad(image, 60, mode="edge") for image in two[:2]], axis=1)
    boxes = [face.box for face in opencv(group)]
    assert len(boxes) == 2
    assert {int(left > group.shape[1] / 2) for left, *_ in boxes} == {0, 1}


@pytest.mark.parametrize("kind", ["grey", "RGBA", "16 bit", "turned by EXIF", "10,000 x 10,000"])
def test_opencv_on_files_of_every_kind(
    opencv: FaceFinder, portraits: list[Path], tmp_path: Path, kind: str
) -> None:
    image = next(
        image for image in map(ops.read_image, portraits) if image.ndim == 2 and len(opencv(image)) == 1
    )
    (wanted,) = opencv(image)
    path = tmp_path / "photo.png"
    factor = 1.0
    if kind == "grey":
        Image.fromarray(image).save(path)
    elif kind == "RGBA":
        Image.fromarray(np.dstack([image] * 3 + [np.full_like(image, 9)])).save(path)
    elif kind == "16 bit":
        Image.fromarray(image.astype(np.uint16) * 257).save(path)
    elif kind == "turned by EXIF":
        path = tmp_path / "photo.jpg"
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees clockwise to show
        Image.fromarray(np.rot90(image)).save(path, exif=exif, quality=95)
    else:
        factor = 10_000 / image.shape[1]
        Image.fromarray(image).resize((10_000, 10_000)).save(path, compress_level=1)
    found = opencv(ops.read_image(path))
    assert len(found) == 1
    assert np.array(found[0].box) / factor == pytest.approx(np.array(wanted.box), abs=12)


def test_opencv_finds_no_face_in_noise_nor_in_one_pixel(opencv: FaceFinder) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400)).astype(np.uint8)
    assert opencv(noise) == opencv(np.zeros((1, 1), np.uint8)) == ()
