# SPDX-License-Identifier: Apache-2.0
"""Normalisation: wave_normalize against transformers, cmvn, cmvn_sliding and standardize against float64 definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from zoo import ops

F32 = NDArray[np.float32]
TOLERANCE = 1e-6  # of results about 1; float32 has steps of 6e-8 there


def close(got: F32, want: NDArray[np.float64], scale: float | NDArray[np.float64] = 1.0) -> None:
    """Within the tolerance of the larger of 1 and the value itself."""
    assert got.shape == want.shape
    assert got.dtype == np.float32
    assert (np.abs(got - want) <= TOLERANCE * np.maximum(scale, np.abs(want))).all()


def test_wave_normalize_equals_transformers(isa: str, data_root: Path) -> None:
    transformers = pytest.importorskip("transformers")
    soundfile = pytest.importorskip("soundfile")
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=16000, do_normalize=True)
    rng = np.random.default_rng(0)
    files = sorted((data_root / "emodb" / "full4").glob("*.flac"))[::30]
    real = [soundfile.read(file, dtype="float32")[0] for file in files]
    synthetic = [
        np.zeros(500),
        np.ones(777),
        1e-6 * rng.standard_normal(1001),
        [0.3],
        5 + rng.standard_normal(9999),
    ]
    for wave in [*real, *(np.asarray(s, np.float32) for s in synthetic)]:
        # in float64: transformers keeps the dtype there, and its float32 mean alone may be off by more than the tolerance
        close(ops.wave_normalize(wave), extractor.zero_mean_unit_var_norm([wave.astype(np.float64)], None)[0])
    for wave in real:
        want = np.asarray(extractor(wave, sampling_rate=16000).input_values[0], np.float64)
        assert (np.abs(ops.wave_normalize(wave) - want) <= 2 * TOLERANCE * np.maximum(1, np.abs(want))).all()


def matrices() -> list[F32]:
    """Features of all widths: fewer columns than a vector, odd numbers, more than a tile."""
    rng = np.random.default_rng(4)
    shapes = [(1, 1), (2, 3), (50, 1), (7, 13), (100, 39), (333, 80), (20, 200), (1500, 8)]
    return [(rng.normal(-20, 5, s) * rng.uniform(0.1, 9, s[1])).astype(np.float32) for s in shapes]


def test_cmvn(isa: str) -> None:
    for rows in matrices():
        x = rows.astype(np.float64)
        np.testing.assert_array_equal(ops.cmvn(rows, norm_means=False), rows)
        # the mean is subtracted in float64: what is left is rounded once
        close(ops.cmvn(rows), x - x.mean(0))
        deviation = np.sqrt(np.maximum(x.var(0), 1e-20))
        close(ops.cmvn(rows, norm_vars=True), (x - x.mean(0)) / deviation)


def sliding(
    x: NDArray[np.float64], window: int, min_window: int, center: bool, norm_vars: bool
) -> NDArray[np.float64]:
    """Kaldi's loop over rows, each window summed anew."""
    n, out = len(x), np.empty_like(x)
    for t in range(n):
        begin, end = (t - window // 2, t - window // 2 + window) if center else (t - window, t + 1)
        if begin < 0:
            begin, end = 0, end - begin
        if not center and end > t:
            end = max(t + 1, min_window)
        if end > n:
            begin, end = max(0, begin - (end - n)), n
        part = x[begin:end]
        out[t] = x[t] - part.mean(0)
        if norm_vars:
            out[t] = 0 if len(part) == 1 else out[t] / np.sqrt(np.maximum(part.var(0), 1e-10))
    return out


@pytest.mark.parametrize("norm_vars", [False, True])
@pytest.mark.parametrize("center", [False, True])
def test_cmvn_sliding(isa: str, center: bool, norm_vars: bool) -> None:
    for rows in matrices():
        for window, least in ((1, 1), (2, 1), (7, 3), (100, 50), (600, 100)):
            got = ops.cmvn_sliding(rows, window=window, min_window=least, center=center, norm_vars=norm_vars)
            want = sliding(rows.astype(np.float64), window, least, center, norm_vars)
            close(got, want)


def test_standardize(isa: str) -> None:
    rng = np.random.default_rng(6)
    for rows in matrices():
        x = rows.astype(np.float64)
        mean, std = rng.normal(-300, 100, x.shape[1]), rng.uniform(0.01, 50, x.shape[1])
        close(ops.standardize(rows, mean=mean.tolist(), std=std.tolist()), (x - mean) / std)
        if len(x) > 1:
            close(ops.standardize(rows), (x - x.mean(0)) / (x.std(0) + 1e-8))
