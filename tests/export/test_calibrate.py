# SPDX-License-Identifier: Apache-2.0
"""Activation ranges: streamed histograms against direct computation, refusals, records."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.data import open_dataset
from zoo.errors import DataError
from zoo.export import calibrate, quantize
from zoo.export.calibrate import Histogram

METHODS = ("minmax", "percentile", "entropy", "mse")


def filled(chunks: list[np.ndarray]) -> Histogram:
    histogram = Histogram()
    for chunk in chunks:
        histogram.add(chunk)
    return histogram


def test_a_histogram_does_not_depend_on_chunks_and_order() -> None:
    values = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    values[777] = 9.0
    whole = filled([values])
    for parts in (np.array_split(values, 50), np.array_split(values[::-1], 7)):
        other = filled(parts)
        assert other.counts.sum() == whole.counts.sum() == 20000
        for method in METHODS:
            # Ranges double as larger values come, so bins may be up to twice as wide.
            assert other.threshold(method) == pytest.approx(whole.threshold(method), rel=0.05)


def test_thresholds_against_direct_computation() -> None:
    values = np.random.default_rng(1).laplace(size=200_000).astype(np.float32)
    histogram = filled(np.array_split(values, 20))
    magnitude = np.abs(values)
    assert histogram.threshold("minmax") == magnitude.max()
    assert histogram.threshold("percentile") == pytest.approx(
        np.quantile(magnitude, calibrate.PERCENTILE), rel=0.02
    )

    def error(limit: float) -> float:
        scale = limit / 127
        return float(np.mean((values - np.clip(np.rint(values / scale), -127, 127) * scale) ** 2))

    candidates = np.linspace(0.2, 1, 81) * magnitude.max()
    best = min(error(limit) for limit in candidates)
    assert error(histogram.threshold("mse")) <= 1.02 * best
    assert error(histogram.threshold("entropy")) <= 3 * best
    assert histogram.threshold("entropy") < magnitude.max()


@pytest.mark.parametrize("method", METHODS)
def test_degenerate_tensors(method: str) -> None:
    assert filled([np.zeros(10, np.float32)]).threshold(method) > 0
    assert filled([np.zeros(10, np.float32), np.ones(3, np.float32)]).threshold(method) == pytest.approx(
        1, rel=0.02
    )
    assert filled([np.full(5, 3.0, np.float32)]).threshold(method) == pytest.approx(3, rel=0.02)


def test_choice_is_stratified_and_leaves_groups_out(toy) -> None:
    dataset = open_dataset(toy.card, toy.variant.data, toy.data)
    chosen = calibrate.choose(dataset, without=["a"], count=130)
    assert len(chosen.items) == 130
    assert {item.group for item in chosen.items} == {"b", "c", "d"}
    counts = [sum(item.label == label for item in chosen.items) for label in range(3)]
    assert max(counts) - min(counts) <= 1
    with pytest.raises(DataError, match="has 48 items for calibration, INT8 needs 128"):
        calibrate.choose(dataset, without=["a", "b", "c"])


def test_the_record_names_items_and_changes_with_them(toy) -> None:
    dataset = open_dataset(toy.card, toy.variant.data, toy.data)
    chosen = calibrate.choose(dataset)
    record = chosen.record(toy.variant, "mse")
    assert record.data == "toy-tones"
    assert record.items == tuple(item.id for item in dataset.items)
    digests = {
        record.sha256,
        chosen.record(toy.variant, "minmax").sha256,
        calibrate.choose(dataset, count=150).record(toy.variant, "mse").sha256,
    }
    assert len(digests) == 3


def test_no_inputs_are_refused_and_nan_is_named(toy) -> None:
    names = [name for layer in quantize.layers(toy.graph.model) for name in layer.data]
    with pytest.raises(DataError, match="needs calibration data: give --data DIR"):
        calibrate.record(toy.graph.model, names, [])
    with pytest.raises(DataError, match=r"calibration input 0: tensor .* is not finite"):
        calibrate.record(toy.graph.model, names, [(np.full((16, 12), np.nan, np.float32),)])
