# SPDX-License-Identifier: Apache-2.0
"""Curves over time from classes in an order (bins of a range), and how they are smoothed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo import _native
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.specs import Smooth


def curve(
    bins: ArrayLike, *, count: int, span: tuple[float, float] = (-1.0, 1.0), smooth: Smooth | None = None
) -> NDArray[np.float32]:
    """Values of a curve from the bin of each step.

    Parameters
    ----------
    bins : int, shape (n,)
        0 to ``count`` - 1.
    count : int
        Number of bins, at least 2. The first one gives the lower end of ``span``, the last one the upper end.
    span : (float, float)
    smooth : Smooth or None
        In this order: causal Butterworth low-pass of the bins, moving mean, mapping to ``span``, median. None: mapping
        alone.

    Returns
    -------
    float32, shape (n,)

    Raises
    ------
    InputError
        No steps, a bin outside its range, or another shape.

    Notes
    -----
    Source: fact sheet 5, section 5. SciPy's ``sosfilt(butter(...))`` from rest, ``savgol_filter`` of order 0 (within half a
    window of an end: the mean of the first or last window). Our choices, which the sheet leaves open: with fewer steps than
    a window the longest odd window that fits; the median holds the end values.
    """
    index = np.asarray(bins)
    if index.ndim != 1 or index.size == 0 or index.dtype.kind not in "iu":
        raise InputError(
            f"curve: bins have shape {index.shape}, dtype {index.dtype}; give integers, shape (n,)"
        )
    if index.min() < 0 or index.max() >= count:
        raise InputError(f"curve: bins lie in {index.min()}..{index.max()}; there are {count}, from 0 on")
    return _native.curve(index.astype(np.int32), count, *span, **chain(smooth))


def chain(smooth: Smooth | None) -> dict[str, Any]:
    """The smoothing as the kernels take it."""
    if smooth is None:
        return {}
    return msgspec.structs.asdict(smooth) | {"cutoff": smooth.cutoff or 0.0}


def bins_of(values: ArrayLike, *, count: int, span: tuple[float, float] = (-1.0, 1.0)) -> NDArray[np.int64]:
    """The bin of each value: ``count`` equal bins of ``span``, the upper end in the last one.

    Raises
    ------
    InputError
        A value is not finite or outside ``span``.
    """
    given = np.asarray(values, np.float64)
    low, high = span
    if not (np.isfinite(given).all() and ((given >= low) & (given <= high)).all()):
        raise InputError(f"bins: values must lie in {low:g} to {high:g}")
    index = np.floor((given - low) * (count / (high - low))).astype(np.int64)
    return np.minimum(index, count - 1)


def judged(
    truth: ArrayLike,
    bins: ArrayLike,
    *,
    count: int,
    span: tuple[float, float] = (-1.0, 1.0),
    smooth: Smooth | None = None,
) -> dict[str, float]:
    """Figures of one curve: ``accuracy``, ``accuracy±1``, ``MAE``, ``MSE``, ``Pearson``.

    Parameters
    ----------
    truth, bins : int, shape (n,)
        The true and the found bin of each step.
    smooth : Smooth or None
        Of the curve that was found; of the true one only its median is taken.

    Raises
    ------
    InputError, DataError
        No steps, other lengths, a bin outside its range.

    Notes
    -----
    Source: fact sheet 5, sections 5 and 6: the first two are of bins, the others of curves. Means over films are taken of
    these figures.
    """
    from zoo import metrics
    from zoo.specs import Smooth as Chain

    median = Chain(median=smooth.median) if smooth is not None else None
    true = curve(truth, count=count, span=span, smooth=median)
    found = curve(bins, count=count, span=span, smooth=smooth)
    return {
        "accuracy": metrics.accuracy(truth, bins),
        "accuracy±1": metrics.accuracy_within(truth, bins),
        "MAE": metrics.mae(true, found),
        "MSE": metrics.mse(true, found),
        "Pearson": metrics.pearson(true, found),
    }


def moving_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over ``window`` (odd) values about each; near an end that of the first or last ``window`` ones."""
    return _native.moving_mean(values, window)


def moving_median(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Median over ``window`` (odd) values about each; beyond the ends the end values go on."""
    return _native.moving_median(values, window)
