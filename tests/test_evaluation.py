# SPDX-License-Identifier: Apache-2.0
"""Scoring of classes, labels and values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import f1_score, jaccard_score

from zoo.data import Dataset, Item
from zoo.errors import DataError, ZooError
from zoo.evaluation import evaluate, judge
from zoo.specs import Embedding, Regression, Sigmoid, Softmax

RNG = np.random.default_rng(0)


def dataset(labels: tuple[str, ...], truth: list) -> Dataset:
    return Dataset(
        "d", labels, tuple(Item(str(i), str(i), row, f"g{i % 4}") for i, row in enumerate(truth)), "CC0-1.0"
    )


def test_labels_by_the_metrics_of_scikit_learn() -> None:
    truth, scores = RNG.integers(0, 2, (60, 4)), RNG.random((60, 4))
    scores[:5], truth[:3] = 0, 0  # nothing true and nothing found counts as right
    names = ("a", "b", "c", "d")
    shuffled = dataset(names[::-1], [tuple(row[::-1]) for row in truth.tolist()])
    result = evaluate(
        lambda text: scores[int(text)],
        shuffled,
        decode=Sigmoid(output="p", thresholds=(0.5,) * 4),
        labels=names,
        metric="Jaccard",
    )
    found = (scores >= 0.5).astype(int)
    assert result.metrics["Jaccard"] == pytest.approx(
        jaccard_score(truth, found, average="samples", zero_division=1.0)
    )
    assert result.metrics["micro-F1"] == pytest.approx(f1_score(truth, found, average="micro"))
    assert result.metrics["macro-F1"] == pytest.approx(f1_score(truth, found, average="macro"))
    assert result.interval[0] < result.metrics["Jaccard"] < result.interval[1]
    assert result.predicted[7] == [name for name, given in zip(names, found[7], strict=True) if given]
    assert result.confusion == []


def test_values_and_ordered_classes_by_pearson() -> None:
    truth = RNG.random(80)
    scores = truth + RNG.normal(0, 0.3, 80)
    result = evaluate(
        lambda text: [scores[int(text)]],
        dataset(("joy",), [(value,) for value in truth.tolist()]),
        decode=Regression(output="v", range=(0.0, 1.0)),
        labels=("joy",),
        metric="Pearson",
    )
    clipped = scores.clip(0, 1)
    high = truth >= 0.5
    assert result.metrics["Pearson"] == pytest.approx(pearsonr(truth, clipped)[0])
    assert result.metrics["Pearson-some"] == pytest.approx(pearsonr(truth[high], clipped[high])[0])
    classes, logits = RNG.integers(0, 3, 50), RNG.random((50, 3))
    nominal = {"decode": Softmax(output="p"), "labels": ("low", "mid", "top")}
    ordered = evaluate(
        lambda text: logits[int(text)],
        dataset(("low", "mid", "top"), classes.tolist()),
        metric="Pearson",
        **nominal,
    )
    assert ordered.metrics["Pearson"] == pytest.approx(pearsonr(classes, logits.argmax(1))[0])
    plain = evaluate(
        lambda text: logits[int(text)],
        dataset(("low", "mid", "top"), classes.tolist()),
        metric="UAR",
        **nominal,
    )
    assert "Pearson" not in plain.metrics


def test_what_does_not_go_together_is_refused() -> None:
    sigmoid = judge(Sigmoid(output="p", thresholds=(0.5, 0.5)), ("a", "b"))
    with pytest.raises(ZooError, match="labels are not scored by UAR; choose one of Jaccard"):
        sigmoid.function("UAR")
    with pytest.raises(DataError, match="gives a class to each item"):
        sigmoid.truth(dataset(("a", "b"), [0, 1]))
    softmax = judge(Softmax(output="p"), ("a", "b"))
    with pytest.raises(DataError, match="gives no class to each item"):
        softmax.truth(dataset(("a", "b"), [(0, 1)]))
    with pytest.raises(DataError, match="has labels a, b; the model has"):
        judge(Softmax(output="p"), ("a", "c")).truth(dataset(("a", "b"), [0]))
    with pytest.raises(ZooError, match="embedding have no accuracy"):
        judge(Embedding(output="e"), ())
    with pytest.raises(DataError, match="is empty"):
        evaluate(
            lambda text: [0.0], dataset(("a",), []), decode=Softmax(output="p"), labels=("a",), metric="UAR"
        )
