# SPDX-License-Identifier: Apache-2.0
"""Order statistics of latencies, and bootstrap intervals over processes.

A process's samples are kept as a quantile function at ``GRID`` (a report with every sample would be
megabytes). The bootstrap resamples processes, and within a process draws the sample quantile from its
exact distribution: quantile p of n draws is F^-1(u) with u ~ Beta(n p + 1, n (1 - p) + 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

#: Probabilities at which a process's quantiles are kept: dense at the median and in the tail.
GRID: tuple[float, ...] = (
    *(
        0.0,
        0.01,
        0.05,
        0.1,
        0.2,
        0.3,
        0.35,
        0.4,
        0.42,
        0.44,
        0.46,
        0.48,
        0.49,
        0.5,
        0.51,
        0.52,
        0.54,
        0.56,
        0.58,
    ),
    *(0.6, 0.65, 0.7, 0.8, 0.9, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.993, 0.996, 0.999, 1.0),
)
DRAWS = 2000
#: Student's t, 97.5 %, for 1 to 10 degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class Sample(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Latencies of one scope in one process: count, mean and quantiles at ``GRID``, in milliseconds."""

    n: int
    mean_ms: float
    quantiles_ms: tuple[float, ...]

    def quantile(self, p: float) -> float:
        """Quantile ``p`` in [0, 1], interpolated between the grid's points."""
        return float(np.interp(p, GRID, self.quantiles_ms))


class Ratio(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ratio of latencies with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def sample_of(nanoseconds: Sequence[int] | NDArray[np.int64]) -> Sample:
    """Summarise the samples of one process.

    Raises
    ------
    ValueError
        There are none.
    """
    data = np.asarray(nanoseconds, np.float64) / 1e6
    if not len(data):
        raise ValueError("no samples")
    return Sample(
        n=len(data),
        mean_ms=rounded(float(data.mean())),
        quantiles_ms=tuple(rounded(float(value)) for value in np.quantile(data, GRID)),
    )


def rounded(value: float) -> float:
    """Five significant digits: more than any clock here is good for."""
    return float(f"{value:.5g}")


def typical(samples: Sequence[Sample], p: float) -> float:
    """Median over processes of quantile ``p``."""
    return float(np.median([sample.quantile(p) for sample in samples]))


def _quantile_draws(
    sample: Sample, p: float, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float64]:
    u = rng.beta(sample.n * p + 1, sample.n * (1 - p) + 1, shape)
    return np.interp(u, GRID, sample.quantiles_ms)


def _resampled(
    samples: Sequence[Sample], p: float, rng: np.random.Generator, picks: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Quantile draws (draws, processes) where ``picks`` chooses each column's process."""
    drawn = np.stack([_quantile_draws(sample, p, picks.shape, rng) for sample in samples])
    return np.asarray(np.take_along_axis(drawn, picks[None], axis=0)[0])


def paired_draws(
    samples: Sequence[Sample], base: Sequence[Sample], p: float, seed: int = 0
) -> tuple[float, NDArray[np.float64]]:
    """Ratio of two contestants of one run, and its bootstrap draws.

    The processes of one round ran next to each other, so the ratio is taken round by round: a load that
    came and went touches both sides alike. The figure is the median over rounds.
    """
    rng = np.random.default_rng(seed)
    rounds = min(len(samples), len(base))
    point = np.median([samples[i].quantile(p) / base[i].quantile(p) for i in range(rounds)])
    picks = rng.integers(rounds, size=(DRAWS, rounds))
    ratios = _resampled(samples[:rounds], p, rng, picks) / _resampled(base[:rounds], p, rng, picks)
    return float(point), np.median(ratios, axis=1)


def unpaired_draws(
    samples: Sequence[Sample], base: Sequence[Sample], p: float, seed: int = 0
) -> tuple[float, NDArray[np.float64]]:
    """Ratio of two runs' medians over processes, and its bootstrap draws."""
    rng = np.random.default_rng(seed)
    sides = []
    for side in (samples, base):
        picks = rng.integers(len(side), size=(DRAWS, len(side)))
        sides.append(np.median(_resampled(side, p, rng, picks), axis=1))
    return typical(samples, p) / typical(base, p), sides[0] / sides[1]


def interval(point: float, draws: NDArray[np.float64], processes: int) -> Ratio:
    """95 % interval from bootstrap draws over so many processes; it always holds the point.

    Resampling a handful of processes gives intervals that are too narrow (five processes: 85 % for 95 %). So the
    draws' distances from the point are widened, on the logarithmic scale, as Student's t widens the normal.
    """
    low, high = np.quantile(draws, (0.025, 0.975))
    factor = small_sample_factor(processes)
    low, high = (point * (float(bound) / point) ** factor for bound in (min(low, point), max(high, point)))
    return Ratio(value=rounded(point), low=rounded(min(low, point)), high=rounded(max(high, point)))


def small_sample_factor(processes: int) -> float:
    """sqrt(n / (n - 1)) t / 1.96 with Student's t for n - 1 degrees of freedom at 97.5 %; 1 for a single process."""
    free = processes - 1
    if free < 1:
        return 1.0
    t = _T[free - 1] if free <= len(_T) else 1.96 + 2.6 / free
    return math.sqrt(processes / free) * t / 1.96
