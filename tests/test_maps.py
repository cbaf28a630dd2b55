# SPDX-License-Identifier: Apache-2.0
"""Maps of embeddings: the plane beside scikit-learn's PCA, and the picture."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.errors import InputError
from zoo.maps import draw_map, plane


def test_the_plane_is_that_of_pca() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    vectors = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32) * np.arange(
        1, 8, dtype=np.float32
    )
    points, shares = plane(vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pca = decomposition.PCA(2).fit(unit)
    assert np.abs(points) == pytest.approx(np.abs(pca.transform(unit)), abs=1e-6)
    assert shares == pytest.approx(pca.explained_variance_ratio_, abs=1e-6)
    assert (points[np.abs(points).argmax(axis=0), [0, 1]] > 0).all()


def test_length_does_not_count_and_the_map_is_the_same_again() -> None:
    vectors = np.random.default_rng(1).normal(size=(9, 16)).astype(np.float32)
    points, _ = plane(vectors)
    assert plane(vectors * 7)[0] == pytest.approx(points, abs=1e-6)
    assert np.array_equal(plane(vectors)[0], points)


def test_all_the_same_is_one_point() -> None:
    points, shares = plane(np.ones((4, 3), np.float32))
    assert np.abs(points).max() < 1e-7
    assert max(shares) < 1e-3
    assert plane(np.ones((3, 1), np.float32))[0].shape == (3, 2)


def test_too_few_or_not_finite_is_told() -> None:
    with pytest.raises(InputError, match="needs 3 inputs or more; there are 2"):
        plane(np.ones((2, 4), np.float32))
    with pytest.raises(InputError, match="finite"):
        plane(np.full((3, 4), np.nan, np.float32))


def test_the_picture_shows_labels_and_differs_with_them() -> None:
    pytest.importorskip("matplotlib")
    points = np.array([[0.0, 0], [1, 0], [0, 1]])
    names = ["a.jpg", "b.jpg", "c.jpg"]
    plain = draw_map(points, (0.7, 0.2), names, ["", "", ""], title="t")
    labelled = draw_map(points, (0.7, 0.2), names, ["joy", "fear", "joy"], title="t")
    assert plain[:4] == labelled[:4] == b"\x89PNG"
    assert plain != labelled
    many = draw_map(np.zeros((61, 2)), (0, 0), ["x"] * 61, [""] * 61, title="t")
    assert many[:4] == b"\x89PNG"
