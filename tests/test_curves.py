# SPDX-License-Identifier: Apache-2.0
"""The smoothing of curves, against SciPy's filters; the manifest's description of it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter
from scipy.signal import butter, lfilter, savgol_filter

from zoo.curves import curve, moving_mean, moving_median
from zoo.errors import InputError
from zoo.specs import Curve, Decode, Head, Heads, Regression, Smooth, decode_problem

PUBLISHED = Smooth(cutoff=3.667, rate=30.0, order=6, mean=701, median=3)


def walk(n: int, seed: int) -> np.ndarray:
    steps = np.random.default_rng(seed).integers(-1, 2, n)
    return np.clip(3 + np.cumsum(steps), 0, 6)


@pytest.mark.parametrize(("n", "window"), [(3000, 701), (1321, 1321), (20000, 1321)])
def test_the_published_chain_is_scipys(n: int, window: int) -> None:
    bins = walk(n, window)
    filtered = lfilter(*butter(6, 3.667, fs=30), bins)
    averaged = savgol_filter(filtered, window, 0)
    expected = median_filter((averaged - 3) / 3, 3, mode="nearest")
    found = curve(bins, count=7, smooth=msgspec.structs.replace(PUBLISHED, mean=window))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_without_smoothing_the_ends_are_those_of_the_range() -> None:
    np.testing.assert_allclose(curve([0, 3, 6], count=7), [-1, 0, 1], atol=1e-7)
    np.testing.assert_allclose(curve([0, 4], count=5, span=(1.0, 9.0)), [1, 9])


@settings(max_examples=60)
@given(n=st.integers(1, 60), window=st.integers(0, 40).map(lambda k: 2 * k + 1), seed=st.integers(0, 99))
def test_means_and_medians_of_any_length(n: int, window: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(0, 3, n)
    fits = min(window, n if n % 2 else n - 1)
    half = fits // 2
    inside = [values[i - half : i + half + 1] for i in range(half, n - half)]
    means = [np.mean(part) for part in inside]
    expected = [means[0]] * half + means + [means[-1]] * half
    np.testing.assert_allclose(moving_mean(values, window), expected, atol=1e-12)
    np.testing.assert_array_equal(
        moving_median(values, window), median_filter(values, fits, mode="nearest") if fits > 1 else values
    )


def test_bins_outside_their_range_are_refused() -> None:
    for bins, message in (
        ([], "integers, shape"),
        ([[1]], "integers, shape"),
        ([0.5], "integers, shape"),
        ([0, 7], r"lie in 0\.\.7; there are 7"),
        ([-1], r"lie in -1\.\."),
    ):
        with pytest.raises(InputError, match=message):
            curve(np.array(bins), count=7)


def test_what_does_not_fit_is_told_by_card_and_manifest() -> None:
    def one(**changes: object) -> Curve:
        return msgspec.convert(
            {"type": "curve", "output": "y", "period": 0.04, "window": 0.4, **changes}, Curve
        )

    def heads(*decodes: Curve | Regression) -> Decode:
        return Heads(heads=tuple(Head(name=f"h{i}", decode=d) for i, d in enumerate(decodes)))

    assert decode_problem(one(), ("v",)) is None
    assert decode_problem(heads(one(), one(range=(0, 1))), ("h0", "h1")) is None
    for decode, labels, message in (
        (one(range=(1, 1)), ("v",), "is empty"),
        (one(smooth={"mean": 4}), ("v",), "must be odd"),
        (one(smooth={"cutoff": 15.0, "rate": 30.0}), ("v",), "not below half"),
        (heads(one(), Regression(output="y", range=(0, 1))), ("h0", "h1"), "curves beside other answers"),
        (heads(one(), one(period=1)), ("h0", "h1"), "share period and window"),
    ):
        assert message in str(decode_problem(decode, labels))
