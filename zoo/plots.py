# SPDX-License-Identifier: Apache-2.0
"""Pictures of results, as PNG. Needs matplotlib (extra ``plot``)."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

#: Points of a curve that are drawn at most; a longer one is thinned out, each point the mean of its steps.
_POINTS = 4000


def draw_curves(
    curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float64]]],
    ranges: Mapping[str, tuple[float, float]],
    *,
    title: str,
) -> bytes:
    """Curves over time, one below the other.

    Parameters
    ----------
    curves : mapping of str to (float64 (n,), float32 (n,), float64 (n,))
        Name to the steps' start in seconds, their values, and the values before smoothing, drawn pale behind.
    ranges : mapping of str to (float, float)
        Lower and upper end of each value.
    title : str

    Returns
    -------
    bytes
        A PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.2 * len(curves) + 0.6), layout="constrained")
    axes = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, (seconds, values, rough)) in zip(axes, curves.items(), strict=True):
        low, high = ranges[name]
        axis.plot(_thinned(seconds), _thinned(rough), color="0.75", linewidth=0.6)
        axis.plot(_thinned(seconds), _thinned(values), color="tab:blue", linewidth=1.6)
        axis.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        axis.axhline((low + high) / 2, color="0.5", linewidth=0.5)
        axis.set_ylabel(name)
    axes[-1].set_xlabel("seconds")
    figure.suptitle(title)
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _thinned(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Means of runs of equal length, so that at most ``_POINTS`` are left."""
    numbers = np.asarray(values, np.float64)
    run = -(-len(numbers) // _POINTS)
    if run == 1:
        return numbers
    whole = len(numbers) // run * run
    means: NDArray[np.float64] = numbers[:whole].reshape(-1, run).mean(axis=1)
    return means
