# SPDX-License-Identifier: Apache-2.0
"""Real inputs: stratified choice, derived clips."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data import Dataset, Item
from zoo.errors import DataError
from zoo.export.inputs import Raw, derived_inputs, golden_inputs, stratified, to_int16


def dataset(counts: list[int]) -> Dataset:
    items = [
        Item(f"{label}-{i}", Path("x"), label, "g")
        for label, count in enumerate(counts)
        for i in range(count)
    ]
    return Dataset("d", tuple(str(i) for i in range(len(counts))), tuple(items), "CC0-1.0")


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(1, 200))
def test_the_choice_has_the_shares_of_the_whole(counts: list[int], count: int) -> None:
    data = dataset(counts)
    chosen = stratified(data, data.items, count)
    assert len(chosen) == min(count, sum(counts))
    assert len({item.id for item in chosen}) == len(chosen)
    assert chosen == stratified(data, data.items, count)
    found = Counter(item.label for item in chosen)
    for label, total in enumerate(counts):
        exact = count * total / max(sum(counts), 1)
        if count >= 2 * len(counts) and count < sum(counts):
            assert abs(found[label] - exact) <= len(counts)
            assert found[label] >= 1 or total == 0


def test_derived_clips_are_distinct_and_the_same_in_every_run(toy) -> None:
    clips = golden_inputs(toy.card)
    made = derived_inputs(clips, 64)
    assert len({clip.samples.tobytes() for clip in made}) == 64
    assert all(
        np.array_equal(a.samples, b.samples) for a, b in zip(made, derived_inputs(clips, 64), strict=True)
    )
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(made, clips, strict=False))
    with pytest.raises(DataError, match="too short to derive"):
        derived_inputs([Raw(np.zeros(1, np.int16), 8000)], 64)


def test_int16_is_exact() -> None:
    samples = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16)
    assert np.array_equal(to_int16(samples.astype(np.float32) / 32768), samples)
    assert to_int16(np.array([2.0, -2.0])).tolist() == [32767, -32768]
