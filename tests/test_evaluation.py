# SPDX-License-Identifier: Apache-2.0
"""Scoring of classes, labels and values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import f1_score, jaccard_score

from zoo.data import Dataset, Item
from zoo.errors import DataError, ZooError
from zoo.evaluation import evaluate, judge, scores_of
from zoo.specs import Embedding, Head, Heads, Regression, Sigmoid, Softmax, decode_problem

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


HEADS = Heads(
    heads=(
        Head(name="mood", labels=("bad", "good"), metric="UAR", decode=Softmax(output="p")),
        Head(
            name="age",
            labels=("age",),
            metric="inverse-MAE",
            decode=Regression(output="v", range=(0.0, 99.0)),
        ),
        Head(name="vector", decode=Embedding(output="e")),
        Head(
            name="tags",
            labels=("a", "b"),
            metric="Jaccard",
            decode=Sigmoid(output="t", thresholds=(0.5, 0.5)),
        ),
    )
)


def test_each_head_is_scored_on_the_items_that_have_its_truth() -> None:
    moods, ages = RNG.integers(0, 2, 40), RNG.uniform(20, 60, 40)
    tags = RNG.integers(0, 2, (40, 2))
    scores = np.column_stack([RNG.random((40, 2)), ages + RNG.normal(0, 3, 40), RNG.random((40, 2))])
    items = []
    for i in range(40):
        truth = {"age": (float(ages[i]),), "tags": tuple(tags[i].tolist())}
        if i % 3:  # the data set's classes stand in another order
            truth["mood"] = 1 - int(moods[i])
        items.append(Item(str(i), str(i), truth, f"g{i % 4}"))
    labels = {"age": ("age",), "mood": ("good", "bad"), "tags": ("a", "b")}
    data = Dataset("d", tuple(labels), tuple(items), "CC0-1.0", heads=labels)
    names = tuple(head.name for head in HEADS.heads)
    result = evaluate(
        lambda text: scores[int(text)], data, decode=HEADS, labels=names, metric="heads-harmonic-mean"
    )
    some = np.arange(40) % 3 > 0
    recalls = [np.mean(scores[some & (moods == c), :2].argmax(1) == c) for c in (0, 1)]
    mae = np.abs(ages - scores[:, 2]).mean()
    assert result.metrics["mood/UAR"] == pytest.approx(np.mean(recalls))
    assert result.metrics["age/inverse-MAE"] == pytest.approx(1 / mae)
    expected = jaccard_score(tags, scores[:, 3:] >= 0.5, average="samples", zero_division=1.0)
    assert result.metrics["tags/Jaccard"] == pytest.approx(expected)
    assert result.metrics["heads-mean"] == pytest.approx((np.mean(recalls) + 1 / mae + expected) / 3)
    harmonic = 3 / (1 / np.mean(recalls) + mae + 1 / expected)
    assert result.metrics["heads-harmonic-mean"] == pytest.approx(harmonic)
    assert result.interval[0] <= harmonic <= result.interval[1]
    assert set(result.predicted[0]) == {"mood", "age", "tags"}
    assert data.truth(items[1]).startswith(f"age: age={float(ages[1])!r}; mood: ")
    other = Dataset("d", ("x",), (Item("0", "0", {"x": 0}, "g"),), "CC0-1.0", heads={"x": ("u", "v")})
    with pytest.raises(DataError, match="no truth for any head"):
        judge(HEADS, names).truth(other)


def test_scores_of_heads_stand_side_by_side_without_the_embedding() -> None:
    outputs = {"p": np.array([0.1, 0.9]), "v": np.array([[30.0]]), "e": np.ones(4), "t": np.array([0.2, 0.3])}
    assert scores_of(HEADS, outputs).tolist() == [0.1, 0.9, 30.0, 0.2, 0.3]
    assert scores_of(Softmax(output="p"), outputs).tolist() == [0.1, 0.9]


@pytest.mark.parametrize(
    ("labels", "decode", "problem"),
    [
        (("mood",), HEADS, "they are the heads' names"),
        (("a", "b"), Sigmoid(output="p", thresholds=(0.5,)), "1 thresholds for 2 labels"),
        (("a", "a"), Softmax(output="p"), "a label twice"),
        (("a",), Regression(output="p", range=(1.0, 1.0)), "is empty"),
        (
            ("x",),
            Heads(heads=(Head(name="x", labels=("a",), decode=Sigmoid(output="p", thresholds=())),)),
            "head x: 0 thresholds",
        ),
    ],
)
def test_labels_and_decoding_that_contradict_each_other(labels, decode, problem: str) -> None:
    assert problem in (decode_problem(decode, labels) or "")
