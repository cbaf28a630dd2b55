# SPDX-License-Identifier: Apache-2.0
"""Low-level descriptors against openSMILE 3 (the ``opensmile`` wheel) with the components of emobase2010.

The configuration is written here from the components' names and parameters. openSMILE works in float32 throughout, ours in
float64 up to the mel bands, the pitch candidates and the predictor; samples, peaks and smoothing are float32 in both.

- Loudness, MFCC, mel bands, F0 and voicing differ by float32 rounding.
- Line spectral frequencies are found by bisection in steps of up to 1e-4 of the cosine, so rounding moves one by a step, and
  where the predictor is ill-conditioned by more: a share is allowed. At rates other than 16 kHz openSMILE's resampled spectrum
  is empty in its upper part, its float32 predictor is dominated by rounding, and the reference is a float64 model instead.
- openSMILE counts the first period of a frame for jitter and shimmer only if rounding its correlation to float32 went down
  (its compatibility default). Our correlations have the bits of its plain loop, so that the same periods count.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zoo import ops

opensmile = pytest.importorskip("opensmile")
soundfile = pytest.importorskip("soundfile")
Array = NDArray[np.float64]
F32 = NDArray[np.float32]

GROWS = {"writer.levelconf.isRb": 0, "writer.levelconf.growDyn": 1}
SMOOTHER = {
    "F0raw": 0,
    "medianFilter0": 0,
    "postSmoothingMethod": "simple",
    "octaveCorrection": 0,
    "writer.levelconf.nT": 10,
    **GROWS,
}
#: name, component, levels read, level written, parameters
COMPONENTS: list[tuple[str, str, str, str, dict[str, Any]]] = [
    (
        "frames60",
        "cFramer",
        "wave",
        "f60",
        {"frameSize": 0.06, "frameStep": 0.01, "frameCenterSpecial": "left"},
    ),
    ("window60", "cWindower", "f60", "windowed60", {"winFunc": "gauss", "sigma": 0.25, "gain": 1.0}),
    ("fft60", "cTransformFFT", "windowed60", "complex60", {"zeroPadSymmetric": 0}),
    ("abs60", "cFFTmagphase", "complex60", "spectrum60", {}),
    ("octaves", "cSpecScale", "spectrum60", "octave60", {"scale": "log", "logScaleBase": 2}),
    (
        "shs",
        "cPitchShs",
        "octave60",
        "candidates",
        {
            "F0raw": 0,
            "voicingClip": 0,
            "voicingC1": 0,
            "scores": 1,
            "voicing": 1,
            "nCandidates": 3,
            "octaveCorrection": 0,
        },
    ),
    (
        "contour",
        "cPitchSmoother",
        "candidates",
        "pitch",
        {**SMOOTHER, "F0final": 0, "F0finalEnv": 1, "voicingFinalUnclipped": 1},
    ),
    (
        "f0",
        "cPitchSmoother",
        "candidates",
        "pitchF",
        {**SMOOTHER, "F0final": 1, "F0finalEnv": 0, "voicingFinalUnclipped": 0},
    ),
    (
        "periods",
        "cPitchJitter",
        "wave",
        "jitter",
        {
            "F0reader.dmLevel": "pitchF",
            "F0field": "F0final",
            "searchRangeRel": 0.25,
            "jitterLocal": 1,
            "jitterDDP": 1,
            "shimmerLocal": 1,
            "onlyVoiced": 0,
            "inputMaxDelaySec": 2.0,
        },
    ),
    (
        "frames25",
        "cFramer",
        "wave",
        "f25",
        {"frameSize": 0.025, "frameStep": 0.01, "frameCenterSpecial": "left"},
    ),
    ("emphasis", "cVectorPreemphasis", "f25", "emphasised", {"k": 0.97}),
    ("window25", "cWindower", "emphasised", "windowed25", {"winFunc": "ham", "gain": 1.0}),
    ("fft25", "cTransformFFT", "windowed25", "complex25", {"zeroPadSymmetric": 0}),
    ("abs25", "cFFTmagphase", "complex25", "spectrum25", {}),
    (
        "mel26",
        "cMelspec",
        "spectrum25",
        "bands26",
        {"htkcompatible": 0, "usePower": 1, "lofreq": 20, "hifreq": 8000, "nBands": 26},
    ),
    (
        "cepstrum",
        "cMfcc",
        "bands26",
        "mfcc",
        {"htkcompatible": 0, "firstMfcc": 0, "lastMfcc": 14, "cepLifter": 22},
    ),
    (
        "mel8",
        "cMelspec",
        "spectrum25",
        "bands8",
        {"htkcompatible": 0, "usePower": 1, "lofreq": 20, "hifreq": 6500, "nBands": 8},
    ),
    (
        "logarithm",
        "cVectorOperation",
        "bands8",
        "logbands",
        {"operation": "log", "copyInputName": 0, "nameAppend": "logMelFreqBand"},
    ),
    ("resampled", "cSpecResample", "complex25", "wave11", {"targetFs": 11000}),
    ("predictor", "cLpc", "wave11", "lpc", {"p": 8, "method": "acf", "saveLPCoeff": 1}),
    ("lines", "cLsp", "lpc", "lsp", {}),
    ("loud", "cIntensity", "f25", "loudness", {"intensity": 0, "loudness": 1}),
    ("smoothA", "cContourSmoother", "loudness;mfcc;logbands;lsp;pitch", "A", {"smaWin": 3, **GROWS}),
    ("deltaA", "cDeltaRegression", "A", "dA", {"deltawin": 2, **GROWS}),
    ("smoothB", "cContourSmoother", "pitchF;jitter", "B", {"smaWin": 3, **GROWS}),
    ("deltaB", "cDeltaRegression", "B", "dB", {"deltawin": 2, **GROWS}),
]


def configuration() -> str:
    """Text of openSMILE's configuration file: the list of components, then the section of each."""
    lines = [
        "[componentInstances:cComponentManager]",
        "instance[dataMemory].type=cDataMemory",
        "printLevelStats=0",
        r"\{\cm[source{?}:where samples come from]}",
        "[componentInstances:cComponentManager]",
        *(f"instance[{name}].type={kind}" for name, kind, *_ in COMPONENTS),
    ]
    for name, kind, reads, writes, parameters in COMPONENTS:
        lines += [f"[{name}:{kind}]", f"reader.dmLevel={reads}", f"writer.dmLevel={writes}"]
        lines += [f"{key}={value}" for key, value in parameters.items()]
    return "\n".join([*lines, r"\{\cm[sink{?}:where rows go]}", ""])


@pytest.fixture(scope="session")
def smile(tmp_path_factory: pytest.TempPathFactory) -> Callable[[F32, int], Any]:
    """``smile(wave, rate)``: openSMILE's table of 76 columns; kept, since every ISA compares with the same."""
    path = tmp_path_factory.mktemp("opensmile") / "lld.conf"
    path.write_text(configuration())
    extractor = opensmile.Smile(str(path), feature_level="A;B;dA;dB", loglevel=0)
    kept: dict[tuple[bytes, int], Any] = {}

    def extract(wave: F32, rate: int) -> Any:
        key = (wave.tobytes(), rate)
        if key not in kept:
            kept[key] = extractor.process_signal(wave, rate)
        return kept[key]

    return extract


def sixteen_bit(wave: Any) -> F32:
    """The samples that openSMILE sees: the wheel rounds its input to 16 bit."""
    return (np.round(np.asarray(wave, np.float64) * 32768).clip(-32768, 32767) / 32768).astype(np.float32)


GROUPS = {
    "loudness": slice(0, 1),
    "mfcc": slice(1, 16),
    "mel": slice(16, 24),
    "lsp": slice(24, 32),
    "envelope": slice(32, 33),
    "voicing": slice(33, 34),
    "f0": slice(34, 35),
    "jitter": slice(35, 36),
    "ddp": slice(36, 37),
    "shimmer": slice(37, 38),
}
EXACT = ("loudness", "mfcc", "mel", "envelope", "voicing", "f0")
RELATIVE = 1e-4  # of the column's largest value; the task allows 1e-3
PERIODS = ("jitter", "ddp", "shimmer")


class Comparison:
    """Rows of both sides, gathered over clips."""

    def __init__(self) -> None:
        self.got: list[Array] = []
        self.want: list[Array] = []

    def add(self, smile: Callable[[F32, int], Any], wave: F32, rate: int) -> None:
        table = smile(wave, rate)
        assert tuple(table.columns) == ops.LLD_NAMES
        got = ops.lld(wave, rate)
        assert got.dtype == np.float32
        assert got.shape == table.shape
        self.got.append(got.astype(np.float64))
        self.want.append(table.to_numpy(np.float64))

    def columns(self, group: str, delta: bool) -> tuple[Array, Array]:
        start = 38 if delta else 0
        part = slice(GROUPS[group].start + start, GROUPS[group].stop + start)
        return np.concatenate(self.got)[:, part], np.concatenate(self.want)[:, part]

    def worst(self, group: str, delta: bool = False) -> float:
        """Largest difference relative to the column's largest value."""
        got, want = self.columns(group, delta)
        scale = np.maximum(np.abs(want).max(axis=0), 1e-3)
        return float((np.abs(got - want).max(axis=0) / scale).max())

    def within(self, group: str, bound: float, delta: bool = False) -> float:
        """Share of the values, where either side is not 0, that differ by at most `bound`, relative."""
        got, want = self.columns(group, delta)
        either = (got != 0) | (want != 0)
        if not either.any():
            return 1.0
        return float((np.abs(got - want) <= bound * np.abs(want))[either].mean())

    def check(self, *, lsp: float | None, label: str) -> None:
        for delta in (False, True):
            for group in EXACT:
                assert self.worst(group, delta) <= RELATIVE, (label, group, delta)
            for group in PERIODS:
                assert self.within(group, 0.01, delta) >= 0.999, (label, group, delta)
        assert self.within("f0", 0.01) >= 0.999, label
        if lsp is not None:
            assert self.within("lsp", 1e-3) >= lsp, label
        print(
            label,
            *(f"{g} {self.worst(g):.1e}" for g in (*EXACT, "lsp")),
            *(f"{g} {100 * self.within(g, 0.01):.2f} %" for g in PERIODS),
            f"lsp within 1e-3 {100 * self.within('lsp', 1e-3):.3f} %",
        )


@cache
def speech(folder: Path, count: int, first: int = 0) -> list[F32]:
    """Whole sentences at 16 kHz."""
    files = sorted((folder / "emodb" / "full4").glob("*.flac"))
    return [soundfile.read(f, dtype="float32")[0] for f in files[first :: len(files) // count][:count]]


def test_speech(isa: str, data_root: Path, smile: Callable[[F32, int], Any]) -> None:
    both = Comparison()
    for clip in speech(data_root, 24):
        both.add(smile, clip, 16000)
    both.check(lsp=0.999, label=isa)
    assert both.worst("lsp") <= 5e-3


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 44100, 48000])
def test_other_rates(isa: str, rate: int, data_root: Path, smile: Callable[[F32, int], Any]) -> None:
    soxr = pytest.importorskip("soxr")
    both = Comparison()
    for clip in speech(data_root, 3, first=5):
        both.add(smile, sixteen_bit(soxr.resample(clip, 16000, rate)), rate)
    both.check(lsp=None, label=f"{isa} {rate} Hz")


def line_spectral_frequencies(wave: F32, rate: int) -> Array:
    """Float64 model of the eight frequencies, smoothed over three frames: polynomial roots instead of bisection."""
    linalg = pytest.importorskip("scipy.linalg")
    x = wave.astype(np.float64)
    frame, hop = int(0.025 * rate + 0.5), int(0.01 * rate + 0.5)
    fft = 1 << (frame - 1).bit_length()
    n = round(11000 / rate * frame)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(frame) / (frame - 1))
    k = np.arange(1, min(fft, n) // 2)
    turn = np.exp(2j * np.pi * np.outer(k, np.arange(n)) * frame / (n * fft))
    rows = []
    for start in range(0, len(x) - frame + 1, hop):
        piece = x[start : start + frame]
        emphasised = np.concatenate([0.03 * piece[:1], piece[1:] - 0.97 * piece[:-1]])
        spectrum = np.fft.rfft(emphasised * window, fft)
        y = spectrum[0].real + (spectrum[k] @ turn).real
        r = np.array([y[lag:] @ y[: n - lag] for lag in range(9)])
        a = np.concatenate([[1.0], linalg.solve_toeplitz(r[:8], -r[1:9]), [0.0]])
        angles = np.concatenate([np.angle(np.roots(a + a[::-1])), np.angle(np.roots(a - a[::-1]))])
        rows.append(np.sort(angles[(angles > 1e-9) & (angles < np.pi - 1e-9)]))
    raw = np.array(rows)
    return np.stack([raw[[max(i - 1, 0), i, i + 1]].mean(axis=0) for i in range(len(ops.lld(wave, rate)))])


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_line_spectral_frequencies_against_float64(
    isa: str, rate: int, data_root: Path, smile: Callable[[F32, int], Any]
) -> None:
    soxr = pytest.importorskip("soxr")
    clip = speech(data_root, 3, first=5)[0]
    wave = clip if rate == 16000 else sixteen_bit(soxr.resample(clip, 16000, rate))
    exact = line_spectral_frequencies(wave, rate)
    ours = np.abs(ops.lld(wave, rate)[:, GROUPS["lsp"]] - exact)
    theirs = np.abs(smile(wave, rate).to_numpy(np.float64)[:, GROUPS["lsp"]] - exact)
    print(
        f"{isa} {rate} Hz, differences to float64: median {np.median(ours):.1e} (openSMILE {np.median(theirs):.1e}), "
        f"99.9 % {np.percentile(ours, 99.9):.1e} ({np.percentile(theirs, 99.9):.1e}), worst {ours.max():.1e} ({theirs.max():.1e})"
    )
    assert np.percentile(ours, 99.9) <= 3e-3  # a step of the bisection, smoothed, near angle 0
    assert np.percentile(ours, 99.9) <= 1.05 * np.percentile(theirs, 99.9)


def synthetic() -> dict[str, F32]:
    """Two seconds each at 16 kHz: music-like mixtures, noise, and what has no spectrum or no pitch."""
    n, rate = 32000, 16000
    t = np.arange(n) / rate
    rng = np.random.default_rng(7)

    def saw(f: Any) -> Any:
        return 2 * ((np.cumsum(f + 0 * t) / rate) % 1) - 1

    notes = np.repeat(220 * 2 ** (rng.integers(-5, 8, 8) / 12), n // 8)
    decay = np.exp(-6 * (t % 0.25))
    drums = rng.standard_normal(n) * np.exp(-60 * (t % 0.5))
    waves = {
        "melody": 0.5 * saw(notes) * decay,
        "chords and drums": 0.2 * decay * sum(saw(f) for f in (220, 277.2, 329.6)) + 0.2 * drums,
        "vibrato": 0.4 * saw(200 * (1 + 0.03 * np.sin(2 * np.pi * 5 * t))),
        "glide": 0.4 * saw(60 + 250 * t),
        "octave jumps": 0.4 * saw(np.where(t % 0.4 < 0.2, 110.0, 220.0)),
        "voice after digital silence": np.where(t % 0.5 < 0.25, 0.3 * saw(130.0), 0),
        "film: voice, music, noise": 0.2 * saw(140 + 30 * np.sin(3 * t)) * (t % 0.7 < 0.4)
        + 0.1 * saw(notes)
        + 0.02 * drums,
        "noise": 0.1 * rng.standard_normal(n),
        "loud noise": rng.uniform(-1, 1, n),
        "quiet noise": rng.standard_normal(n) / 16384,
        "square": 0.5 * np.sign(np.sin(2 * np.pi * 100 * t) + 1e-9),
        "silence": np.zeros(n),
        "constant": np.full(n, 0.25),
        "clicks": np.where(np.arange(n) % 160 == 7, 0.5, 0.0),
    }
    return {name: sixteen_bit(wave) for name, wave in waves.items()}


@pytest.mark.parametrize("name", synthetic())
def test_synthetic_signals(isa: str, name: str, smile: Callable[[F32, int], Any]) -> None:
    both = Comparison()
    both.add(smile, synthetic()[name], 16000)
    both.check(lsp=None, label=f"{isa} {name}")


def test_short_signals(isa: str, data_root: Path, smile: Callable[[F32, int], Any]) -> None:
    """Edges: one row a pitch frame, windows over missing rows, 2 to 13 rows."""
    clip = speech(data_root, 3)[0]
    for n in [*range(1120, 3041, 160), 1121, 1279, 2399]:
        both = Comparison()
        both.add(smile, clip[4000 : 4000 + n], 16000)
        both.check(lsp=0.95, label=f"{isa} {n} samples")
        assert both.worst("lsp", delta=True) <= 1e-2
