# SPDX-License-Identifier: Apache-2.0
"""Scoring predictions on a labelled data set, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo import metrics
from zoo.data import Dataset, Item, Source
from zoo.errors import DataError, InputError, ZooError
from zoo.specs import Decode, Metric, Regression, Sigmoid, Softmax

_Function = Callable[..., float]


@dataclass(frozen=True)
class Judge:
    """How a kind of model is scored: what it decides, and the metrics of such decisions.

    Decisions and truth have one row an item: class indices (n,), 0/1 (n, labels), or values (n, labels).
    """

    labels: tuple[str, ...]
    decide: Callable[[NDArray[Any]], NDArray[Any]]
    """Scores (n, labels), as the decoded engine output holds them, to decisions."""
    metrics: Mapping[str, _Function]
    kind: str

    def function(self, metric: Metric) -> _Function:
        """The metric called ``metric``.

        Raises
        ------
        ZooError
            Such decisions have no such metric.
        """
        if metric not in self.metrics:
            raise ZooError(f"{self.kind} are not scored by {metric}; choose one of {', '.join(self.metrics)}")
        return self.metrics[metric]

    def truth(self, dataset: Dataset, items: Sequence[Item] | None = None) -> NDArray[Any]:
        """The truth of ``items`` (all, if None) in the form of the decisions.

        Raises
        ------
        DataError
            The data set's labels are not the model's, or its truth is of another kind.
        """
        if set(dataset.labels) != set(self.labels):
            raise DataError(
                f"data set {dataset.name} has labels {', '.join(dataset.labels)}; "
                f"the model has {', '.join(self.labels)}"
            )
        items = dataset.items if items is None else items
        order = [dataset.labels.index(label) for label in self.labels]
        if self.kind == _CLASSES:
            if not all(isinstance(item.label, int) for item in items):
                raise DataError(f"data set {dataset.name} gives no class to each item; the model needs one")
            index = {old: new for new, old in enumerate(order)}
            return np.array([index[item.label] for item in items], np.int64)  # type: ignore[index]
        if any(isinstance(item.label, int) for item in items):
            raise DataError(
                f"data set {dataset.name} gives a class to each item; the model gives {self.kind}"
            )
        rows = np.array([item.label for item in items], np.float64).reshape(len(items), len(order))
        return rows[:, order].astype(np.int64) if self.kind == _LABELS else rows[:, order]


_CLASSES, _LABELS, _VALUES = "classes", "labels", "values"


def judge(decode: Decode, labels: Sequence[str]) -> Judge:
    """The judge of models that decode so.

    Raises
    ------
    ZooError
        Embeddings have no truth to compare with.
    """
    names = tuple(labels)
    if isinstance(decode, Softmax):
        return Judge(
            names,
            lambda scores: np.argmax(scores, axis=1),
            {
                "UAR": metrics.uar,
                "WAR": metrics.accuracy,
                "macro-F1": metrics.macro_f1,
                "Pearson": metrics.pearson,
            },
            _CLASSES,
        )
    if isinstance(decode, Sigmoid):
        limits = np.array(decode.thresholds, np.float32)
        return Judge(
            names,
            lambda scores: (scores >= limits).astype(np.int64),
            {
                "Jaccard": metrics.jaccard,
                "micro-F1": metrics.multilabel_micro_f1,
                "macro-F1": metrics.multilabel_macro_f1,
            },
            _LABELS,
        )
    if isinstance(decode, Regression):
        low, high = decode.range
        return Judge(
            names,
            lambda scores: np.clip(scores.astype(np.float64), low, high),
            {
                "Pearson": _mean_over_columns(metrics.pearson),
                "Pearson-some": _mean_over_columns(metrics.pearson_some),
            },
            _VALUES,
        )
    raise ZooError(f"models that decode as {type(decode).__name__.lower()} have no accuracy to score")


@dataclass(frozen=True)
class Evaluation:
    """Figures over one data set. ``interval`` is the headline metric's 95 % bootstrap interval over items;
    ``group_interval`` resamples whole groups (speakers), or None where there are fewer than three.

    ``confusion`` is that of classes, empty for labels and values. ``predicted`` holds a class, several labels or
    several values for each item.
    """

    metric: Metric
    metrics: dict[str, float]
    interval: tuple[float, float]
    group_interval: tuple[float, float] | None
    n: int
    confusion: list[list[int]]
    labels: tuple[str, ...]
    predicted: tuple[Any, ...]
    ids: tuple[str, ...]


def evaluate(
    predict: Callable[[Source], ArrayLike],
    dataset: Dataset,
    *,
    decode: Decode,
    labels: Sequence[str],
    metric: Metric,
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Score a model.

    Parameters
    ----------
    predict : callable
        Raw input to the decoded output: one number for each of ``labels``, in that order.
    dataset : Dataset
        Its label names must be those of the model, in any order.
    metric : str
        The headline.

    Raises
    ------
    DataError
        The data set is empty, its labels are not the model's, its truth is of another kind, or the model refuses an item.
    ZooError
        Such a model is not scored by ``metric``.
    """
    if not dataset.items:
        raise DataError(f"data set {dataset.name} is empty")
    by = judge(decode, labels)
    function = by.function(metric)
    truth = by.truth(dataset)
    scores = []
    for i, item in enumerate(dataset.items):
        try:
            scores.append(np.asarray(predict(item.source)).ravel())
        except InputError as error:
            raise DataError(f"data set {dataset.name}, item {item.id}: {error}") from error
        if progress:
            progress("scoring", i + 1, len(truth))
    found = by.decide(np.stack(scores))
    groups = np.array([item.group for item in dataset.items])
    low, high = metrics.bootstrap_interval(function, truth, found)
    group_interval = None
    if len(set(groups.tolist())) >= 3:
        group_interval = metrics.bootstrap_interval(function, truth, found, groups=groups)
    # Pearson's correlation of class indices means something for ordered classes only.
    figures = {
        name: float(compute(truth, found))
        for name, compute in by.metrics.items()
        if by.kind != _CLASSES or name != "Pearson" or metric == "Pearson"
    }
    confusion: list[list[int]] = []
    predicted: tuple[Any, ...] = tuple(found.tolist())
    if by.kind == _CLASSES:
        matrix = metrics.confusion(truth, found, len(labels))
        confusion = matrix.tolist()
        figures |= {
            f"recall/{labels[i]}": float(matrix[i, i] / matrix[i].sum()) for i in sorted(set(truth.tolist()))
        }
        predicted = tuple(labels[int(i)] for i in found)
    elif by.kind == _LABELS:
        predicted = tuple([name for name, given in zip(labels, row, strict=True) if given] for row in found)
    return Evaluation(
        metric=metric,
        metrics=figures,
        interval=(float(low), float(high)),
        group_interval=group_interval,
        n=len(truth),
        confusion=confusion,
        labels=tuple(labels),
        predicted=predicted,
        ids=tuple(item.id for item in dataset.items),
    )


def _mean_over_columns(function: _Function) -> _Function:
    def mean(truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        return float(np.mean([function(truth[:, i], predicted[:, i]) for i in range(truth.shape[1])]))

    return mean
