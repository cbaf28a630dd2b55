# SPDX-License-Identifier: Apache-2.0
"""The comparison on an unseen data set: folds, probe and neighbours, triplets of known vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from zoo import registry
from zoo.pipeline import Pipeline

pytest.importorskip("torch", reason="torch is not installed")

from zoo.models.deepfever import generalise
from zoo.models.deepfever.model import build
from zoo.models.neurogaze_distill.train import Jury, trained


def test_a_subject_stays_in_one_fold_and_folds_are_about_equal() -> None:
    rng = np.random.default_rng(0)
    groups = [str(subject) for subject, count in enumerate(rng.integers(3, 15, 59)) for _ in range(count)]
    fold = generalise.folds(groups)
    for group in set(groups):
        assert len({int(fold[i]) for i, own in enumerate(groups) if own == group}) == 1
    sizes = np.bincount(fold, minlength=10)
    assert sizes.min() > 0.8 * sizes.mean()
    shuffled = rng.permutation(len(groups))
    again = generalise.folds([groups[i] for i in shuffled])
    assert np.array_equal(again, fold[shuffled])


def test_the_probe_is_logistic_regression() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 150)
    rows = (rng.normal(size=(150, 6)) + 1.2 * np.eye(3, 6)[labels]).astype(np.float32)
    train, test = rows[:100], rows[100:]
    found = generalise.linear_probe(train, labels[:100], test, 3)
    mean, std = train.mean(axis=0), train.std(axis=0) + 1e-6
    other = linear.LogisticRegression(C=1.0, max_iter=1000, tol=1e-8).fit((train - mean) / std, labels[:100])
    assert np.array_equal(found, other.predict((test - mean) / std))


def test_neighbours_vote_and_the_nearer_part_ties() -> None:
    angles = np.radians([0, 2, 4, 60, 62, 90])
    train = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32) * [
        [3],
        [1],
        [1],
        [9],
        [1],
        [1],
    ]
    labels = np.array([0, 0, 0, 1, 1, 2])
    test = np.array([[1, 0.01], [0.5, 0.85]], np.float32)
    # Five of six vote: 3 of class 0 and 2 of class 1; near 60 degrees 2 of 1, 1 of 2, and 2 of 0, which lie further.
    assert generalise.nearest(train.astype(np.float32), labels, test, 3).tolist() == [0, 1]


def test_no_item_is_told_by_its_own_fold() -> None:
    fold = np.array([0, 0, 1, 1])
    seen: list[set[int]] = []

    def decide(train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int) -> np.ndarray:
        assert not set(train[:, 0].tolist()) & set(test[:, 0].tolist())
        seen.append(set(test[:, 0].astype(int).tolist()))
        return labels[: len(test)]

    features = np.arange(4, dtype=np.float32)[:, None]
    assert generalise.held_out(features, np.array([5, 6, 7, 8]), fold, decide, 9).tolist() == [7, 8, 5, 6]
    assert seen == [{0, 1}, {2, 3}]


def test_triplets_of_the_votes_themselves_are_all_right_and_of_noise_a_third() -> None:
    rng = np.random.default_rng(2)
    votes = np.eye(8, dtype=np.float32)[rng.integers(0, 8, 300)]
    perfect = generalise.triplet_figures(votes, votes)
    assert (perfect["accuracy"], perfect["interval"]) == (1.0, [1.0, 1.0])
    assert set(perfect["by_classes"]) == {"2"}
    noise = generalise.triplet_figures(rng.normal(size=(300, 16)).astype(np.float32), votes)
    assert noise["interval"][0] < noise["accuracy"] < noise["interval"][1]
    assert noise["accuracy"] == pytest.approx(1 / 3, abs=0.05)


def test_committed_weights_give_the_committed_figures(data_root: Path) -> None:
    card, _ = registry.find("deepfever")
    pipeline = Pipeline(card.file.variants[0].pipeline)
    jury = Jury(data_root)
    figures = json.loads((card.folder / "results" / "generalisation.json").read_text())["nets"]
    for variant in card.file.variants:
        net = trained(variant.name, card.folder, build)
        own = json.loads((card.folder / "results" / f"{variant.name}.1.json").read_text())
        # Other CPUs round otherwise: a face or three may change sides.
        found = jury.score(net, pipeline)
        assert found == pytest.approx(own["metrics"]["WAR"], abs=0.001)
        assert found == pytest.approx(figures[variant.name]["valid_accuracy"], abs=0.001)
        assert {q.metric: q.value for q in variant.quality}["heads-mean"] == pytest.approx(found, abs=0.001)
