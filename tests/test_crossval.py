# SPDX-License-Identifier: Apache-2.0
"""What trainers share: arrays that are computed once, and the scores of several heads with gaps in the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo import crossval, metrics, registry
from zoo.data import Dataset, Item
from zoo.errors import DataError


def test_cached_arrays_are_computed_once(tmp_path: Path) -> None:
    path, calls = tmp_path / "new" / "a.npz", []

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"x": np.arange(3.0), "net/y": np.array(2)}

    for _ in range(2):
        found = crossval.cached(path, "key", compute)
        np.testing.assert_array_equal(found["x"], [0, 1, 2])
        assert set(found) == {"x", "net/y"}
    assert len(calls) == 1
    crossval.cached(path, "key", compute, resume=False)
    assert len(calls) == 2
    assert [each.name for each in path.parent.iterdir()] == ["a.npz"]


def test_cached_files_of_others_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    crossval.cached(path, "key", lambda: {"x": np.zeros(1000)})
    with pytest.raises(DataError, match="checkpoint of another training"):
        crossval.cached(path, "other", dict)
    whole = path.read_bytes()
    for bad in (b"", b"no", whole[:500], whole[:-30]):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=r"is no checkpoint of this training .*delete it or start anew"):
            crossval.cached(path, "key", dict)


def test_nothing_is_kept_of_a_computation_that_fails(tmp_path: Path) -> None:
    def fail() -> dict[str, np.ndarray]:
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        crossval.cached(tmp_path / "a.npz", "key", fail)
    assert not list(tmp_path.iterdir())


def test_heads_are_scored_where_they_have_a_truth() -> None:
    variant = registry.find("ser-embedding-small")[1]
    by = crossval.heads_judge(variant)
    assert by is not None
    emotions = variant.decode.heads[0].labels
    given = [{"emotion": 1, "sex": 0, "age": (30.0,)}, {"emotion": 2}, {"sex": 1, "age": (25.0,)}]
    items = tuple(Item(str(i), "text", label, "g") for i, label in enumerate(given))
    heads = {"emotion": emotions, "sex": ("female", "male"), "age": ("age",)}
    truth = by.truth(Dataset("some", tuple(heads), items, "none", heads=heads))
    assert by.words(truth) == [
        {"emotion": "boredom", "sex": "female", "age": [30.0]},
        {"emotion": "disgust"},
        {"sex": "male", "age": [25.0]},
    ]
    scores = np.zeros((3, 10), np.float32)
    scores[:, 1], scores[:, 7], scores[:, 9] = 0.9, 0.8, 28.0  # boredom, female, 28 for everyone
    found = by.decide(scores)
    emotion, sex, age = by.parts
    assert emotion.scorer(metrics.uar)(truth, found) == 0.5
    assert sex.scorer(metrics.accuracy)(truth, found) == 0.5
    assert age.scorer(metrics.mae)(truth, found) == 2.5
    assert by.metrics["heads-mean"](truth, found) == pytest.approx((0.5 + 0.5 + 1 / 2.5) / 3)


def test_one_answer_has_no_heads() -> None:
    assert crossval.heads_judge(registry.find("tim-net-emodb")[1]) is None
