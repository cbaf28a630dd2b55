# SPDX-License-Identifier: Apache-2.0
"""Figures of merit with bootstrap intervals. numpy only; scores are fractions of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.errors import DataError

Metric = Callable[..., float]


def confusion(truth: ArrayLike, predicted: ArrayLike, classes: int | None = None) -> NDArray[np.int64]:
    """Counts, shape (classes, classes): row = truth, column = prediction.

    Parameters
    ----------
    truth, predicted : int, shape (n,)
        Class indices >= 0.
    classes : int or None
        None: the largest index plus one.

    Raises
    ------
    DataError
        Lengths differ, n is 0, or an index is out of range.
    """
    y, p = _pair(truth, predicted)
    top = int(max(y.max(), p.max())) + 1
    size = top if classes is None else classes
    if top > size or min(y.min(), p.min()) < 0:
        raise DataError(f"class indices must lie in 0..{size - 1}, found {min(y.min(), p.min())}..{top - 1}")
    return np.bincount(y * size + p, minlength=size * size).reshape(size, size).astype(np.int64)


def uar(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Unweighted average recall: the mean, over the classes that occur in ``truth``, of the share found."""
    matrix = confusion(truth, predicted)
    support = matrix.sum(axis=1)
    present = support > 0
    return float(np.mean(np.diag(matrix)[present] / support[present]))


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of right predictions (weighted average recall, WAR)."""
    y, p = _pair(truth, predicted)
    return float(np.mean(y == p))


#: Weighted average recall is another name of accuracy.
war = accuracy


def macro_f1(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean F1 over the classes that occur in ``truth`` or ``predicted``; 0 for a class never found."""
    matrix = confusion(truth, predicted)
    total = matrix.sum(axis=0) + matrix.sum(axis=1)
    present = total > 0
    return float(np.mean(2.0 * np.diag(matrix)[present] / total[present]))


@dataclass(frozen=True)
class ClassFigures:
    """Accuracy, macro-F1 and balanced accuracy of one way to read class scores, and the classes that occur in the truth."""

    acc: float
    macro_f1: float
    bacc: float
    present_idx: tuple[int, ...]


def class_figures(truth: ArrayLike, scores: ArrayLike, *, present_only: bool = False) -> ClassFigures:
    """Figures of class scores where some classes may not occur in the truth, as in a test on another data set.

    Parameters
    ----------
    truth : int, shape (n,)
        Class indices.
    scores : float, shape (n, classes)
        The highest decides.
    present_only : bool
        Only classes that occur in the truth may be decided for, and macro-F1 is the mean over them. Else all classes may,
        and macro-F1 is the mean over all, with 0 for a class that is never found.

    Returns
    -------
    ClassFigures
        ``bacc`` is the mean recall over the classes that occur, in both readings.

    Raises
    ------
    DataError
        Lengths differ, n is 0, or an index is out of range.

    Notes
    -----
    Source: fact sheet 09, "Results". That its present-only accuracy is not its 8-way accuracy tells that decisions are
    restricted, too.
    """
    table = np.asarray(scores, np.float64)
    y = np.asarray(truth)
    if table.ndim != 2 or y.ndim != 1 or len(table) != len(y) or len(y) == 0:
        raise DataError(f"truth (n,) and scores (n, classes) do not go together: {y.shape} and {table.shape}")
    if y.min() < 0 or y.max() >= table.shape[1]:
        raise DataError(f"class indices must lie in 0..{table.shape[1] - 1}, found {y.min()}..{y.max()}")
    present = np.unique(y)
    found = present[table[:, present].argmax(axis=1)] if present_only else table.argmax(axis=1)
    matrix = confusion(y, found, table.shape[1])
    total = matrix.sum(axis=0) + matrix.sum(axis=1)
    f1 = 2.0 * np.diag(matrix) / np.maximum(total, 1)
    return ClassFigures(
        acc=accuracy(y, found),
        macro_f1=float(f1[present].mean() if present_only else f1.mean()),
        bacc=uar(y, found),
        present_idx=tuple(present.tolist()),
    )


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's correlation of two real series, shape (n,), n >= 2. NaN if one of them is constant.

    Raises
    ------
    DataError
        Lengths differ or n < 2.
    """
    a, b = _series(x, y)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b)) / scale if scale > 0 else float("nan")


def ccc(truth: ArrayLike, predicted: ArrayLike, *, decimals: int | None = None) -> float:
    """Concordance correlation coefficient of two real series, shape (n,), n >= 2.

    ``2 cov / (var(truth) + var(predicted) + (mean(truth) - mean(predicted))^2)``, with ``cov`` divided by n but each
    ``var`` by n - 1: that is how the results of ExVo 2022 were scored, so a perfect prediction scores just (n - 1) / n.

    Parameters
    ----------
    decimals : int or None
        Digits after the point that the result is rounded to; the published figures have 4. None: not rounded.

    Returns
    -------
    float
        In (-1, 1); NaN if both series are constant and equal.

    Raises
    ------
    DataError
        Lengths differ or n < 2.

    Notes
    -----
    Source: fact sheet 7, section 5.
    """
    y, p = _series(truth, predicted)
    between = float(np.mean((y - y.mean()) * (p - p.mean())))
    scale = float(y.var(ddof=1) + p.var(ddof=1) + (y.mean() - p.mean()) ** 2)
    value = 2.0 * between / scale if scale > 0 else float("nan")
    return value if decimals is None else round(value, decimals)


def mae(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean absolute error, in the unit of the values; any shape, all values alike.

    Raises
    ------
    DataError
        Shapes differ, or there are no values.
    """
    return float(np.mean(np.abs(_errors(truth, predicted))))


def mse(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean squared error, in the squared unit of the values; any shape, all values alike.

    Raises
    ------
    DataError
        Shapes differ, or there are no values.
    """
    return float(np.mean(_errors(truth, predicted) ** 2))


def accuracy_within(truth: ArrayLike, predicted: ArrayLike, *, distance: int = 1) -> float:
    """Share of predictions at most ``distance`` classes off, for classes in an order.

    Raises
    ------
    DataError
        Lengths differ, or there are no predictions.
    """
    y, p = _pair(truth, predicted)
    return float(np.mean(np.abs(y - p) <= distance))


def inverse_mae(truth: ArrayLike, predicted: ArrayLike) -> float:
    """1 / :func:`mae`, a score that grows with quality as the others do; infinite where nothing is wrong."""
    error = mae(truth, predicted)
    return 1.0 / error if error > 0 else float("inf")


def harmonic_mean(scores: ArrayLike) -> float:
    """Harmonic mean of positive scores, shape (n,); NaN if one of them is NaN or not above 0.

    Of (mean CCC, UAR, 1 / MAE) it is the score S_MTL of ExVo 2022's multitask track: ``3 / (1/C + 1/U + MAE)``.

    Raises
    ------
    DataError
        There are no scores.
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or values.size == 0:
        raise DataError(f"a list of scores is needed, found shape {values.shape}")
    if not bool(np.all(values > 0)):  # false for NaN
        return float("nan")
    return float(np.max(values)) if np.all(np.isinf(values)) else float(values.size / np.sum(1.0 / values))


def jaccard(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over the items of |truth and predicted| / |truth or predicted|, 1 where both are empty.

    "Accuracy" of the multi-label task E-c of SemEval-2018 Task 1.

    Parameters
    ----------
    truth, predicted : bool or 0/1, shape (n, labels)

    Raises
    ------
    DataError
        Shapes differ, n is 0, or a value is neither 0 nor 1.
    """
    y, p = _sets(truth, predicted)
    union = (y | p).sum(axis=1)
    return float(np.mean(np.where(union > 0, (y & p).sum(axis=1) / np.maximum(union, 1), 1.0)))


def multilabel_micro_f1(truth: ArrayLike, predicted: ArrayLike) -> float:
    """F1 over all (item, label) pairs of two 0/1 matrices, shape (n, labels); 0 if nothing is true or found."""
    y, p = _sets(truth, predicted)
    total = int(y.sum() + p.sum())
    return float(2.0 * (y & p).sum() / total) if total else 0.0


def multilabel_macro_f1(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over the labels of their F1 (0 for a label neither true nor found), 0/1 matrices (n, labels)."""
    y, p = _sets(truth, predicted)
    total = y.sum(axis=0) + p.sum(axis=0)
    return float(np.mean(2.0 * (y & p).sum(axis=0) / np.maximum(total, 1)))


def pearson_some(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Pearson's correlation over the items whose true value is at least 0.5; NaN with fewer than two.

    The secondary metric of the regressions of SemEval-2018 Task 1.
    """
    y, p = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise DataError(f"two series of one length are needed, found shapes {y.shape} and {p.shape}")
    kept = y >= 0.5
    return pearson(y[kept], p[kept]) if int(kept.sum()) >= 2 else float("nan")


def finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures for JSON, which has no NaN: None where there is none, as Pearson's of a curve that does not change."""
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def bootstrap_interval(
    metric: Metric,
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    n: int = 10000,
    seed: int = 0,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of ``metric(truth, predicted)``.

    Parameters
    ----------
    metric : callable
        Takes resampled truth and predictions.
    truth, predicted : shape (m,) or (m, ...)
        One row for each item.
    n : int
        Resamples.
    groups : shape (m,) or None
        Resample whole groups (speakers) instead of items: the interval for new groups.
    level : float
        Share of the resamples inside.

    Returns
    -------
    (low, high)
        Resamples whose metric is NaN are left out.

    Raises
    ------
    DataError
        Lengths differ, or there are no items.
    """
    y, p = np.asarray(truth), np.asarray(predicted)
    values = _resample(lambda rows: metric(y[rows], p[rows]), len(y), (len(p),), n, seed, groups)
    return _quantiles(values, level)


def paired_bootstrap(
    metric: Metric,
    truth: ArrayLike,
    predicted_a: ArrayLike,
    predicted_b: ArrayLike,
    *,
    n: int = 10000,
    seed: int = 0,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Difference ``metric(b) - metric(a)`` on the same items, with its percentile bootstrap interval.

    Each resample takes the same items (or ``groups``) for both, so what they share cancels.

    Returns
    -------
    (difference, low, high)
        The difference is that of the whole set.

    Raises
    ------
    DataError
        Lengths differ, or there are no items.
    """
    y, a, b = np.asarray(truth), np.asarray(predicted_a), np.asarray(predicted_b)
    sizes = (len(a), len(b))
    values = _resample(
        lambda rows: metric(y[rows], b[rows]) - metric(y[rows], a[rows]), len(y), sizes, n, seed, groups
    )
    low, high = _quantiles(values, level)
    return float(metric(y, b) - metric(y, a)), low, high


def _pair(truth: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    y, p = np.asarray(truth), np.asarray(predicted)
    if y.ndim != 1 or y.shape != p.shape or y.size == 0:
        raise DataError(
            f"truth and predictions must be two lists of one length >= 1, found shapes {y.shape}, {p.shape}"
        )
    return y.astype(np.int64), p.astype(np.int64)


def _errors(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    y, p = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if y.shape != p.shape or y.size == 0:
        raise DataError(
            f"truth and predictions must have one shape and a value at least, found {y.shape} and {p.shape}"
        )
    return y - p


def _series(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size < 2:
        raise DataError(f"two series of one length >= 2 are needed, found shapes {a.shape} and {b.shape}")
    return a, b


def _sets(truth: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    y, p = np.asarray(truth), np.asarray(predicted)
    if y.ndim != 2 or y.shape != p.shape or y.size == 0:
        raise DataError(
            f"truth and predictions must be two 0/1 tables of one shape (n >= 1, labels >= 1), found {y.shape}, {p.shape}"
        )
    if not (np.isin(y, (0, 1)).all() and np.isin(p, (0, 1)).all()):
        raise DataError("labels must be 0 or 1")
    return y.astype(np.bool_), p.astype(np.bool_)


def _resample(
    score: Callable[[NDArray[np.int64]], float],
    size: int,
    others: tuple[int, ...],
    n: int,
    seed: int,
    groups: ArrayLike | None,
) -> NDArray[np.float64]:
    if size == 0 or any(other != size for other in others):
        raise DataError(f"truth and predictions must have one length >= 1, found {(size, *others)}")
    rng = np.random.default_rng(seed)
    if groups is None:
        return np.array([score(rng.integers(0, size, size)) for _ in range(n)])
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if len(index) != size:
        raise DataError(f"groups must have one entry for each of the {size} items, found {len(index)}")
    members = [np.flatnonzero(index == i) for i in range(len(names))]
    return np.array(
        [
            score(np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))]))
            for _ in range(n)
        ]
    )


def _quantiles(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    kept = values[~np.isnan(values)]
    if kept.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
