# SPDX-License-Identifier: Apache-2.0
"""Audio ops beside librosa and python-soxr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import librosa
import numpy as np
import soxr
from run import Row

from zoo.ops import isa
from zoo.pipeline import Log, Mel, Mfcc, Op, Pipeline, Resample

INPUTS = 64
#: Every ratio that occurs with common rates, up and down, kHz.
RATES = [
    (8, 16),
    (16, 22.05),
    (16, 48),
    (22.05, 16),
    (44.1, 16),
    (44.1, 48),
    (48, 16),
    (48, 22.05),
    (48, 44.1),
]
RATES += [(96, 48), (192, 48), (8, 48), (16, 8), (22.05, 44.1), (192, 16)]

Array = np.ndarray[Any, Any]


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


def spectra() -> Iterator[Row]:
    """Mel spectra and what is built on them, on 2-s clips, beside librosa: each setting that a sheet names."""
    sheet6a: dict[str, Any] = {"n_fft": 1024, "win_length": 512, "hop_length": 512, "window": "hamming"}
    sheet6d: dict[str, Any] = {"n_fft": 1024, "hop_length": 256, "n_mels": 80, "fmax": 8000.0}
    sheet6d |= {"pad_mode": "reflect", "power": 1.0}

    def mfcc(rate: int, n_mfcc: int, **params: Any) -> tuple[Op, Callable[[Array], Array], float]:
        return (
            Mfcc(rate=rate, n_mfcc=n_mfcc, **params),
            lambda y: librosa.feature.mfcc(y=y, sr=rate, n_mfcc=n_mfcc, **params).T,
            5e-3,
        )

    def mel(rate: int, **params: Any) -> tuple[Op, Callable[[Array], Array], float]:
        return (
            Mel(rate=rate, **params),
            lambda y: librosa.feature.melspectrogram(y=y, sr=rate, **({"pad_mode": "constant"} | params)).T,
            1e-4,
        )

    tacotron, librosa_tacotron, _ = mel(22050, **sheet6d)
    cases: list[tuple[str, int, tuple[Op, ...], Callable[[Array], Array], float]] = []
    for name, rate, (op, theirs, bound) in (
        ("mfcc 39, 22.05 kHz (sheet 10)", 22050, mfcc(22050, 39)),
        ("mfcc 39, 22.05 kHz, htk", 22050, mfcc(22050, 39, htk=True)),
        ("mfcc 40, 48 kHz (sheet 6 A)", 48000, mfcc(48000, 40, **sheet6a)),
        ("mfcc 40, 48 kHz, htk", 48000, mfcc(48000, 40, htk=True, **sheet6a)),
        ("mel 128, 22.05 kHz", 22050, mel(22050)),
        ("mel 128, 48 kHz (sheet 6 A)", 48000, mel(48000, **sheet6a)),
        ("mel 80, 22.05 kHz (sheet 6 D)", 22050, (tacotron, librosa_tacotron, 1e-4)),
    ):
        cases.append((name, rate, (op,), theirs, bound))
    cases.append(
        (
            "log-mel 80, 22.05 kHz (sheet 6 D)", 22050, (tacotron, Log(amin=1e-5)),
            lambda y: np.log(np.maximum(librosa_tacotron(y), 1e-5)), 1e-4,
        )
    )  # fmt: skip
    clips = {rate: [speech_like(2.0, rate, seed) for seed in range(INPUTS)] for rate in (22050, 48000)}
    for name, rate, chain, theirs, bound in cases:
        pipeline, waves = Pipeline(chain, isa=isa()), clips[rate]
        yield Row(
            op=name + ", 2 s",
            peer="librosa",
            ours=lambda i, p=pipeline, w=waves, r=rate: p.run(w[i], r),
            theirs=lambda i, t=theirs, w=waves: t(w[i]),
            inputs=INPUTS,
            check=lambda p=pipeline, t=theirs, w=waves, r=rate, b=bound: within(
                float(np.abs(p.run(w[0], r) - t(w[0])).max()), b
            ),
            goal=10,
        )
    mel_bands = Pipeline([tacotron])
    bands = [mel_bands.run(wave, 22050) for wave in clips[22050]]
    log = Pipeline([Log(amin=1e-5)], isa=isa(), shape=(-1, 80))
    yield Row(
        op="log of 173 x 80",
        peer="NumPy log(maximum())",
        ours=lambda i: log.run(bands[i]),
        theirs=lambda i: np.log(np.maximum(bands[i], np.float32(1e-5))),
        inputs=INPUTS,
        check=lambda: within(
            float(np.abs(log.run(bands[0]) - np.log(np.maximum(bands[0], 1e-5))).max()), 2e-6
        ),
    )


def resampling() -> Iterator[Row]:
    """Every ratio on 2-s clips, beside soxr at the quality that librosa uses."""
    for khz_in, khz_out in RATES:
        rate_in, rate_out = round(khz_in * 1000), round(khz_out * 1000)
        clips = [speech_like(2.0, rate_in, seed) for seed in range(8)]
        pipeline = Pipeline([Resample(rate=rate_out)], isa=isa())

        def soxr_hq(i: int, clips: list[Array] = clips, a: int = rate_in, b: int = rate_out) -> Array:
            return np.asarray(soxr.resample(clips[i], a, b, quality="HQ"))

        def check(
            p: Pipeline = pipeline, w: list[Array] = clips, r: int = rate_in, s: Any = soxr_hq
        ) -> str | None:
            ours, theirs = p.run(w[0], r), s(0)
            n = min(len(ours), len(theirs))
            # two filters with different transition bands
            return within(float(np.abs(ours[:n] - theirs[:n]).max()), 0.1)

        yield Row(
            op=f"resample {khz_in:g} -> {khz_out:g} kHz, 2 s",
            peer="python-soxr HQ",
            ours=lambda i, p=pipeline, w=clips, r=rate_in: p.run(w[i], r),
            theirs=soxr_hq,
            inputs=len(clips),
            check=check,
            goal=1,
        )


def denormals() -> Iterator[Row]:
    """Signals of 1e-40 take at most twice as long as speech: the peer is the same op on speech."""
    loud = [speech_like(2.0, 22050, seed) for seed in range(8)]
    faint = [(w / np.abs(w).max() * 1e-40).astype(np.float32) for w in loud]
    for name, chain in {
        "mfcc": (Mfcc(rate=22050),),
        "mel": (Mel(rate=22050),),
        "mel, log": (Mel(rate=22050), Log()),
        "resample 22.05 -> 16 kHz": (Resample(rate=16000),),
        "resample 22.05 -> 48 kHz": (Resample(rate=48000),),
    }.items():
        pipeline = Pipeline(chain, isa=isa())
        yield Row(
            op=f"{name} of denormals",
            peer="the same of speech",
            ours=lambda i, p=pipeline: p.run(faint[i], 22050),
            theirs=lambda i, p=pipeline: p.run(loud[i], 22050),
            inputs=len(loud),
            check=lambda p=pipeline: None if np.isfinite(p.run(faint[0], 22050)).all() else "not finite",
            goal=0.5,
        )


def rows() -> Iterator[Row]:
    """Spectra, resampling, denormals."""
    yield from spectra()
    yield from resampling()
    yield from denormals()
