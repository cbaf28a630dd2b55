# SPDX-License-Identifier: Apache-2.0
"""Image files to pixels. Pillow reads them; it comes with the extra ``image``."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError, ProviderUnavailable

FORMATS = ("PNG", "JPEG")
#: Above this a file is refused before it is decoded: its pixels would take more than 400 MB.
LARGEST = 1 << 27


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Decode a PNG or JPEG file, upright.

    Parameters
    ----------
    path : path
        Of at most 2^27 pixels.

    Returns
    -------
    uint8, shape (h, w) of grey images, (h, w, 3) RGB of others
        Turned and mirrored as EXIF's orientation says. Transparency is left out: pixels keep the colour that is stored
        below it. Palettes and CMYK become RGB; 16-bit samples their upper 8 bits; black and white 0 and 255. Of an animation
        the first frame.

    Raises
    ------
    InputError
        No such file, neither format, empty, truncated or damaged, too many pixels.
    ProviderUnavailable
        Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ProviderUnavailable(
            f"{os.fspath(path)}: image files need Pillow: pip install 'affect-zoo[image]', or give the pixels as an array"
        ) from error
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images; the limit here is the one that counts.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height > LARGEST:
                    raise InputError(
                        f"{os.fspath(path)}: {width} x {height} pixels, more than {LARGEST}; scale it down first"
                    )
                image.load()
                return _pixels(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{os.fspath(path)}: more than {LARGEST} pixels; scale it down first ({error})"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"{os.fspath(path)}: no such file") from error
    # Pillow's readers fail on damaged bytes in as many ways as they can be damaged.
    except Exception as error:
        reason = str(error).replace(repr(os.fspath(path)), "it") or type(error).__name__
        raise InputError(f"{os.fspath(path)}: not a readable PNG or JPEG image: {reason}") from error


def read_pixels(raw: object) -> NDArray[Any]:
    """The pixels of an image given as a file's path, or as the pixels themselves, which the pipeline checks.

    Raises
    ------
    InputError, ProviderUnavailable
        Of a file as :func:`read_image`; and something that is neither.
    """
    if isinstance(raw, (str, os.PathLike)):
        return read_image(raw)
    if isinstance(raw, np.ndarray):
        return raw
    raise InputError(
        f"the input is {type(raw).__name__}; give the path of a PNG or JPEG file, or pixels: a uint8 array of shape "
        "(height, width) or (height, width, 3)"
    )


def _pixels(image: Any) -> NDArray[np.uint8]:
    if image.mode in ("L", "LA", "La"):
        return np.array(image.getchannel(0))
    if image.mode == "1":
        return np.array(image.convert("L"))
    if image.mode.startswith("I"):  # 16-bit grey; older versions of Pillow keep it in 32-bit numbers
        wide = np.array(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError(f"samples from {wide.min()} to {wide.max()}, not 16-bit")
        return (wide >> 8).astype(np.uint8)
    if image.mode in ("RGBA", "RGBa", "RGBX"):
        return np.ascontiguousarray(np.array(image)[..., :3])
    return np.array(image.convert("RGB"))


__all__ = ["FORMATS", "LARGEST", "read_image", "read_pixels"]
