# SPDX-License-Identifier: Apache-2.0
"""DeepSpeech's cepstra and context against a direct reference: one frame, one bin, one band at a time, in float64.

The reference follows fact sheet 06, section B, and is written without looking at ours. What differs is float32: the
logarithm of a band is at most 27.6, the DCT adds 40 of them.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from zoo import ops

F32 = NDArray[np.float32]
TOLERANCE = 1e-4


def reference(wave: F32) -> NDArray[np.float64]:
    """26 coefficients of frames of 512 samples every 320, at 16 kHz."""
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * i / 512) for i in range(512)]
    low = 1127 * math.log(1 + 20 / 700)
    spacing = (1127 * math.log(1 + 8000 / 700) - low) / 41
    centers = [low + spacing * (i + 1) for i in range(41)]
    out = []
    for start in range(0, len(wave) - 511, 320):
        frame = np.array([float(wave[start + i]) * hann[i] for i in range(512)])
        power = np.abs(np.fft.fft(frame)[:257]) ** 2
        bands = [0.0] * 40
        for k in range(2, 257):  # TensorFlow's first bin is int(1.5 + 20 Hz / 31.25 Hz)
            mel, magnitude = 1127 * math.log(1 + k * 31.25 / 700), math.sqrt(power[k])
            for b in range(40):
                left, center, right = low if b == 0 else centers[b - 1], centers[b], centers[b + 1]
                if left < mel <= center:
                    bands[b] += magnitude * (mel - left) / (center - left)
                elif center < mel < right:
                    bands[b] += magnitude * (right - mel) / (right - center)
        logs = [math.log(max(v, 1e-12)) for v in bands]
        out.append(
            [
                math.sqrt(2 / 40) * sum(logs[j] * math.cos(i * math.pi / 40 * (j + 0.5)) for j in range(40))
                for i in range(26)
            ]
        )
    return np.array(out)


def in_context(rows: NDArray[np.float32], before: int, after: int) -> NDArray[np.float32]:
    """Each row with those around it, value by value."""
    n, columns = rows.shape
    out = np.zeros((n, (before + 1 + after) * columns), np.float32)
    for t in range(n):
        for i, at in enumerate(range(t - before, t + after + 1)):
            if 0 <= at < n:
                out[t, i * columns : (i + 1) * columns] = rows[at]
    return out


def signals() -> dict[str, F32]:
    """Extremes of 4 frames."""
    n = 512 + 3 * 320 + 7
    t = np.arange(n) / 16000
    impulse = np.zeros(n)
    impulse[700] = 1
    rng = np.random.default_rng(3)
    return {
        name: np.asarray(wave, np.float32)
        for name, wave in {
            "silence": np.zeros(n),
            "impulse": impulse,
            "tone on a bin": 0.5 * np.sin(2 * np.pi * 1000 * t),
            "tone between bins": np.sin(2 * np.pi * 3333.3 * t),
            "square": np.sign(np.sin(2 * np.pi * 100 * t) + 1e-9),
            "constant": np.ones(n),
            "noise": rng.standard_normal(n),
            "denormals": 1e-40 * rng.standard_normal(n),
            "gain 1e9": 1e9 * rng.standard_normal(n),
            "one frame": rng.standard_normal(512),
        }.items()
    }


REFERENCES: dict[str, NDArray[np.float64]] = {}


@pytest.mark.parametrize("name", signals())
def test_synthetic_signals(isa: str, name: str) -> None:
    wave = signals()[name]
    if name not in REFERENCES:
        REFERENCES[name] = reference(wave)
    got = ops.deepspeech_mfcc(wave, 16000)
    assert got.shape == REFERENCES[name].shape
    assert np.abs(got - REFERENCES[name]).max() <= TOLERANCE


def test_real_speech(isa: str, data_root: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    worst = 0.0
    for file in sorted((data_root / "emodb" / "full4").glob("*.flac"))[::80]:
        samples, rate = soundfile.read(file, dtype="float32")
        samples = samples[4000:12000]
        if file.name not in REFERENCES:
            REFERENCES[file.name] = reference(samples)
        got = ops.deepspeech_mfcc(samples, rate)
        assert got.shape == REFERENCES[file.name].shape
        worst = max(worst, float(np.abs(got - REFERENCES[file.name]).max()))
    print(f"{isa}: {worst:.1e}")
    assert 0 < worst <= TOLERANCE


def test_context_is_exact(isa: str) -> None:
    for n, columns, before, after in [
        (1, 1, 0, 0),
        (1, 26, 9, 9),
        (30, 26, 9, 9),
        (5, 3, 0, 7),
        (40, 7, 11, 2),
    ]:
        rows = np.random.default_rng(n).standard_normal((n, columns)).astype(np.float32)
        got = ops.context(rows, before=before, after=after)
        np.testing.assert_array_equal(got, in_context(rows, before, after))
    assert ops.context(ops.deepspeech_mfcc(np.ones(16000, np.float32), 16000)).shape == (49, 494)
