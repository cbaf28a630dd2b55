# SPDX-License-Identifier: Apache-2.0
"""Resampling measured with sines, and compared with python-soxr HQ."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from zoo import ops

soxr = pytest.importorskip("soxr")

COMMON = [8000, 16000, 22050, 44100, 48000, 96000, 192000]
RATES = [(a, b) for a in COMMON for b in COMMON if a != b]
RATES += [(22050, 16001), (16000, 16000), (11025, 8000), (384000, 8000)]


def spectrum_db(wave: NDArray[np.float64]) -> NDArray[np.float64]:
    """Level of each bin in dB, 0 dB for a full-scale sine; Kaiser window with sidelobes below -150 dB."""
    window = np.kaiser(len(wave), 20)
    return np.asarray(20 * np.log10(np.abs(np.fft.rfft(wave * window)) / (window.sum() / 2) + 1e-20))


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_tones_pass_flat_and_images_are_100_db_down(isa: str, rate_in: int, rate_out: int) -> None:
    n, low = rate_in // 4, min(rate_in, rate_out) / 2
    edge = 400 * max(1, rate_out // rate_in + 1)
    for part in (0.01, 0.3, 0.7, 0.9):
        f = part * low
        got = ops.resample(
            np.sin(2 * np.pi * f * np.arange(n) / rate_in).astype(np.float32), rate_in, rate_out
        )
        assert len(got) == -(-n * rate_out // rate_in)
        middle = got[edge:-edge].astype(np.float64)
        t = np.arange(len(got))[edge:-edge] / rate_out
        # zero phase: in step with the ideal sine, gain within 0.1 dB
        gain = (
            2 * np.mean(middle * np.exp(-2j * np.pi * f * t) * np.hanning(len(t))) / np.hanning(len(t)).mean()
        )
        assert abs(20 * np.log10(abs(gain))) <= 0.1
        assert abs(np.angle(gain * 1j)) <= 1e-3
        level = spectrum_db(middle)
        bins = np.fft.rfftfreq(len(middle), 1 / rate_out)
        away = np.abs(bins - f) > 12 * rate_out / len(middle)
        assert level[away].max() <= -100, (
            f"{f} Hz: {level[away].max()} dB at {bins[away][level[away].argmax()]} Hz"
        )


@pytest.mark.parametrize(("rate_in", "rate_out"), [p for p in RATES if p[0] > p[1]])
def test_tones_above_nyquist_do_not_alias(isa: str, rate_in: int, rate_out: int) -> None:
    n = rate_in // 4
    for part in (1.0, 1.1, 1.5, 1.9):
        f = part * rate_out / 2
        if f >= 0.98 * rate_in / 2:
            continue
        got = ops.resample(
            np.cos(2 * np.pi * f * np.arange(n) / rate_in).astype(np.float32), rate_in, rate_out
        )
        assert 20 * np.log10(np.abs(got[400:-400]).max() + 1e-20) <= -100


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_band_limited_noise_matches_soxr(isa: str, rate_in: int, rate_out: int) -> None:
    rng = np.random.default_rng(rate_in)
    n = rate_in // 2
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum[np.fft.rfftfreq(n, 1 / rate_in) > 0.88 * min(rate_in, rate_out) / 2] = 0
    wave = np.fft.irfft(spectrum, n)
    wave = (wave / np.abs(wave).max()).astype(np.float32)
    got, want = ops.resample(wave, rate_in, rate_out), soxr.resample(wave, rate_in, rate_out, quality="HQ")
    assert abs(len(got) - len(want)) <= 1
    edge = 500 * max(1, rate_out // rate_in + 1)
    m = min(len(got), len(want))
    assert np.abs(got[edge : m - edge] - want[edge : m - edge]).max() <= 2e-4  # soxr's own ripple


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_sum_of_sines_is_near_the_ideal(isa: str, rate_in: int, rate_out: int) -> None:
    rng = np.random.default_rng(2)
    n = rate_in // 4
    tones = rng.uniform(0.001, 0.88, 40) * min(rate_in, rate_out) / 2
    phases = rng.uniform(0, 2 * np.pi, 40)

    def wave(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.sin(2 * np.pi * t[:, None] * tones + phases).mean(1))

    got = ops.resample(wave(np.arange(n) / rate_in), rate_in, rate_out)
    edge = 400 * max(1, rate_out // rate_in + 1)
    assert np.abs(got - wave(np.arange(len(got)) / rate_out))[edge:-edge].max() <= 2e-6


def sweep(t: NDArray[np.float64], start: float, stop: float, seconds: float) -> NDArray[np.float64]:
    """A linear sweep in Hz that fades in and out, with three smooth derivatives, over a tenth of its length."""
    fade = np.clip(np.minimum(t, seconds - t) * 10 / seconds, 0, 1)
    phase = 2 * np.pi * (start * t + (stop - start) * t**2 / (2 * seconds))
    return np.asarray(np.sin(phase) * fade**4 * (35 - 84 * fade + 70 * fade**2 - 20 * fade**3))


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_sweeps(isa: str, rate_in: int, rate_out: int) -> None:
    """What is below 0.9 of the lower Nyquist frequency comes out as if sampled at the other rate; what is above vanishes.

    The first leaves no room for delay, ripple and images. -100 dB is 1e-5.
    """
    low, seconds = min(rate_in, rate_out) / 2, 0.5
    t_in = np.arange(int(seconds * rate_in)) / rate_in
    wave = sweep(t_in, 0, 0.9 * low, seconds)
    got = ops.resample(wave, rate_in, rate_out)
    want = sweep(np.arange(len(got)) / rate_out, 0, 0.9 * low, seconds)
    worst = np.abs(got - want).max()
    peer = soxr.resample(wave.astype(np.float32), rate_in, rate_out, quality="HQ")
    m = min(len(peer), len(want))
    print(
        f"{isa} {rate_in} to {rate_out}: worst {worst:.1e}, soxr HQ {np.abs(peer[:m] - want[:m]).max():.1e}"
    )
    assert worst <= 1e-5
    if 0.98 * rate_in / 2 > 1.02 * low:
        # its fades hold some energy beside it: 2 % off the edge they are below -120 dB
        aliases = ops.resample(sweep(t_in, 1.02 * low, 0.98 * rate_in / 2, seconds), rate_in, rate_out)
        assert np.abs(aliases).max() <= 1e-5


def test_constant_stays_constant(isa: str) -> None:
    got = ops.resample(np.ones(20000, np.float32), 16000, 22050)
    assert np.abs(got[300:-300] - 1).max() <= 1e-6
