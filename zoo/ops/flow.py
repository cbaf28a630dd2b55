# SPDX-License-Identifier: Apache-2.0
"""Dense optical flow between frames of a video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from zoo.errors import InputError
from zoo.ops._call import run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Preset = Literal["ultrafast", "fast", "medium"]


def flow_dis(frames: NDArray[np.uint8], *, preset: Preset = "medium") -> NDArray[np.float32]:
    """Optical flow between consecutive frames by dense inverse search.

    Parameters
    ----------
    frames : uint8, shape (t, height, width) or (t, height, width, channels)
        At least 2 frames of at least 8 x 8 pixels; grey, or 3 channels in the order RGB, which are made grey as OpenCV's
        ``COLOR_RGB2GRAY`` does.
    preset : {"ultrafast", "fast", "medium"}
        Finest scale, stride of the 8 x 8 patches, most descent steps, refinements: 1/4, 4, 12, 0; 1/4, 4, 16, 5; 1/2, 3, 25, 5.

    Returns
    -------
    float32, shape (t - 1, height, width, 2)
        Displacement in x (to the right) and y (down), in pixels, of what lies at a pixel of frame t, up to frame t + 1.

    Raises
    ------
    InputError
        Fewer than 2 frames, frames smaller than 8 x 8 or larger than 16384 pixels a side, another dtype or number of channels.

    Notes
    -----
    Source: Kroeger et al., ECCV 2016; refinement: Brox et al., ECCV 2004; presets and pyramid as OpenCV's
    ``DISOpticalFlow``. Our choice, for smaller errors: damped Gauss-Newton steps, images smoothed before the refinement
    differentiates them, its weights, and a second warp half of the way. Frames too small for the preset's finest scale are
    processed on a finer one.
    """
    return run("flow_dis", frames, preset=preset)


def optical_flow(
    prev: NDArray[np.uint8],
    next: NDArray[np.uint8],
    method: Literal["dis"] = "dis",
    preset: Preset = "medium",
) -> NDArray[np.float32]:
    """Optical flow from one frame to another.

    Parameters
    ----------
    prev, next : uint8, shape (height, width) or (height, width, 3)
        Grey or RGB (in this order; made grey as OpenCV's ``COLOR_RGB2GRAY`` does), of one shape.
    method : {"dis"}
        Dense inverse search (:func:`flow_dis`).
    preset : {"ultrafast", "fast", "medium"}
        Of ``dis``.

    Returns
    -------
    float32, shape (height, width, 2)
        Displacement in x (to the right) and y (down), in pixels, of what lies at a pixel of ``prev``.

    Raises
    ------
    InputError
        Frames of different shapes or another dtype, an unknown method, and as the method's own function.
    """
    import numpy as np

    if method != "dis":
        raise InputError(f"optical_flow: method is {method!r}; it must be 'dis'")
    pair = [np.asarray(frame) for frame in (prev, next)]
    for name, frame in zip(("prev", "next"), pair, strict=True):
        if frame.dtype != np.uint8 or frame.ndim not in (2, 3):
            raise InputError(
                f"optical_flow: {name} is {frame.dtype} of shape {frame.shape}; it must be uint8 of shape "
                "(height, width) or (height, width, 3)"
            )
    if pair[0].shape != pair[1].shape:
        raise InputError(
            f"optical_flow: prev has shape {pair[0].shape}, next {pair[1].shape}; they must be equal"
        )
    flow: NDArray[np.float32] = flow_dis(np.stack(pair), preset=preset)[0]
    return flow
