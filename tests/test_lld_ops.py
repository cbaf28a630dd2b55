# SPDX-License-Identifier: Apache-2.0
"""Properties of the LLD op: streams, batches, instruction sets, and input at its limits."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo import _native, ops
from zoo.errors import InputError
from zoo.pipeline import Lld, Pipeline, Resample

Array = np.ndarray[Any, Any]
QUICK = settings(max_examples=100, suppress_health_check=list(HealthCheck))
ISAS = _native.isas()


def voiced(n: int, rate: int, seed: int) -> Array:
    """Voiced stretches of changing pitch and level, noise and silence."""
    rng = np.random.default_rng(seed)
    pieces, left = [], n
    while left > 0:
        size = int(min(left, rng.integers(1, rate // 4)))
        t = np.arange(size) / rate
        f0 = rng.uniform(60, 500)
        tone = 2 * ((f0 * t * (1 + 0.05 * t)) % 1) - 1
        kind = rng.integers(4)
        pieces.append(
            (
                0 * t,
                0.2 * rng.standard_normal(size),
                0.5 * tone,
                0.1 * tone + 0.01 * rng.standard_normal(size),
            )[kind]
        )
        left -= size
    return np.concatenate(pieces).astype(np.float32)


def frames(n: int, rate: int) -> int:
    count = 1 + (n - int(0.06 * rate + 0.5)) // int(0.01 * rate + 0.5)
    return count if count >= 2 else 0


def in_chunks(pipeline: Pipeline, data: Array, rate: int, sizes: list[int]) -> Array:
    stream = pipeline.stream(rate)
    out, at, i = [], 0, 0
    while at < len(data):
        out.append(stream.push(data[at : at + sizes[i % len(sizes)]]))
        at += sizes[i % len(sizes)]
        i += 1
    return np.concatenate([*out, stream.finish()])


@QUICK
@given(
    rate=st.sampled_from([4000, 8000, 11025, 16000, 22050]),
    isa=st.sampled_from(ISAS),
    n=st.integers(1, 30000),
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=5).filter(any),
    seed=st.integers(0, 9),
)
def test_a_stream_equals_the_whole(rate: int, isa: str, n: int, sizes: list[int], seed: int) -> None:
    pipeline, wave = Pipeline([Lld(rate=rate)], isa=isa), voiced(n, rate, seed)
    if frames(n, rate) == 0:
        for call in (lambda: pipeline(wave, rate), lambda: in_chunks(pipeline, wave, rate, sizes)):
            with pytest.raises(
                InputError, match=f"lld: the signal has {n} samples; at least [0-9]+ .two pitch frames."
            ):
                call()
        return
    whole = pipeline(wave, rate)
    assert whole.shape == (frames(n, rate), 76)
    assert np.isfinite(whole).all()
    parts = in_chunks(pipeline, wave, rate, sizes)
    assert parts.tobytes() == whole.tobytes()


@pytest.mark.parametrize("n", [4512, 4513])
def test_a_stream_whose_hop_is_no_whole_number_keeps_what_it_reads(n: int) -> None:
    """Found by the test above: single samples at 11,025 Hz, a voiced stretch in which no period is found."""
    pipeline, wave = Pipeline([Lld(rate=11025)]), voiced(n, 11025, 3)
    assert in_chunks(pipeline, wave, 11025, [1]).tobytes() == pipeline(wave, 11025).tobytes()


def test_rows_come_out_as_soon_as_they_are_determined() -> None:
    """Four pitch frames behind: two for the delta, one for the moving average, one for the pitch contour."""
    wave, stream = voiced(16000, 16000, 1), Pipeline([Lld(rate=16000)]).stream(16000)
    for last in range(40):
        rows = len(stream.push(wave[0 if last == 0 else 960 + 160 * (last - 1) : 960 + 160 * last]))
        assert rows == (1 if last >= 4 else 0)


def test_a_stream_after_a_resampler() -> None:
    pipeline, wave = Pipeline([Resample(rate=16000), Lld()]), voiced(44100, 44100, 3)
    assert in_chunks(pipeline, wave, 44100, [1000, 1, 700]).tobytes() == pipeline(wave, 44100).tobytes()


@QUICK
@given(lengths=st.lists(st.integers(1200, 12000), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_a_batch_equals_singles(lengths: list[int], seed: int) -> None:
    pipeline = Pipeline([Lld(rate=16000)])
    waves = [voiced(n, 16000, seed + i) for i, n in enumerate(lengths)]
    for wave, rows in zip(waves, pipeline.batch(waves, 16000, threads=2), strict=True):
        assert rows.tobytes() == pipeline(wave, 16000).tobytes() == ops.lld(wave, 16000).tobytes()


def test_isas_agree() -> None:
    """Within float32 rounding; a bisection may stop a step (1e-4 of the cosine) apart."""
    wave = np.concatenate([voiced(16000, 16000, seed) for seed in range(6)])
    rows = {isa: Pipeline([Lld(rate=16000)], isa=isa)(wave, 16000).astype(np.float64) for isa in ISAS}
    base = rows[ISAS[0]]
    lsp = [i for i, name in enumerate(ops.LLD_NAMES) if name.startswith("lspFreq")]
    rest = [i for i in range(76) if i not in lsp]
    scale = np.abs(base).max(axis=0)
    for other in rows.values():
        difference = np.abs(other - base) / scale
        assert difference[:, rest].max() <= 2e-5
        assert difference[:, lsp].max() <= 1e-2
        assert (difference[:, lsp] > 1e-4).mean() <= 1e-3


def test_names_and_columns() -> None:
    assert len(ops.LLD_NAMES) == len(set(ops.LLD_NAMES)) == 76
    places = {
        0: "pcm_loudness_sma",
        34: "F0final_sma",
        53: "pcm_fftMag_mfcc_sma_de[14]",
        75: "shimmerLocal_sma_de",
    }
    assert {i: ops.LLD_NAMES[i] for i in places} == places


@pytest.mark.parametrize("isa", ISAS)
def test_what_a_pitched_signal_gives(isa: str) -> None:
    """A sawtooth of 200 Hz: F0 (points of the octave scale lie 1.1 % apart), and periods all alike."""
    t = np.arange(16000) / 16000
    rows = Pipeline([Lld(rate=16000)], isa=isa)((0.5 * (2 * ((200 * t) % 1) - 1)).astype(np.float32), 16000)
    column = {name: rows[5:-5, i] for i, name in enumerate(ops.LLD_NAMES)}
    np.testing.assert_allclose(column["F0final_sma"], 200, rtol=5e-3)
    np.testing.assert_allclose(column["F0finEnv_sma"], 200, rtol=5e-3)
    assert column["voicingFinalUnclipped_sma"].min() > 0.7
    for name in ("jitterLocal_sma", "jitterDDP_sma", "shimmerLocal_sma"):
        assert column[name].max() < 3e-2
    assert np.abs(column["F0final_sma_de"]).max() < 0.5
    assert (np.diff([column[f"lspFreq_sma[{i}]"] for i in range(8)], axis=0) > 0).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("value", [0.0, 1.0, -0.25])
def test_constant_signals(isa: str, value: float) -> None:
    rows = Pipeline([Lld(rate=16000)], isa=isa)(np.full(8000, value, np.float32), 16000)
    assert np.isfinite(rows).all()
    assert not rows[:, 34:38].any()  # no pitch
    assert np.abs(rows[5:-5, 38:]).max() <= 1e-4  # nothing changes


@QUICK
@given(exponent=st.integers(-44, 38), seed=st.integers(0, 3), isa=st.sampled_from(ISAS))
def test_extreme_gains(exponent: int, seed: int, isa: str) -> None:
    """Finite rows, or an error that says what to do; pitch does not depend on the level while squares are normal."""
    pipeline = Pipeline([Lld(rate=16000)], isa=isa)
    wave = voiced(6000, 16000, seed)
    with np.errstate(over="ignore", under="ignore"):
        scaled = (wave / np.abs(wave).max() * np.float64(10.0) ** exponent).astype(np.float32)
    if exponent >= 19:  # even a square overflows
        with pytest.raises(InputError, match=r"scale the samples to \[-1, 1\]"):
            pipeline(scaled, 16000)
        return
    try:
        rows = pipeline(scaled, 16000)
    except InputError:
        assert exponent > 15
        return
    assert np.isfinite(rows).all()
    if -10 <= exponent <= 10:
        np.testing.assert_allclose(rows[:, 34], pipeline(wave, 16000)[:, 34], rtol=1e-3)


@pytest.mark.parametrize("isa", ISAS)
def test_denormals_are_not_slow(isa: str) -> None:
    pipeline = Pipeline([Lld(rate=16000)], isa=isa)
    wave = voiced(32000, 16000, 4)

    def seconds(x: Array) -> float:
        best = np.inf
        for _ in range(7):
            start = time.perf_counter()
            pipeline(x, 16000)
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds((wave * 1e-39).astype(np.float32)) <= 2 * seconds(wave)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(value: float) -> None:
    wave = voiced(5000, 16000, 5)
    wave[1234] = value
    with pytest.raises(InputError, match="sample 1234 is not finite"):
        ops.lld(wave, 16000)
    with pytest.raises(InputError, match="sample 1234 is not finite"):
        in_chunks(Pipeline([Lld(rate=16000)]), wave, 16000, [700])


def test_errors_say_what_to_do() -> None:
    wave = voiced(5000, 16000, 6)
    with pytest.raises(
        InputError, match="lld: the signal has 8000 Hz, the op needs 16000; resample it first"
    ):
        Pipeline([Lld(rate=16000)])(wave, 8000)
    with pytest.raises(InputError, match=r"rate is 3999; it must lie between 4000 and 384000"):
        ops.lld(wave, 3999)
    with pytest.raises(
        InputError, match="the rate of the signal is not known; put a resample op before it or set rate"
    ):
        Pipeline([Lld()])
    with pytest.raises(InputError, match="rate is 8000 Hz, the signal has 16000"):
        Pipeline([Resample(rate=16000), Lld(rate=8000)])
    for n in (1, 1119):
        with pytest.raises(InputError, match=f"the signal has {n} samples; at least 1120"):
            ops.lld(wave[:n], 16000)
    assert ops.lld(wave[:1120], 16000).shape == (2, 76)


def test_other_sample_types_and_channels() -> None:
    wave = voiced(4000, 16000, 7)
    exact = np.round(wave * 32767).astype(np.int16)
    same = ops.lld(exact.astype(np.float32) / 32768, 16000)
    np.testing.assert_array_equal(ops.lld(exact, 16000), same)
    np.testing.assert_array_equal(ops.lld(np.stack([exact, exact], axis=1), 16000), same)
