# SPDX-License-Identifier: Apache-2.0
"""Many embeddings on one page: the plane of their first two principal components. Pictures need matplotlib (extra ``plot``)."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError

#: Points that are given their names.
_NAMED = 60


def plane(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Principal components of unit vectors.

    Parameters
    ----------
    vectors : float32, shape (n, width)
        At least 3, of any length: directions are what is compared.

    Returns
    -------
    points : float64, shape (n, 2)
        Each axis's sign is such that its largest value is positive: the same vectors give the same map.
    shares : (float, float)
        Part of the variance that each axis shows, 0 to 1; 0 where all vectors are the same.

    Raises
    ------
    InputError
        Fewer than 3 vectors, or a value that is not finite.
    """
    if len(vectors) < 3:
        raise InputError(f"a map needs 3 inputs or more; there are {len(vectors)}")
    if not np.isfinite(vectors).all():
        raise InputError("a map needs finite embeddings")
    wide = vectors.astype(np.float64)
    wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    wide -= wide.mean(axis=0)
    left, sizes, _ = np.linalg.svd(wide, full_matrices=False)
    points = np.zeros((len(wide), 2))
    count = min(2, len(sizes))
    points[:, :count] = left[:, :count] * sizes[:count]
    peaks = points[np.abs(points).argmax(axis=0), [0, 1]]
    points *= np.where(peaks < 0, -1.0, 1.0)
    power = sizes**2 / max(float((sizes**2).sum()), 1e-12)
    shares = [float(share) for share in power[:count]] + [0.0] * (2 - count)
    return points, (shares[0], shares[1])


def draw_map(
    points: NDArray[np.float64],
    shares: tuple[float, float],
    names: Sequence[str],
    labels: Sequence[str],
    *,
    title: str,
) -> bytes:
    """The plane as a PNG.

    Parameters
    ----------
    points, shares
        As :func:`plane` gives them.
    names : sequence of str
        Written beside the points where there are no more than 60.
    labels : sequence of str
        What the points are coloured by; all the same: no legend.
    title : str
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    axis = figure.subplots()
    found = sorted(set(labels))
    colours = colormaps["tab10"]
    for number, label in enumerate(found):
        rows = [i for i, own in enumerate(labels) if own == label]
        axis.scatter(points[rows, 0], points[rows, 1], s=26, color=colours(number % 10), label=label)
    if len(names) <= _NAMED:
        for (x, y), name in zip(points, names, strict=True):
            axis.annotate(name, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=7)
    if len(found) > 1:
        axis.legend(fontsize=8)
    axis.set_xlabel(f"first component, {100 * shares[0]:.0f} % of the variance")
    axis.set_ylabel(f"second component, {100 * shares[1]:.0f} %")
    # Distances mean the same along both axes.
    axis.set_aspect("equal", adjustable="datalim")
    figure.suptitle(title)
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png")
    return stream.getvalue()


__all__ = ["draw_map", "plane"]
