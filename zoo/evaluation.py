# SPDX-License-Identifier: Apache-2.0
"""Scoring predictions on a labelled data set, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo import metrics
from zoo.curves import judged
from zoo.data import Dataset, Item, Source
from zoo.data.films import Annotated, moments_of
from zoo.errors import DataError, InputError, ZooError
from zoo.metrics import ClassFigures
from zoo.specs import Curve, Decode, Head, Heads, Metric, Regression, Sigmoid, Softmax

_Function = Callable[..., float]


@dataclass(frozen=True)
class Judge:
    """How a kind of model is scored: what it decides, and the metrics of such decisions.

    Decisions and truth have one row an item: class indices (n,), 0/1 (n, labels), or values (n, labels). Those of
    heads stand side by side, float64, a class in one column; NaN where an item has no truth for a head.
    """

    labels: tuple[str, ...]
    decide: Callable[[NDArray[Any]], NDArray[Any]]
    """Scores (n, labels), as :func:`scores_of` gives them, to decisions."""
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


_CLASSES, _LABELS, _VALUES, _HEADS = "classes", "labels", "values", "heads"


@dataclass(frozen=True)
class _Part:
    """A scored head: its judge and metric, and its columns among the scores and among the decisions."""

    head: Head
    judge: Judge
    metric: _Function
    scores: slice
    columns: slice

    def of(self, rows: NDArray[np.float64]) -> NDArray[Any]:
        """Its columns of truth or decisions, in the form that its own metric takes."""
        own = rows[:, self.columns]
        if self.judge.kind == _CLASSES:
            return own[:, 0].astype(np.int64)
        return own.astype(np.int64) if self.judge.kind == _LABELS else own

    def scorer(self, metric: _Function) -> _Function:
        """``metric`` of this head, over the items that have a truth for it, of the columns of all heads."""

        def score(truth: NDArray[np.float64], found: NDArray[np.float64]) -> float:
            known = ~np.isnan(truth[:, self.columns.start])
            return metric(self.of(truth[known]), self.of(found[known]))

        return score


@dataclass(frozen=True)
class HeadsJudge(Judge):
    """The judge of models with several heads; ``parts`` are those that are scored."""

    parts: tuple[_Part, ...] = ()

    def truth(self, dataset: Dataset, items: Sequence[Item] | None = None) -> NDArray[Any]:
        items = dataset.items if items is None else items
        rows = np.full((len(items), self.parts[-1].columns.stop), np.nan)
        index = {item.id: row for row, item in enumerate(items)}
        found = False
        for part in self.parts:
            if part.head.name not in dataset.heads:
                continue
            found = True
            own = replace(dataset, items=tuple(items)).head(part.head.name)
            if own.items:
                given = part.judge.truth(own).reshape(len(own.items), -1)
                rows[[index[item.id] for item in own.items], part.columns] = given
        if not found:
            raise DataError(
                f"data set {dataset.name} has no truth for any head of the model "
                f"({', '.join(part.head.name for part in self.parts)})"
            )
        return rows

    def by_head(self, truth: NDArray[Any], found: NDArray[Any]) -> dict[str, dict[str, float]]:
        """Every metric of each head that has a truth."""
        return {
            part.head.name: {
                name: float(compute(*pair))
                for name, compute in part.judge.metrics.items()
                if part.judge.kind != _CLASSES or name != "Pearson" or part.head.metric == "Pearson"
            }
            for part, pair in _present(self.parts, truth, found)
        }

    def words(self, rows: NDArray[Any]) -> list[dict[str, Any]]:
        """Truth or decisions of each item, by head, as classes' names, lists of labels or of values; no head that has
        no truth.
        """
        words: list[dict[str, Any]] = [{} for _ in rows]
        for part in self.parts:
            known = np.flatnonzero(~np.isnan(rows[:, part.columns.start]))
            for row, own in zip(known, _in_words(part.judge, part.of(rows[known])), strict=True):
                words[row][part.head.name] = own
        return words


def _present(
    parts: Sequence[_Part], truth: NDArray[Any], found: NDArray[Any]
) -> list[tuple[_Part, tuple[NDArray[Any], NDArray[Any]]]]:
    """Heads with truth and decisions of the items that have a truth for them; heads without any are left out."""
    pairs = []
    for part in parts:
        rows = ~np.isnan(truth[:, part.columns.start])
        if rows.any():
            pairs.append((part, (part.of(truth[rows]), part.of(found[rows]))))
    return pairs


def _heads_judge(decode: Heads, names: tuple[str, ...]) -> Judge:
    parts: list[_Part] = []
    scores = columns = 0
    for head in decode.heads:
        if head.metric is None:
            continue
        by = judge(head.decode, head.labels)
        width = 1 if by.kind == _CLASSES else len(head.labels)
        parts.append(
            _Part(
                head,
                by,
                by.function(head.metric),
                slice(scores, scores + len(head.labels)),
                slice(columns, columns + width),
            )
        )
        scores, columns = scores + len(head.labels), columns + width
    if not parts:
        raise ZooError(f"none of the heads {', '.join(names)} names a metric: there is no accuracy to score")

    def decide(rows: NDArray[Any]) -> NDArray[Any]:
        decided = [part.judge.decide(rows[:, part.scores]).reshape(len(rows), -1) for part in parts]
        return np.concatenate(decided, axis=1).astype(np.float64)

    def each(truth: NDArray[Any], found: NDArray[Any]) -> list[float]:
        return [part.metric(*pair) for part, pair in _present(parts, truth, found)]

    return HeadsJudge(
        names,
        decide,
        {
            "heads-mean": lambda truth, found: float(np.mean(each(truth, found))),
            # Not above 0 in one head: no harmonic mean, and no use either.
            "heads-harmonic-mean": lambda truth, found: float(
                np.nan_to_num(metrics.harmonic_mean(each(truth, found)), nan=0.0)
            ),
        },
        _HEADS,
        tuple(parts),
    )


def scores_of(decode: Decode, outputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """What :meth:`Judge.decide` takes, of one item: its engine outputs (without a batch, or one of 1), flat.

    Of heads, the outputs of those that are scored, one after the other.
    """
    if not isinstance(decode, Heads):
        return np.asarray(outputs[decode.output]).ravel()
    scored = [head.decode.output for head in decode.heads if head.metric is not None]
    return np.concatenate([np.asarray(outputs[name]).ravel() for name in scored])


def judge(decode: Decode, labels: Sequence[str]) -> Judge:
    """The judge of models that decode so.

    Raises
    ------
    ZooError
        Embeddings have no truth to compare with.
    """
    names = tuple(labels)
    if isinstance(decode, Heads):
        return _heads_judge(decode, names)
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
                "CCC": _mean_over_columns(metrics.ccc),
                "inverse-MAE": metrics.inverse_mae,
            },
            _VALUES,
        )
    raise ZooError(f"models that decode as {type(decode).__name__.lower()} have no accuracy to score")


@dataclass(frozen=True)
class Evaluation:
    """Figures over one data set; those of a head are called ``<head>/<metric>``. ``interval`` is the headline metric's 95 % bootstrap interval over items;
    ``group_interval`` resamples whole groups (speakers), or None where there are fewer than three.

    ``confusion`` is that of classes, empty for labels, values and heads. ``predicted`` holds a class, several labels or
    several values for each item; of heads, these by the head's name. ``readings``, of classes: ``<number>way``, all labels
    that the model has, and ``present_only``, those that occur in the data set; see :func:`zoo.metrics.class_figures`.
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
    readings: dict[str, ClassFigures] = field(default_factory=dict)


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
        Raw input to what :func:`scores_of` gives: one number for each of ``labels``, in that order.
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
    table = np.stack(scores)
    found = by.decide(table)
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
    readings: dict[str, ClassFigures] = {}
    predicted: tuple[Any, ...]
    if by.kind == _CLASSES:
        matrix = metrics.confusion(truth, found, len(labels))
        confusion = matrix.tolist()
        figures |= {
            f"recall/{labels[i]}": float(matrix[i, i] / matrix[i].sum()) for i in sorted(set(truth.tolist()))
        }
        predicted = tuple(_in_words(by, found))
        readings = {
            f"{len(labels)}way": metrics.class_figures(truth, table),
            "present_only": metrics.class_figures(truth, table, present_only=True),
        }
    elif isinstance(by, HeadsJudge):
        predicted = tuple(by.words(found))
        for name, own in by.by_head(truth, found).items():
            figures |= {f"{name}/{each}": value for each, value in own.items()}
    else:
        predicted = tuple(_in_words(by, found))
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
        readings=readings,
    )


@dataclass(frozen=True)
class CurveEvaluation:
    """Figures of curves, called ``<head>/<figure>`` as of :func:`zoo.curves.judged`: means over films, a film's own, and
    95 % bootstrap intervals over films where there are three or more. NaN: no film has it, as Pearson of a flat curve.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    films: dict[str, dict[str, float]]
    steps: dict[str, int]


def evaluate_curves(
    predict: Callable[[Path], Mapping[str, tuple[NDArray[np.int64], int]]],
    films: Sequence[Annotated],
    decode: Decode,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> CurveEvaluation:
    """Score a model that gives curves, film by film.

    Parameters
    ----------
    predict : callable
        A film to the bin of each step, and how many bins there are, by head.
    films : sequence of Annotated
    decode : Heads of Curve

    Raises
    ------
    DataError
        There are no films, one has no annotation of a head, or the model refuses it.
    ZooError
        The model gives no curves by head.
    """
    heads = [head for head in getattr(decode, "heads", ()) if isinstance(head.decode, Curve)]
    if not heads:
        raise ZooError("the model gives no curves by head: it is not scored on films")
    if not films:
        raise DataError("no films to score")
    of_films: dict[str, dict[str, float]] = {}
    steps: dict[str, int] = {}
    for i, film in enumerate(films):
        unknown = sorted({head.name for head in heads} - set(film.values))
        if unknown:
            raise DataError(f"film {film.name} has no annotation of {unknown[0]}")
        try:
            found = predict(film.path)
        except InputError as error:
            raise DataError(f"film {film.name}: {error}") from error
        figures: dict[str, float] = {}
        for head in heads:
            spec = head.decode
            assert isinstance(spec, Curve)
            bins, count = found[head.name]
            seconds = moments_of(0, len(bins), spec.period)
            true = film.bins(seconds, count=count, span=spec.range)[head.name]
            told = judged(true, bins[: len(true)], count=count, span=spec.range, smooth=spec.smooth)
            figures |= {f"{head.name}/{name}": value for name, value in told.items()}
            steps[film.name] = len(true)
        of_films[film.name] = figures
        if progress:
            progress("scoring", i + 1, len(films))
    table = {name: np.array([one[name] for one in of_films.values()]) for name in figures}
    several = len(films) >= 3
    return CurveEvaluation(
        metrics={name: _mean(values) for name, values in table.items()},
        intervals={
            name: metrics.bootstrap_interval(lambda truth, _: _mean(truth), values, values)
            for name, values in table.items()
            if several
        },
        films=of_films,
        steps=steps,
    )


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _in_words(by: Judge, found: NDArray[Any]) -> list[Any]:
    """Decisions as classes' names, lists of labels, or lists of values."""
    if by.kind == _CLASSES:
        return [by.labels[int(i)] for i in found]
    if by.kind == _LABELS:
        return [[name for name, given in zip(by.labels, row, strict=True) if given] for row in found]
    return list(found.tolist())


def _mean_over_columns(function: _Function) -> _Function:
    def mean(truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        return float(np.mean([function(truth[:, i], predicted[:, i]) for i in range(truth.shape[1])]))

    return mean
