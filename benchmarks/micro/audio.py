# SPDX-License-Identifier: Apache-2.0
"""Audio ops beside librosa and python-soxr."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import librosa
import numpy as np
import soxr
from run import Row

from zoo.ops import isa
from zoo.pipeline import Mfcc, Pipeline, Resample

INPUTS = 64


def speech_like(seconds: float, rate: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Modulated noise with a falling spectrum: the arithmetic does not depend on the samples."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    wave = np.cumsum(rng.standard_normal(n)) * 0.02
    wave = np.diff(wave, prepend=0) + 0.5 * rng.standard_normal(n) * np.sin(np.arange(n) * 9 / rate) ** 2
    return (0.2 * wave).astype(np.float32)


def within(worst: float, bound: float, unit: str = "") -> str | None:
    """None when `worst` is within `bound`."""
    return None if worst <= bound else f"worst difference {worst:.3g}{unit}, bound {bound:g}{unit}"


def rows() -> Iterator[Row]:
    """MFCC and resampling of 2-s clips."""
    clips = [speech_like(2.0, 22050, seed) for seed in range(INPUTS)]
    mfcc = Pipeline([Mfcc(rate=22050, n_mfcc=39)], isa=isa())

    def reference(i: int) -> Any:
        return librosa.feature.mfcc(y=clips[i], sr=22050, n_mfcc=39)

    yield Row(
        op="mfcc 22.05 kHz, 2 s",
        peer="librosa feature.mfcc",
        ours=lambda i: mfcc.run(clips[i], 22050),
        theirs=reference,
        inputs=INPUTS,
        check=lambda: within(float(np.abs(mfcc.run(clips[0], 22050) - reference(0).T).max()), 5e-3, " dB"),
        goal=10,
    )
    sources = [speech_like(2.0, 16000, seed) for seed in range(INPUTS)]
    resample = Pipeline([Resample(rate=22050)], isa=isa())

    def soxr_hq(i: int) -> Any:
        return soxr.resample(sources[i], 16000, 22050, quality="HQ")

    yield Row(
        op="resample 16 -> 22.05 kHz, 2 s",
        peer="python-soxr HQ",
        ours=lambda i: resample.run(sources[i], 16000),
        theirs=soxr_hq,
        inputs=INPUTS,
        # two filters with different transition bands
        check=lambda: within(float(np.abs(resample.run(sources[0], 16000) - soxr_hq(0)).max()), 0.1),
        goal=1,
    )
