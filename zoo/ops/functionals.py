# SPDX-License-Identifier: Apache-2.0
"""Functionals: statistics over time of low-level descriptors, as openSMILE's emobase2010 computes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.ops._call import run_tensor
from zoo.ops.lld import LLD_NAMES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _names() -> tuple[str, ...]:
    common = [
        "maxPos",
        "minPos",
        "amean",
        "linregc1",
        "linregc2",
        "linregerrA",
        "linregerrQ",
        "stddev",
        "skewness",
        "kurtosis",
        "quartile1",
        "quartile2",
        "quartile3",
        "iqr1-2",
        "iqr2-3",
        "iqr1-3",
    ]
    levels = ["upleveltime75", "upleveltime90"]
    group_a = [*common, "percentile1.0", "percentile99.0", "pctlrange0-1", *levels]
    group_b = [*common, "percentile99.0", *levels]
    columns = [(name, group_a) for name in (*LLD_NAMES[:34], *LLD_NAMES[38:72])]
    columns += [(name, group_b) for name in (*LLD_NAMES[34:38], *LLD_NAMES[72:])]
    values = tuple(f"{name}_{functional}" for name, functionals in columns for functional in functionals)
    return (*values, "F0final__Turn_numOnsets", "F0final__Turn_duration")


#: openSMILE's names of the 1582 values of :func:`functionals`, in order.
FUNCTIONAL_NAMES: tuple[str, ...] = _names()


def functionals(rows: NDArray[np.float32], *, tail: int = 3, period: float = 0.01) -> NDArray[np.float32]:
    """The 1582 functionals of emobase2010 over a whole segment.

    For each of the 68 columns of group A and its deltas, 21 values: the relative positions of maximum and minimum (index of the
    first such row / rows, in [0, 1)), mean; slope (a row), offset (at row 0), mean absolute and mean squared error of
    the regression line; standard deviation (of the population), skewness, kurtosis (3 for a normal distribution); quartiles 1, 2,
    3 and their ranges 1-2, 2-3, 1-3; percentiles 1 and 99 and their range; shares of rows above 75 % and 90 % of the
    range from minimum to maximum. Percentiles are interpolated at p (rows - 1). For each of the 8 columns of group B and its
    deltas, the same less percentile 1 and the range, over the rows in which that column is not 0, put together; all 0 when
    there is none. Then the number of pitch onsets and the duration.

    Parameters
    ----------
    rows : float32, shape (n, 76)
        Descriptors as :func:`zoo.ops.lld` gives them, n >= 1: 34 of group A, 4 of group B, the deltas of both. At most 1e18
        in size; smaller than 1.2e-38 counts as 0.
    tail : int
        Rows at the end that the statistics leave out, 0 to 65536; one row always stays. openSMILE's functionals run before
        the last 3 rows have come through pitch smoothing, moving average and deltas; give 0 to use all rows.
    period : float
        Seconds between rows, 1e-6 to 1000.

    Returns
    -------
    float32, shape (1, 1582)
        In the order of :data:`FUNCTIONAL_NAMES`.

    Raises
    ------
    InputError
        Another shape or dtype, a value that is not finite or too large (its row and column are named).

    Notes
    -----
    Source: fact sheet 5, "Audio, 1582". Like openSMILE's smoothed descriptors, the rows are one more than the frames of the
    contour of pitch, from which onsets and duration are taken: the duration is (n - 1) * period. Onsets are transitions from
    unvoiced to voiced in that contour, which is recovered from its moving average over three frames, column 34.
    """
    return run_tensor("functionals", rows, tail=tail, period=period)


def sliding_functionals(
    rows: NDArray[np.float32], *, window: int = 40, hop: int = 4, period: float = 0.01
) -> NDArray[np.float32]:
    """:func:`functionals` over sliding windows: window w covers rows w * hop to w * hop + window.

    Parameters
    ----------
    rows : float32, shape (n, 76)
        As :func:`functionals`, n >= `window`.
    window, hop : int
        In rows, 1 to 65536 each. The defaults are fact sheet 5's 400 ms and 40 ms.
    period : float
        Seconds between rows.

    Returns
    -------
    float32, shape (1 + (n - window) // hop, 1582)

    Raises
    ------
    InputError
        As :func:`functionals`; fewer rows than a window.

    Notes
    -----
    Source: fact sheet 5, "Audio, 1582"; openSMILE's functionals in frame mode. Descriptors are those of the whole signal: an openSMILE
    that was run on the cut-out signal of each window would start its smoothing, deltas and pitch tracking anew. Against
    ``functionals(rows[w * hop : w * hop + window], tail=0)`` only the last two values differ: the duration is window * period,
    and the number of onsets counts all `window` rows of the contour of pitch, recovered from the rows up to 3 s before (300 rows);
    where none of those is 0, each row above 0 counts as voiced. openSMILE leaves out the last window when it ends with the
    last row, which the contour lacks.
    """
    return run_tensor("sliding_functionals", rows, window=window, hop=hop, period=period)
