# SPDX-License-Identifier: Apache-2.0
"""Dense optical flow between frames of a video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import InputError
from zoo.ops._call import run

if TYPE_CHECKING:
    from collections.abc import Callable

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


def flow_farneback(
    frames: NDArray[np.uint8],
    *,
    pyr_scale: float = 0.5,
    levels: int = 3,
    winsize: int = 15,
    iterations: int = 3,
    poly_n: int = 5,
    poly_sigma: float = 1.2,
    window: Literal["box", "gaussian"] = "box",
) -> NDArray[np.float32]:
    """Optical flow between consecutive frames by polynomial expansion.

    Parameters
    ----------
    frames : uint8, shape (t, height, width) or (t, height, width, channels)
        At least 2 frames with sides of 1 to 16384 pixels; grey, or 3 channels in the order RGB, which are made grey as
        OpenCV's ``COLOR_RGB2GRAY`` does.
    pyr_scale : float
        Side of a level of the pyramid over that of the next finer one, 0.1 to 0.95.
    levels : int
        Levels beyond the finest, 0 to 30; those with a side below 32 pixels are left out.
    winsize : int
        Side of the window in which the displacement is taken as constant, pixels, 3 to 255; an even number counts as the
        next odd one.
    iterations : int
        Estimates a level, 1 to 100.
    poly_n, poly_sigma : int, float
        The expansion sees 2 poly_n + 1 pixels along each axis (poly_n: 1 to 15) with Gaussian weights of standard deviation
        poly_sigma pixels (0.3 to 15).
    window : {"box", "gaussian"}
        Weights in the window; Gaussian: standard deviation 0.3 (winsize // 2) pixels.

    Returns
    -------
    float32, shape (t - 1, height, width, 2)
        Displacement in x (to the right) and y (down), in pixels, of what lies at a pixel of frame t, up to frame t + 1.

    Raises
    ------
    InputError
        Fewer than 2 frames, sides out of range, another dtype or number of channels, a parameter out of its range.

    Notes
    -----
    Source: Farneback, SCIA 2003; pyramid, borders and parameters as OpenCV's ``calcOpticalFlowFarneback``.
    """
    return run(
        "flow_farneback",
        frames,
        pyr_scale=pyr_scale,
        levels=levels,
        winsize=winsize,
        iterations=iterations,
        poly_n=poly_n,
        poly_sigma=poly_sigma,
        window=window,
    )


def flow_tvl1(
    frames: NDArray[np.uint8],
    *,
    tau: float = 0.25,
    lambda_: float = 0.15,
    theta: float = 0.3,
    scales: int = 5,
    warps: int = 5,
    epsilon: float = 0.01,
    inner_iterations: int = 30,
    outer_iterations: int = 10,
    scale_step: float = 0.8,
    gamma: float = 0.0,
    median_filtering: int = 5,
) -> NDArray[np.float32]:
    """Optical flow between consecutive frames with total variation and an L1 data term.

    Parameters
    ----------
    frames : uint8, shape (t, height, width) or (t, height, width, channels)
        At least 2 frames with sides of 1 to 16384 pixels; grey, or 3 channels in the order RGB, which are made grey as
        OpenCV's ``COLOR_RGB2GRAY`` does.
    tau : float
        Time step of the dual variables, 0.001 to 0.25; larger ones diverge.
    lambda_ : float
        Weight of the data term, 0.001 to 10: smaller, smoother.
    theta : float
        Tightness of the coupling of the two terms, 0.01 to 10.
    scales : int
        Levels of the pyramid, 1 to 30; those with a side below 16 pixels are left out.
    warps : int
        Linearisations a level, 1 to 100.
    epsilon : float
        Root mean square change of the flow in an iteration, pixels, that ends an inner problem; 0 to 1.
    inner_iterations, outer_iterations : int
        Iterations between two median filters, and medians a warp at most; 1 to 1000 each.
    scale_step : float
        Side of a level of the pyramid over that of the next finer one, 0.1 to 0.95.
    gamma : float
        Weight of an additive change of brightness, 0 to 10; 0: none.
    median_filtering : int
        Side of the median filter on the flow, pixels: 1 (none), 3 or 5.

    Returns
    -------
    float32, shape (t - 1, height, width, 2)
        Displacement in x (to the right) and y (down), in pixels, of what lies at a pixel of frame t, up to frame t + 1.

    Raises
    ------
    InputError
        Fewer than 2 frames, sides out of range, another dtype or number of channels, a parameter out of its range.

    Notes
    -----
    Source: Zach, Pock and Bischof, DAGM 2007; pyramid, warps, stopping rule and parameters as OpenCV's
    ``DualTVL1OpticalFlow``, whose ``nscales`` is called ``scales`` here.
    """
    return run(
        "flow_tvl1",
        frames,
        tau=tau,
        lambda_=lambda_,
        theta=theta,
        scales=scales,
        warps=warps,
        epsilon=epsilon,
        inner_iterations=inner_iterations,
        outer_iterations=outer_iterations,
        scale_step=scale_step,
        gamma=gamma,
        median_filtering=median_filtering,
    )


def optical_flow(
    prev: NDArray[np.uint8],
    next: NDArray[np.uint8],
    method: Literal["dis", "farneback", "tvl1"] = "dis",
    **options: Any,
) -> NDArray[np.float32]:
    """Optical flow from one frame to another.

    Parameters
    ----------
    prev, next : uint8, shape (height, width) or (height, width, 3)
        Grey or RGB (in this order; made grey as OpenCV's ``COLOR_RGB2GRAY`` does), of one shape.
    method : {"dis", "farneback", "tvl1"}
        Dense inverse search (:func:`flow_dis`), polynomial expansion (:func:`flow_farneback`), total variation and L1
        (:func:`flow_tvl1`).
    **options
        Parameters of the method's function, for example ``preset`` of ``dis`` or ``winsize`` of ``farneback``.

    Returns
    -------
    float32, shape (height, width, 2)
        Displacement in x (to the right) and y (down), in pixels, of what lies at a pixel of ``prev``.

    Raises
    ------
    InputError
        Frames of different shapes or another dtype, an unknown method or option, and as the method's own function.
    """
    import inspect

    import numpy as np

    methods: dict[str, Callable[..., NDArray[np.float32]]] = {
        "dis": flow_dis,
        "farneback": flow_farneback,
        "tvl1": flow_tvl1,
    }
    if method not in methods:
        known = ", ".join(map(repr, methods))
        raise InputError(f"optical_flow: method is {method!r}; it must be one of {known}")
    accepted = list(inspect.signature(methods[method]).parameters)[1:]
    for name in options:
        if name not in accepted:
            raise InputError(
                f"optical_flow: method {method!r} has no option {name!r}; it has {', '.join(accepted)}"
            )
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
    flow: NDArray[np.float32] = methods[method](np.stack(pair), **options)[0]
    return flow
