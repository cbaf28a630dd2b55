# SPDX-License-Identifier: Apache-2.0
"""Pseudo-triplets: the divergence beside SciPy's, the choice by hand, the objective and its accuracy by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")

from zoo.models.deepfever import triplets  # noqa: E402

HAPPY, SAD, MIXED = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.9, 0.0, 0.1]


def rows(*distributions: list[float]) -> np.ndarray:
    return np.array(distributions, np.float32)


def test_divergence_is_scipys_squared_distance() -> None:
    distance = pytest.importorskip("scipy.spatial.distance").jensenshannon
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.full(8, 0.3), 50), rng.dirichlet(np.full(8, 0.3), 50)
    wanted = [distance(a, b, base=2) ** 2 for a, b in zip(p, q, strict=True)]
    assert np.allclose(triplets.divergence(p, q), wanted, atol=1e-12)
    assert triplets.divergence(np.array([[1.0, 0]]), np.array([[0, 1.0]])).tolist() == [1.0]


def test_the_odd_one_is_outside_the_closest_pair_whatever_the_order() -> None:
    votes = rows(HAPPY, SAD, MIXED)
    for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1)):
        chosen, types = triplets.choose(votes, np.array([order]))
        assert set(chosen[0, :2].tolist()) == {0, 2}
        assert (chosen[0, 2], types[0]) == (1, 2)


def test_what_the_votes_are_not_clear_about_is_left_out() -> None:
    third = [0.0, 0.0, 1.0]
    chosen, types = triplets.choose(rows(HAPPY, SAD, third), np.array([[0, 1, 2]]))  # all equally far
    assert (chosen.shape, types.shape) == ((0, 3), (0,))


def test_types_count_the_classes_and_set_the_margin() -> None:
    votes = rows(HAPPY, [0.55, 0.45, 0.0], [0.55, 0.0, 0.45], [0.52, 0.48, 0.0])
    _, types = triplets.choose(votes, np.array([[1, 3, 2]]))
    assert types.tolist() == [1]
    assert triplets.margins(np.array([1, 2, 3])).tolist() == pytest.approx([0.1, 0.2, 0.2])


@given(st.integers(0, 40), st.integers(0, 60), st.integers(0, 9))
def test_drawn_rows_differ_and_exist(n: int, count: int, seed: int) -> None:
    drawn = triplets.draw(n, count, np.random.default_rng(seed))
    assert len(drawn) <= count
    assert drawn.size == 0 or 0 <= drawn.min() <= drawn.max() < n
    assert all(len(set(row)) == 3 for row in drawn.tolist())


def test_loss_and_accuracy_by_hand() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    # Squared distances: 0.4 between the first two, 2.0 and 0.8 to the third.
    right, wrong = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 2, 1]])
    margin = torch.tensor([0.2])
    assert float(triplets.loss(vectors, right, margin)) == 0.0
    assert float(triplets.loss(vectors, right, torch.tensor([0.5]))) == pytest.approx(0.1)
    assert float(triplets.loss(vectors, wrong, margin)) == pytest.approx((2 - 0.4 + 0.2) + (2 - 0.8 + 0.2))
    both = torch.cat([right, wrong])
    assert triplets.correct(vectors.numpy(), both.numpy()).tolist() == [True, False]


def test_no_triplet_costs_nothing_and_learning_one_brings_the_pair_together() -> None:
    weights = torch.tensor([[1.0, 0.1], [0.1, 1.0], [0.9, 0.0]], requires_grad=True)
    none = triplets.loss(weights, torch.empty(0, 3, dtype=torch.int64), torch.empty(0))
    assert float(none) == 0.0
    solver = torch.optim.SGD([weights], lr=0.1)
    for _ in range(100):
        solver.zero_grad()
        unit = torch.nn.functional.normalize(weights)
        triplets.loss(unit, torch.tensor([[0, 1, 2]]), torch.tensor([0.2])).backward()
        solver.step()
    unit = torch.nn.functional.normalize(weights).detach().numpy()
    assert triplets.correct(unit, np.array([[0, 1, 2]])).all()
