# SPDX-License-Identifier: Apache-2.0
"""Video: which frames are taken, how much they change, where scenes begin, and flow as a network takes it.

Frames are uint8, (frames, height, width) or (frames, height, width, channels) with 1 to 4 channels; frame i lies at i / rate s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from zoo import _native
from zoo.errors import InputError
from zoo.ops._call import run, run_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def sample_fps(frames: ArrayLike, rate: float, *, fps: float = 1.0) -> NDArray[np.uint8]:
    """The first frame, then each that lies at least 1 / fps s after the last one taken.

    Parameters
    ----------
    frames : uint8, shape (n, h, w) or (n, h, w, channels)
    rate : float
        Frames a second.
    fps : float
        Frames a second to take at most.

    Returns
    -------
    uint8, shape (ceil(n / step), h, w, channels)
        Every frame whose index is a multiple of step = ceil(rate / fps). A quotient within a part in 10^9 above a whole
        number counts as that number.

    Raises
    ------
    InputError
        No frames, or a rate that is not positive.

    Notes
    -----
    Source: fact sheet 04, "Input features", row "semantic". :func:`sample_times` is the form for varying frame times.
    """
    return run("sample_fps", frames, rate, fps=fps)


def sample_times(times: ArrayLike, fps: float = 1.0) -> NDArray[np.int64]:
    """Indices of the first frame and of each that lies at least 1 / fps s after the last one taken.

    Parameters
    ----------
    times : float64, shape (n,)
        Seconds, not falling.
    fps : float
        Frames a second to take at most.

    Returns
    -------
    int64, shape (m,)

    Raises
    ------
    InputError
        A time that is not finite or lies before the one before (its index is named).

    Notes
    -----
    Intervals within a part in 10^9 of 1 / fps count as equal. Source: fact sheet 04, "Input features", row "semantic".
    """
    return np.array(_native.sample_times(np.asarray(times, np.float64), fps), np.int64)


def frame_difference(frames: ArrayLike) -> NDArray[np.float32]:
    """Mean over pixels and channels of the absolute difference to the frame before.

    Parameters
    ----------
    frames : uint8, shape (n, h, w) or (n, h, w, channels)

    Returns
    -------
    float32, shape (n, 1)
        0 to 255; the first value is 0. The sums are exact.

    Raises
    ------
    InputError
        No frames, another dtype.
    """
    return run("frame_difference", frames)


def motion(frames: ArrayLike, rate: float) -> NDArray[np.float32]:
    """How much the picture changes in each second.

    Parameters
    ----------
    frames : uint8, shape (n, h, w) or (n, h, w, channels)
    rate : float
        Frames a second, at least 1.

    Returns
    -------
    float32, shape (1 + floor((n - 1) / rate), 1)
        Row 0 is 0; row s is :func:`frame_difference` of the first frame at or after second s. 0 to 255.

    Raises
    ------
    InputError
        No frames, a rate below 1.

    Notes
    -----
    Source: fact sheet 04, "Input features", row "motion".
    """
    return run("motion", frames, rate)


def scene_offset(
    frames: ArrayLike,
    rate: float,
    *,
    threshold: float = 3.0,
    min_content: float = 15.0,
    min_scene_length: int = 15,
    window: int = 2,
    downscale: int | None = None,
    order: Literal["rgb", "bgr"] = "rgb",
) -> NDArray[np.float32]:
    """Seconds since the scene began, plus 1, for each second.

    Parameters
    ----------
    frames : uint8, shape (n, h, w, 3)
    rate : float
        Frames a second, at least 1.
    threshold : float
        Least score of a cut over the mean score of ``window`` frames before and after it.
    min_content : float
        Least score of a cut, 0 to 255: the mean of the mean absolute differences of hue (0 to 179), saturation and value.
    min_scene_length : int
        Frames from one cut to the next.
    window : int
        Frames each side.
    downscale : int
        Factor that frames are reduced by before scoring; None: floor(width / 256), at least 1.
    order : {"rgb", "bgr"}
        Of the frames' channels; OpenCV reads "bgr".

    Returns
    -------
    float32, shape (1 + floor((n - 1) / rate), 1)
        Second s belongs to the first scene that ends after it: s < ceil(end in s). 1 in the scene's first second.

    Raises
    ------
    InputError
        No frames, not 3 channels, a rate below 1.

    Notes
    -----
    Cuts are those of PySceneDetect 0.6.1's AdaptiveDetector with its defaults, from its documented definition; hue, saturation and
    value as OpenCV computes them in 8 bits. Source: fact sheet 04, "Input features", row "scene offset". There the last second
    is missing when (n - 1) / rate is a whole number; here every second in which a frame starts has a row, as in :func:`motion`.
    """
    return run(
        "scene_offset",
        frames,
        rate,
        threshold=threshold,
        min_content=min_content,
        min_scene_length=min_scene_length,
        window=window,
        downscale=downscale,
        order=order,
    )


def flow_encode(flow: NDArray[np.float32], *, bound: float = 20.0) -> NDArray[np.uint8]:
    """Optical flow as bytes: clipped to +-bound pixels and mapped linearly to 0 to 255.

    Parameters
    ----------
    flow : float32, shape (h, w, 2) or (n, h, w, 2)
        Displacements in pixels.
    bound : float
        Pixels.

    Returns
    -------
    uint8, the shape of ``flow``
        The whole number nearest to (clip(flow) + bound) * 255 / (2 bound) in float32, ties to the even one.

    Raises
    ------
    InputError
        Another shape or dtype, a NaN or Inf.

    Notes
    -----
    Source: fact sheet 05, section 2, "Motion" (our choice of bound and mapping).
    """
    if getattr(flow, "ndim", 0) not in (3, 4):
        raise InputError(
            f"flow_encode: flow has shape {getattr(flow, 'shape', ())}; it must be (h, w, 2) or (n, h, w, 2)"
        )
    stack = flow if flow.ndim == 4 else flow[None]
    return run_tensor("flow_encode", stack, bound=bound).reshape(flow.shape)


def flow_stack(
    frames: ArrayLike,
    *,
    length: int = 10,
    order: Literal["oldest_first", "rotated"] = "oldest_first",
    scale: float = 1 / 255,
) -> NDArray[np.float32]:
    """The last flows of each frame as the channels of an image.

    Parameters
    ----------
    frames : uint8, shape (n, h, w, 2)
        Flows as :func:`flow_encode` gives them.
    length : int
        Flows in a stack, the current one last; before the first flow it is repeated.
    order : {"oldest_first", "rotated"}
        Flow j = 0 .. length - 1, oldest first, goes to channels 2j (x) and 2j + 1 (y); rotated: to 2(j - 1) and 2(j - 1) + 1, so
        that the oldest one lies in the last two channels, as the published weights want.
    scale : float
        Factor of the bytes.

    Returns
    -------
    float32, shape (n, 2 * length, h, w)

    Raises
    ------
    InputError
        Not 2 channels, another dtype.

    Notes
    -----
    Source: fact sheet 05, section 2, "Motion".
    """
    return run("flow_stack", frames, length=length, order=order, scale=scale)
