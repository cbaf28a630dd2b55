# SPDX-License-Identifier: Apache-2.0
"""Oracles: scikit-learn for the figures, scipy-free closed forms for the intervals."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import metrics
from zoo.errors import DataError

RNG = np.random.default_rng(3)
TRUTH = RNG.integers(0, 5, 400)
FOUND = np.where(RNG.random(400) < 0.7, TRUTH, RNG.integers(0, 5, 400))


def test_figures_equal_scikit_learn() -> None:
    oracle = pytest.importorskip("sklearn.metrics")
    np.testing.assert_array_equal(metrics.confusion(TRUTH, FOUND), oracle.confusion_matrix(TRUTH, FOUND))
    assert metrics.uar(TRUTH, FOUND) == pytest.approx(
        oracle.recall_score(TRUTH, FOUND, average="macro"), abs=1e-12
    )
    assert metrics.accuracy(TRUTH, FOUND) == pytest.approx(oracle.accuracy_score(TRUTH, FOUND), abs=1e-12)
    assert metrics.macro_f1(TRUTH, FOUND) == pytest.approx(
        oracle.f1_score(TRUTH, FOUND, average="macro"), abs=1e-12
    )
    assert metrics.war is metrics.accuracy


def test_macro_f1_counts_classes_that_only_the_model_names() -> None:
    oracle = pytest.importorskip("sklearn.metrics")
    truth, found = [0, 0, 1, 1], [0, 3, 1, 1]
    expected = oracle.f1_score(truth, found, average="macro", zero_division=0)
    assert metrics.macro_f1(truth, found) == pytest.approx(expected, abs=1e-12)


def test_uar_leaves_out_classes_without_items() -> None:
    assert metrics.uar([0, 0, 2], [0, 1, 2]) == pytest.approx(0.75)


def test_pearson_equals_numpy() -> None:
    x, y = RNG.standard_normal(50), RNG.standard_normal(50)
    assert metrics.pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
    assert np.isnan(metrics.pearson([1.0, 1.0], [1.0, 2.0]))


def test_interval_of_accuracy_is_the_binomial_one() -> None:
    low, high = metrics.bootstrap_interval(metrics.accuracy, TRUTH, FOUND, n=4000, seed=1)
    share = metrics.accuracy(TRUTH, FOUND)
    half = 1.96 * np.sqrt(share * (1 - share) / 400)
    # the quantiles of 4000 resamples are known to about 0.04 standard errors
    assert low == pytest.approx(share - half, abs=0.006)
    assert high == pytest.approx(share + half, abs=0.006)


def test_interval_is_repeatable_and_depends_on_the_seed() -> None:
    first = metrics.bootstrap_interval(metrics.uar, TRUTH, FOUND, n=200, seed=5)
    assert first == metrics.bootstrap_interval(metrics.uar, TRUTH, FOUND, n=200, seed=5)
    assert first != metrics.bootstrap_interval(metrics.uar, TRUTH, FOUND, n=200, seed=6)


def test_grouped_interval_is_wider_when_groups_differ() -> None:
    groups = np.repeat(np.arange(10), 40)
    truth = np.zeros(400, int)
    found = (groups % 2).astype(int)  # half of the groups all right, half all wrong
    plain = metrics.bootstrap_interval(metrics.accuracy, truth, found, n=1000)
    grouped = metrics.bootstrap_interval(metrics.accuracy, truth, found, n=1000, groups=groups)
    assert grouped[1] - grouped[0] > 3 * (plain[1] - plain[0])


def test_paired_interval_cancels_what_both_share() -> None:
    better = np.where(np.arange(400) % 20 == 0, TRUTH, FOUND)
    difference, low, high = metrics.paired_bootstrap(metrics.accuracy, TRUTH, FOUND, better, n=2000)
    assert difference == pytest.approx(metrics.accuracy(TRUTH, better) - metrics.accuracy(TRUTH, FOUND))
    assert 0 <= low <= difference <= high
    alone = metrics.bootstrap_interval(metrics.accuracy, TRUTH, FOUND, n=2000)
    assert high - low < 0.5 * (alone[1] - alone[0])
    assert metrics.paired_bootstrap(metrics.accuracy, TRUTH, FOUND, FOUND, n=50) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("truth", "found", "match"),
    [([], [], "length >= 1"), ([0, 1], [0], "shapes"), ([[0]], [[0]], "shapes")],
)
def test_bad_lengths_are_named(truth: list[int], found: list[int], match: str) -> None:
    with pytest.raises(DataError, match=match):
        metrics.uar(truth, found)


def test_other_bad_input_is_named() -> None:
    with pytest.raises(DataError, match=r"0\.\.1, found 0\.\.2"):
        metrics.confusion([0, 2], [0, 1], 2)
    with pytest.raises(DataError, match="found -1"):
        metrics.confusion([0, -1], [0, 1], 2)
    with pytest.raises(DataError, match="one length"):
        metrics.bootstrap_interval(metrics.uar, [0, 1], [0])
    with pytest.raises(DataError, match="one entry for each of the 2 items"):
        metrics.bootstrap_interval(metrics.uar, [0, 1], [0, 1], groups=["a"])
    with pytest.raises(DataError, match="length >= 2"):
        metrics.pearson([1.0], [1.0])


VALUES = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))
PAIRS = st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=40)


@given(PAIRS)
def test_ccc_is_the_formula_with_both_divisors(pairs: list[tuple[float, float]]) -> None:
    """Exact fractions: covariance over n, variances over n - 1 (sheet 7, section 5)."""
    y, p = ([Fraction(value) for value in column] for column in zip(*pairs, strict=True))
    my, mp = statistics.mean(y), statistics.mean(p)
    cov = sum((a - my) * (b - mp) for a, b in zip(y, p, strict=True)) / len(y)
    scale = statistics.variance(y) + statistics.variance(p) + (my - mp) ** 2
    found = metrics.ccc([float(v) for v in y], [float(v) for v in p])
    if scale == 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(float(2 * cov / scale), abs=1e-9)
        assert -1 < found < 1


@given(st.lists(VALUES, min_size=2, max_size=40, unique=True), st.floats(0.5, 100))
def test_ccc_of_a_perfect_prediction_and_of_a_shifted_one(values: list[float], shift: float) -> None:
    n = len(values)
    assert metrics.ccc(values, values) == pytest.approx((n - 1) / n)
    assert metrics.ccc(values, np.array(values) + shift) < metrics.ccc(values, values)


def test_ccc_rounds_as_published() -> None:
    y, p = RNG.random(50), RNG.random(50)
    exact = metrics.ccc(y, p)
    assert metrics.ccc(y, p, decimals=4) == round(exact, 4) != exact
    assert metrics.ccc(y, p) == metrics.ccc(p, y)


@given(PAIRS)
def test_mae_and_its_inverse(pairs: list[tuple[float, float]]) -> None:
    y, p = np.array(pairs).T
    expected = sum(abs(a - b) for a, b in pairs) / len(pairs)
    assert metrics.mae(y, p) == pytest.approx(expected) == metrics.mae(y[:, None], p[:, None])
    if expected:
        assert metrics.inverse_mae(y, p) == pytest.approx(1 / expected)
    else:
        assert metrics.inverse_mae(y, p) == math.inf


def test_harmonic_mean_gives_the_sheets_check_value() -> None:
    assert metrics.harmonic_mean([0.5, 0.5, metrics.inverse_mae([20.0, 30.0], [23.0, 25.0])]) == 0.375


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=10))
def test_harmonic_mean_equals_the_standard_librarys(scores: list[float]) -> None:
    found = metrics.harmonic_mean(scores)
    assert found == pytest.approx(statistics.harmonic_mean(scores))
    assert min(scores) * (1 - 1e-12) <= found <= max(scores) * (1 + 1e-12)


@given(st.lists(st.floats(1e-3, 1e3), max_size=5), st.sampled_from([0.0, -0.0, -0.3, math.nan]))
def test_harmonic_mean_is_undefined_unless_every_score_is_positive(scores: list[float], bad: float) -> None:
    assert math.isnan(metrics.harmonic_mean([*scores, bad]))
    assert math.isnan(metrics.harmonic_mean([bad, *scores]))


def test_harmonic_mean_takes_the_infinite_inverse_of_no_error() -> None:
    assert metrics.harmonic_mean([0.5, math.inf]) == 1.0
    assert metrics.harmonic_mean([math.inf, math.inf]) == math.inf


def test_scores_of_values_name_bad_input() -> None:
    with pytest.raises(DataError, match=r"one length >= 2 are needed, found shapes \(1,\) and \(1,\)"):
        metrics.ccc([1.0], [1.0])
    with pytest.raises(DataError, match=r"one length >= 2 are needed, found shapes \(2,\) and \(3,\)"):
        metrics.ccc([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match=r"one shape and a value at least, found \(0,\) and \(0,\)"):
        metrics.mae([], [])
    with pytest.raises(DataError, match="a list of scores is needed"):
        metrics.harmonic_mean([])
