# SPDX-License-Identifier: Apache-2.0
"""Images: size, parts, colours, faces, and what a network takes.

An image is uint8, (height, width) or (height, width, channels) with 1 to 4 channels, RGB where they are colours; a missing
channel axis counts as one channel, and results always have the axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from zoo.ops._call import run, run_tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

Method = Literal[
    "nearest", "nearest_opencv", "bilinear", "bilinear_antialias", "bicubic_antialias", "box", "area"
]
Layout = Literal["hwc", "chw"]


def resize(
    image: ArrayLike,
    height: int | None = None,
    width: int | None = None,
    *,
    shorter: int | None = None,
    method: Method = "bilinear_antialias",
    rounded: bool = True,
) -> NDArray[Any]:
    """Resample an image to another size.

    Parameters
    ----------
    image : uint8, shape (h, w) or (h, w, channels)
    height, width : int
        Pixels, 1 to 65536.
    shorter : int
        Instead of them: pixels of the shorter side; the longer one is n * shorter / shorter side, cut to a whole number.
    method : str
        ``nearest``: the pixel under the centre (Pillow's NEAREST). ``nearest_opencv``: under the top left corner
        (INTER_NEAREST). ``bilinear``: half-pixel centres, no antialiasing (OpenCV's INTER_LINEAR).
        ``bilinear_antialias``, ``bicubic_antialias`` (a = -0.5), ``box``: Pillow's BILINEAR, BICUBIC, BOX, whose filters
        grow with the reduction. ``area``: OpenCV's INTER_AREA.
    rounded : bool
        To whole grey levels, as 8-bit libraries do. False keeps fractions.

    Returns
    -------
    uint8 (float32 when not rounded), shape (height, width, channels)

    Raises
    ------
    InputError
        Neither or both of height and width and shorter, a side outside the range, more than 4 channels, another dtype.

    Notes
    -----
    Pillow's methods give Pillow 13's bits: 22-bit coefficients, and 8 bits kept after each of the two passes. It takes the
    vertical pass first when the height shrinks and 2 (width_out - width) > height_out - height. OpenCV's methods are within
    one grey level. Source: fact sheets 05 (section 2), 08 and 09 ("Student").
    """
    params = {"height": height, "width": width, "shorter": shorter, "method": method, "rounded": rounded}
    return run("resize", image, **params)


def resize_normalize(
    image: ArrayLike,
    height: int | None = None,
    width: int | None = None,
    *,
    shorter: int | None = None,
    method: Method = "bilinear_antialias",
    rounded: bool = True,
    scale: float = 1 / 255,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    layout: Layout = "chw",
) -> NDArray[np.float32]:
    """:func:`resize` and :func:`normalize` in one pass over the image; the same values.

    Parameters
    ----------
    image, height, width, shorter, method, rounded
        As :func:`resize`.
    scale, mean, std, layout
        As :func:`normalize`.

    Returns
    -------
    float32, shape (channels, height, width) or (height, width, channels)

    Raises
    ------
    InputError
        As both.

    Notes
    -----
    Source: fact sheet 08, "Deployment contract" (``method="bilinear"``, ``rounded=False``).
    """
    return run(
        "resize_normalize",
        image,
        height=height,
        width=width,
        shorter=shorter,
        method=method,
        rounded=rounded,
        scale=scale,
        mean=tuple(mean),
        std=tuple(std),
        layout=layout,
    )


def crop(
    image: ArrayLike, height: int, width: int, top: int | None = None, left: int | None = None
) -> NDArray[np.uint8]:
    """A part of an image.

    Parameters
    ----------
    image : uint8, shape (h, w) or (h, w, channels)
    height, width : int
        Pixels.
    top, left : int
        First row and column; None: centred, floor((h - height) / 2) rows above and floor((w - width) / 2) columns before.

    Returns
    -------
    uint8, shape (height, width, channels)

    Raises
    ------
    InputError
        The part does not lie within the image.

    Notes
    -----
    Source: fact sheet 05, section 2 (centre crop).
    """
    return run("crop", image, height=height, width=width, top=top, left=left)


def square_crop(image: ArrayLike, box: Sequence[float], scale: float = 1.2) -> NDArray[np.uint8]:
    """The square around a box, for example a detected face; beyond the image its edge pixels are repeated.

    Parameters
    ----------
    image : uint8, shape (h, w) or (h, w, channels)
    box : 4 floats
        Left, top, right, bottom in pixels; may lie beyond the image.
    scale : float
        Side of the square over the longer side of the box.

    Returns
    -------
    uint8, shape (side, side, channels)
        side = floor(scale * longer side + 1/2), at least 1; the first column is floor((left + right) / 2 - side / 2 + 1/2),
        the first row likewise.

    Raises
    ------
    InputError
        An empty box, a value that is not finite or beyond 1048576 pixels, a side above 65536 pixels.

    Notes
    -----
    Source: fact sheet 08, "Input" and "C++ preprocessing"; the rounding is our choice.
    """
    return run("square_crop", image, box=tuple(box), scale=scale)


def to_grey(image: ArrayLike) -> NDArray[np.uint8]:
    """Luma of an RGB image: (19595 r + 38470 g + 7471 b + 32768) >> 16 (ITU-R BT.601, Pillow's and OpenCV's values).

    Parameters
    ----------
    image : uint8, shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)
        One channel is kept as it is; a fourth is ignored.

    Returns
    -------
    uint8, shape (h, w, 1)

    Raises
    ------
    InputError
        2 channels.
    """
    return run("to_grey", image)


def grey_to_rgb(image: ArrayLike) -> NDArray[np.uint8]:
    """The grey channel three times; an image of 3 channels is kept.

    Parameters
    ----------
    image : uint8, shape (h, w), (h, w, 1) or (h, w, 3)

    Returns
    -------
    uint8, shape (h, w, 3)

    Raises
    ------
    InputError
        2 or 4 channels.

    Notes
    -----
    Source: fact sheets 08 ("Input") and 09 ("Student").
    """
    return run("grey_to_rgb", image)


def normalize(
    image: ArrayLike,
    *,
    scale: float = 1 / 255,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    layout: Layout = "chw",
) -> NDArray[np.float32]:
    """(x * scale - mean) / std of each channel.

    Parameters
    ----------
    image : uint8, shape (h, w) or (h, w, channels)
        In a pipeline also float32, as a ``resize`` that does not round leaves it.
    scale : float
        Factor of the pixels, positive.
    mean, std : sequences of float
        One value, or one a channel, after scaling; empty: 0 and 1.
    layout : {"hwc", "chw"}
        Order of the output's dimensions.

    Returns
    -------
    float32, shape (channels, h, w) or (h, w, channels)
        Within 2e-7 of the largest value; the same bits on every instruction set.

    Raises
    ------
    InputError
        Another number of values than channels, a std that is not positive.

    Notes
    -----
    Source: fact sheets 05, 08 and 09 (ImageNet's mean .485, .456, .406 and std .229, .224, .225).
    """
    return run("normalize", image, scale=scale, mean=tuple(mean), std=tuple(std), layout=layout)


def layout(tensor: NDArray[np.float32], to: Layout = "chw") -> NDArray[np.float32]:
    """Move the channel axis of an image tensor.

    Parameters
    ----------
    tensor : float32, shape (h, w, channels) for ``to="chw"``, (channels, h, w) for ``to="hwc"``
        Or a stack of them, with one more dimension in front.
    to : {"hwc", "chw"}

    Returns
    -------
    float32, the same values

    Raises
    ------
    InputError
        Another number of dimensions, a NaN or Inf.
    """
    return run_tensor("layout", tensor, to=to)


def face_align(
    image: ArrayLike, landmarks: Sequence[float], *, size: int = 112, destination: Sequence[float] = ()
) -> NDArray[np.uint8]:
    """Bring a face to a template: the similarity that moves five landmarks onto the template's, bilinear.

    Parameters
    ----------
    image : uint8, shape (h, w) or (h, w, channels)
    landmarks : 10 floats
        x, y of left eye, right eye (as seen in the image), nose tip, left and right corner of the mouth, in pixels; pixel
        centres lie at whole numbers.
    size : int
        Pixels a side of the output.
    destination : 10 floats
        The same points in the output; empty: those of ArcFace's 112 x 112 faces, scaled to ``size``.

    Returns
    -------
    uint8, shape (size, size, channels)
        Black beyond the image's edges.

    Raises
    ------
    InputError
        Not 10 finite values, or points that all lie in one place.

    Notes
    -----
    The similarity (rotation, one scale, shift; no reflection) minimises the squared distances, as Umeyama (1991).
    """
    return run("face_align", image, landmarks=tuple(landmarks), size=size, destination=tuple(destination))
