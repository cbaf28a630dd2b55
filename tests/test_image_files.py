# SPDX-License-Identifier: Apache-2.0
"""Image files as users have them: each gives defined pixels, or one clear error. Oracle: Pillow's own pixels, written here."""

from __future__ import annotations

import builtins
import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo import ops
from zoo.errors import InputError, ProviderUnavailable

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (5, 7), np.uint8)


def written(folder: Path, image: Image.Image, name: str = "image.png", **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, where Pillow writes none of the kind."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_grey_and_colour_are_what_was_written(tmp_path: Path) -> None:
    assert np.array_equal(ops.read_image(written(tmp_path, Image.fromarray(GREY))), GREY)
    assert np.array_equal(ops.read_image(written(tmp_path, Image.fromarray(RGB))), RGB)
    assert np.array_equal(ops.read_image(str(written(tmp_path, Image.fromarray(RGB)))), RGB)


def test_transparency_is_left_out(tmp_path: Path) -> None:
    both = np.dstack([RGB, ALPHA])
    assert np.array_equal(ops.read_image(written(tmp_path, Image.fromarray(both, "RGBA"))), RGB)
    grey = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    assert np.array_equal(ops.read_image(written(tmp_path, grey)), GREY)


def test_palettes_black_and_white_and_cmyk(tmp_path: Path) -> None:
    palette = Image.fromarray(RGB).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(ops.read_image(written(tmp_path, palette)), expected)
    bits = Image.fromarray((GREY > 127).astype(np.uint8) * 255).convert("1")
    found = ops.read_image(written(tmp_path, bits))
    assert np.array_equal(found, (GREY > 127) * np.uint8(255))
    cmyk = written(tmp_path, Image.fromarray(RGB).resize((64, 64)).convert("CMYK"), "cmyk.jpg")
    assert ops.read_image(cmyk).shape == (64, 64, 3)


def test_sixteen_bits_keep_their_upper_eight(tmp_path: Path) -> None:
    wide = RNG.integers(0, 65536, (5, 7)).astype(np.uint16)
    assert np.array_equal(
        ops.read_image(written(tmp_path, Image.fromarray(wide))), (wide >> 8).astype(np.uint8)
    )
    colours = RNG.integers(0, 65536, (5, 7, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in colours)
    (tmp_path / "rgb16.png").write_bytes(png(7, 5, 16, 2, rows))
    found = ops.read_image(tmp_path / "rgb16.png").astype(int)
    assert np.abs(found - (colours.astype(int) >> 8)).max() <= 1  # Pillow's own reduction


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_upright(tmp_path: Path, orientation: int) -> None:
    # What a camera stores for an upright picture: the inverse of what the tag asks for.
    stored = {
        1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1],
        5: GREY.T, 6: np.rot90(GREY, 1), 7: GREY[::-1, ::-1].T, 8: np.rot90(GREY, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = written(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(ops.read_image(path), GREY)


def test_one_pixel_and_a_hundred_million(tmp_path: Path) -> None:
    assert ops.read_image(written(tmp_path, Image.fromarray(GREY[:1, :1]))).tolist() == [[int(GREY[0, 0])]]
    path = tmp_path / "large.png"
    path.write_bytes(png(10_000, 10_000, 1, 0, b"\0" + bytes(1250) + (b"\0" + b"\xff" * 1250) * 9_999))
    found = ops.read_image(path)
    assert found.shape == (10_000, 10_000)
    assert not found[0].any()
    assert found[1:].min() == 255


@pytest.mark.parametrize(("width", "height"), [(12_000, 12_000), (60_000, 60_000)])
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png(width, height, 8, 0, b""))
    with pytest.raises(InputError, match=r"huge\.png: .*more than 134217728.*scale it down"):
        ops.read_image(path)


def test_what_is_no_image_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        ops.read_image(tmp_path / "none.png")
    with pytest.raises(InputError, match="not a readable PNG or JPEG image"):
        ops.read_image(tmp_path)
    for name, content in {"empty.png": b"", "text.jpg": b"not an image", "gif.png": b"GIF89a"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: not a readable PNG or JPEG image"):
            ops.read_image(tmp_path / name)
    with pytest.raises(InputError, match=r"tuple; give the path of a PNG or JPEG file, or pixels"):
        ops.read_pixels((GREY, 16000))


def _bytes(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (24, 20, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


WHOLE = {"PNG": _bytes("PNG"), "JPEG": _bytes("JPEG")}


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999), place=st.floats(0, 0.999), value=st.integers(0, 255))
def test_cut_and_damaged_files_give_pixels_or_an_input_error(
    tmp_path: Path, kind: str, share: float, place: float, value: int
) -> None:
    whole = WHOLE[kind]
    path = tmp_path / f"damaged.{kind.lower()}"
    path.write_bytes(whole[: int(share * len(whole) * 0.95)])
    with pytest.raises(InputError, match=r"damaged\.\w+: not a readable"):
        ops.read_image(path)
    damaged = bytearray(whole)
    damaged[int(place * len(whole))] = value
    path.write_bytes(bytes(damaged))
    with contextlib.suppress(InputError):  # nothing else may come out
        found = ops.read_image(path)
        assert found.dtype == np.uint8
        assert found.ndim in (2, 3)


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **named: object) -> object:
        if name == "PIL":
            raise ImportError(name)
        return real(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ProviderUnavailable, match=r"pip install 'affect-zoo\[image\]'"):
        ops.read_image(tmp_path / "a.png")
    assert np.array_equal(ops.read_pixels(GREY), GREY)
