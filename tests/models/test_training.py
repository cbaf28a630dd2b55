# SPDX-License-Identifier: Apache-2.0
"""What the trainers share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from zoo.models.training import fresh, one_thread  # noqa: E402


def slow(config: Mapping[str, object]) -> torch.nn.Module:
    """Two layers with a pause between them, in which another thread may draw."""
    first = torch.nn.Linear(4, 4)
    time.sleep(0.005)
    return torch.nn.Sequential(first, torch.nn.Linear(4, 4))


def test_networks_built_at_once_are_those_of_their_seeds() -> None:
    def weights(seed: int) -> list[float]:
        return [
            float(value) for part in fresh(slow, {}, seed).parameters() for value in part.detach().ravel()
        ]

    alone = {seed: weights(seed) for seed in range(3)}
    assert len({tuple(values) for values in alone.values()}) == 3
    seeds = [seed % 3 for seed in range(24)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(weights, seeds))
    assert found == [alone[seed] for seed in seeds]


def test_other_draws_are_not_disturbed() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fresh(slow, {}, 1)
    assert torch.equal(torch.rand(3), expected)


def test_one_thread_is_given_back_after_an_error() -> None:
    before = torch.get_num_threads()
    inside = []

    def fail() -> None:
        with one_thread():
            inside.append(torch.get_num_threads())
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert inside == [1]
    assert torch.get_num_threads() == before
