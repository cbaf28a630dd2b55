# SPDX-License-Identifier: Apache-2.0
"""Scoring predictions on a labelled data set, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo import metrics
from zoo.data import Dataset
from zoo.errors import DataError

#: Headline metrics that a card may name.
METRICS: Mapping[str, Callable[..., float]] = {
    "UAR": metrics.uar,
    "WAR": metrics.accuracy,
    "macro-F1": metrics.macro_f1,
}


@dataclass(frozen=True)
class Evaluation:
    """Figures over one data set. ``interval`` is the headline metric's 95 % bootstrap interval over items;
    ``group_interval`` resamples whole groups (speakers), or None where there are fewer than three.
    """

    metric: str
    metrics: dict[str, float]
    interval: tuple[float, float]
    group_interval: tuple[float, float] | None
    n: int
    confusion: list[list[int]]
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    ids: tuple[str, ...]


def evaluate(
    predict: Callable[[Path], Sequence[float]],
    dataset: Dataset,
    *,
    labels: Sequence[str],
    metric: str,
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Score a classifier.

    Parameters
    ----------
    predict : callable
        Raw input to one score for each of ``labels``, in that order.
    dataset : Dataset
        Its label names must be those of the model, in any order.
    metric : str
        Key of ``METRICS``: the headline.

    Raises
    ------
    DataError
        The data set is empty, or its labels are not the model's.
    """
    if not dataset.items:
        raise DataError(f"data set {dataset.name} is empty")
    if set(dataset.labels) != set(labels):
        raise DataError(
            f"data set {dataset.name} has labels {', '.join(dataset.labels)}; the model has {', '.join(labels)}"
        )
    order = {name: i for i, name in enumerate(labels)}
    truth = np.array([order[dataset.labels[item.label]] for item in dataset.items])
    found = np.empty(len(truth), np.int64)
    for i, item in enumerate(dataset.items):
        found[i] = int(np.argmax(predict(item.source)))
        if progress:
            progress("scoring", i + 1, len(truth))
    present = sorted(set(truth.tolist()))
    groups = np.array([item.group for item in dataset.items])
    function = METRICS[metric]
    low, high = metrics.bootstrap_interval(function, truth, found)
    group_interval = None
    if len(set(groups.tolist())) >= 3:
        group_interval = metrics.bootstrap_interval(function, truth, found, groups=groups)
    matrix = metrics.confusion(truth, found, len(labels))
    return Evaluation(
        metric=metric,
        metrics={
            **{name: float(compute(truth, found)) for name, compute in METRICS.items()},
            **{f"recall/{labels[i]}": float(matrix[i, i] / matrix[i].sum()) for i in present},
        },
        interval=(float(low), float(high)),
        group_interval=group_interval,
        n=len(truth),
        confusion=matrix.tolist(),
        labels=tuple(labels),
        predicted=tuple(labels[int(i)] for i in found),
        ids=tuple(item.id for item in dataset.items),
    )
