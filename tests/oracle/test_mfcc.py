# SPDX-License-Identifier: Apache-2.0
"""STFT, mel, decibels, DCT and MFCC against librosa 0.11 and SciPy.

librosa windows and transforms in float64 and rounds the spectrum to complex64; all later steps are float32. Ours keep
float64 up to the mel bands. What differs is float32 rounding: c0 of a silent clip is -1131, where one float32 step is
1.2e-4, so 5e-3 dB is 40 steps of the largest coefficient.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zoo import ops
from zoo.pipeline import Log, Mel, Pipeline

librosa = pytest.importorskip("librosa")
scipy_fft = pytest.importorskip("scipy.fft")
F32 = NDArray[np.float32]

WORST_DB = 5e-3
RMS_DB = 1e-4
SYNTHETIC_DB = 0.05


def librosa_mfcc(wave: F32, rate: int = 22050, **params: Any) -> F32:
    """Coefficients of librosa, time first."""
    norm = params.pop("norm", "slaney")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "n_fft is too large for input signal"
        out = librosa.feature.mfcc(y=wave, sr=rate, n_mfcc=params.pop("n_mfcc", 39), mel_norm=norm, **params)
    return np.ascontiguousarray(out.T)


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_mfcc_of_real_speech(isa: str, pad_mode: str, real_clips: list[F32]) -> None:
    worst, squares, count = 0.0, 0.0, 0
    for clip in real_clips if pad_mode == "constant" else real_clips[::5]:
        got = ops.mfcc(clip, 22050, n_mfcc=39, pad_mode=pad_mode)  # type: ignore[arg-type]
        want = librosa_mfcc(clip, pad_mode=pad_mode)
        assert got.shape == want.shape
        error = np.abs(got.astype(np.float64) - want)
        worst = max(worst, float(error.max()))
        squares += float((error**2).sum())
        count += error.size
    print(f"{isa} {pad_mode}: worst {worst:.2e} dB, RMS {np.sqrt(squares / count):.2e} dB")
    assert worst <= WORST_DB
    assert np.sqrt(squares / count) <= RMS_DB


#: The settings of fact sheet 6: A (emotion), D and E (Tacotron's mel spectrogram).
SHEET_6A: dict[str, Any] = {"n_fft": 1024, "win_length": 512, "hop_length": 512, "window": "hamming"}
SHEET_6D: dict[str, Any] = {
    "n_fft": 1024,
    "hop_length": 256,
    "pad_mode": "reflect",
    "power": 1.0,
    "n_mels": 80,
}
SHEET_6D["fmax"] = 8000.0


@pytest.mark.parametrize("htk", [False, True])
def test_mfcc_of_real_speech_at_48_khz(isa: str, htk: bool, real_clips_48k: list[F32]) -> None:
    worst, squares, count = 0.0, 0.0, 0
    for clip in real_clips_48k[:: 5 if htk else 1]:
        got = ops.mfcc(clip, 48000, n_mfcc=40, htk=htk, **SHEET_6A)
        error = np.abs(
            got.astype(np.float64)
            - librosa_mfcc(clip, 48000, n_mfcc=40, htk=htk, pad_mode="constant", **SHEET_6A)
        )
        worst = max(worst, float(error.max()))
        squares += float((error**2).sum())
        count += error.size
    print(f"{isa} htk={htk}: worst {worst:.2e} dB, RMS {np.sqrt(squares / count):.2e} dB")
    assert worst <= WORST_DB
    assert np.sqrt(squares / count) <= RMS_DB


def log_mel(wave: F32) -> F32:
    """Sheet 6 D and E with librosa and NumPy, in float64 from the mel bands on."""
    bands = librosa.feature.melspectrogram(y=wave, sr=22050, **SHEET_6D)
    return np.log(np.maximum(bands.T.astype(np.float64), 1e-5)).astype(np.float32)


def test_log_mel_of_real_speech(isa: str, real_clips: list[F32]) -> None:
    """1e-4 is float32 rounding of a spectrum with 80 dB below its peak: librosa rounds it to complex64."""
    pipeline = Pipeline([Mel(rate=22050, **SHEET_6D), Log(amin=1e-5)], isa=isa)
    worst, worst_linear = 0.0, 0.0
    for clip in real_clips:
        worst = max(worst, float(np.abs(pipeline.run(clip, 22050) - log_mel(clip)).max()))
        mel = ops.mel(clip, 22050, **SHEET_6D)
        want = librosa.feature.melspectrogram(y=clip, sr=22050, **SHEET_6D).T
        peak = want.max(1, keepdims=True)
        worst_linear = max(
            worst_linear, float((np.abs(mel - want)[peak[:, 0] > 0] / peak[peak > 0, None]).max())
        )
    print(f"{isa}: worst log {worst:.2e}, linear {worst_linear:.2e} of the frame's peak")
    assert worst <= 1e-4
    assert worst_linear <= 1e-5


def synthetic() -> dict[str, F32]:
    """Signals whose spectra have noise floors, steps and nothing in between."""
    n, rate = 30000, 22050
    t = np.arange(n) / rate
    impulse = np.zeros(n)
    impulse[n // 2] = 1
    first = np.zeros(n)
    first[0] = 1
    rng = np.random.default_rng(3)
    return {
        name: np.asarray(wave, np.float32)
        for name, wave in {
            "silence": np.zeros(n),
            "impulse": impulse,
            "impulse at 0": first,
            "tone on a bin": np.sin(2 * np.pi * rate / 2048 * 93 * t),
            "tone between bins": np.sin(2 * np.pi * 1000 * t),
            "tone at 10 kHz": np.sin(2 * np.pi * 10000 * t),
            "quiet tone": 1e-4 * np.sin(2 * np.pi * 440 * t),
            "square": np.sign(np.sin(2 * np.pi * 100 * t) + 1e-9),
            "square at Nyquist": np.where(np.arange(n) % 2 == 0, 1.0, -1.0),
            "constant": np.ones(n),
            "noise": rng.standard_normal(n),
            "denormals": 1e-40 * rng.standard_normal(n),
            "gain 1e12": 1e12 * rng.standard_normal(n),
            "gain 1e-12": 1e-12 * rng.standard_normal(n),
            "1 sample": np.array([0.5]),
            "1 sample of silence": np.zeros(1),
            "2 samples": np.array([0.5, -1.0]),
            "511 samples": rng.standard_normal(511),
            "1024 samples": rng.standard_normal(1024),
            "1025 samples": rng.standard_normal(1025),
        }.items()
    }


@pytest.mark.parametrize("name", synthetic())
def test_mfcc_of_synthetic_signals(isa: str, name: str) -> None:
    wave = synthetic()[name]
    for pad_mode in ("constant", "reflect"):
        got = ops.mfcc(wave, 22050, pad_mode=pad_mode)  # type: ignore[arg-type]
        want = librosa_mfcc(wave, pad_mode=pad_mode)
        assert got.shape == want.shape
        assert np.abs(got - want).max() <= SYNTHETIC_DB, pad_mode


@pytest.mark.parametrize("name", synthetic())
def test_log_mel_of_synthetic_signals(isa: str, name: str) -> None:
    """Bands below 1e-6 of the frame's largest hold nothing but librosa's rounding to complex64: not compared."""
    wave = synthetic()[name]
    if len(wave) <= 512:  # librosa mirrors once only
        wave = np.pad(wave, (0, 1025))
    got = ops.log(ops.mel(wave, 22050, **SHEET_6D), amin=1e-5)
    want = log_mel(wave)
    assert got.shape == want.shape
    signal = want >= want.max(1, keepdims=True) + np.log(1e-6)
    assert np.abs(got - want)[signal].max() <= 1e-4
    assert (got[~signal] <= (want.max(1, keepdims=True) + np.log(2e-6)).repeat(80, 1)[~signal]).all()


CASES: list[dict[str, Any]] = [
    {**SHEET_6A, "rate": 48000, "n_mfcc": 40},
    {**SHEET_6A, "rate": 48000, "n_mfcc": 40, "htk": True},
    {"n_fft": 1024, "hop_length": 256, "power": 1.0, "n_mels": 80, "n_mfcc": 80, "fmax": 8000.0},
    {"n_fft": 1024, "hop_length": 256, "win_length": 512, "window": "hamming", "rate": 48000},
    {"n_fft": 512, "hop_length": 160, "win_length": 400, "rate": 16000, "n_mels": 40, "n_mfcc": 13},
    {"n_fft": 400, "hop_length": 160, "rate": 16000, "n_mels": 80, "htk": True, "norm": "none"},
    {"n_fft": 960, "hop_length": 240, "rate": 24000, "n_mels": 64, "fmin": 50.0, "fmax": 8000.0},
    {"n_fft": 4096, "hop_length": 1024, "htk": True, "n_mels": 256, "n_mfcc": 256},
    {"n_fft": 2048, "hop_length": 512, "center": False},
    {"n_fft": 2048, "hop_length": 512, "top_db": None},
    {"n_fft": 2048, "hop_length": 512, "power": 1.0},
    {"n_fft": 256, "hop_length": 64, "n_mels": 20, "n_mfcc": 1, "rate": 8000},
    {"n_fft": 750, "hop_length": 200, "n_mels": 26, "n_mfcc": 17, "rate": 8000},
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"n_fft={c['n_fft']},{','.join(list(c)[2:])}")
def test_mfcc_parameters(isa: str, case: dict[str, Any]) -> None:
    params = dict(case)
    rate = params.pop("rate", 22050)
    rng = np.random.default_rng(5)
    wave = (rng.standard_normal(20011) * np.linspace(0.01, 1, 20011)).astype(np.float32)
    got = ops.mfcc(wave, rate, **params)
    reference = dict(params)
    if reference.get("norm") == "none":
        reference["norm"] = None
    top_db = reference.pop("top_db", 80.0)
    n_mfcc = reference.pop("n_mfcc", 39)
    norm = reference.pop("norm", "slaney")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # empty mel bands
        power = librosa.feature.melspectrogram(y=wave, sr=rate, norm=norm, pad_mode="constant", **reference)
    want = librosa.feature.mfcc(S=librosa.power_to_db(power, top_db=top_db), n_mfcc=n_mfcc).T
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= WORST_DB


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"n_fft={c['n_fft']},{','.join(list(c)[2:])}")
def test_linear_mel_relative_to_the_frames_peak(isa: str, case: dict[str, Any]) -> None:
    params = {k: v for k, v in case.items() if k not in ("n_mfcc", "top_db")}
    rate = params.pop("rate", 22050)
    wave = np.random.default_rng(6).standard_normal(20011).astype(np.float32)
    got = ops.mel(wave, rate, **params)
    if params.get("norm") == "none":
        params["norm"] = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        want = librosa.feature.melspectrogram(y=wave, sr=rate, pad_mode="constant", **params).T
    assert got.shape == want.shape
    assert (np.abs(got - want).max(1) <= 1e-5 * want.max(1)).all()


@pytest.mark.parametrize(
    "n_fft",
    [
        16,
        18,
        20,
        24,
        30,
        36,
        50,
        60,
        64,
        100,
        128,
        144,
        250,
        256,
        320,
        400,
        480,
        512,
        600,
        640,
        720,
        750,
        768,
        810,
        900,
        960,
        972,
        1000,
        1024,
        1250,
        1280,
        1458,
        1500,
        1536,
        1600,
        1920,
        2000,
        2048,
        2400,
        3072,
        3750,
        4096,
    ],
)
def test_stft_sizes(isa: str, n_fft: int) -> None:
    """The transform against NumPy's float64 one: within float32 rounding of the largest bin."""
    wave = np.random.default_rng(n_fft).standard_normal(5 * n_fft).astype(np.float32)
    got = ops.stft(wave, n_fft=n_fft, hop_length=n_fft // 2, center=False)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    frames = np.stack([wave[s : s + n_fft] * window for s in range(0, 4 * n_fft + 1, n_fft // 2)])
    want = np.fft.rfft(frames)
    assert got.shape == want.shape
    scale = np.abs(want).max()
    assert np.abs(got - want).max() <= 2e-7 * scale
    power = ops.stft(wave, n_fft=n_fft, hop_length=n_fft // 2, center=False, output="power")
    assert np.abs(power - np.abs(want) ** 2).max() <= 4e-7 * scale**2
    magnitude = ops.stft(wave, n_fft=n_fft, hop_length=n_fft // 2, center=False, output="magnitude")
    assert np.abs(magnitude - np.abs(want)).max() <= 2e-7 * scale


def test_stft_centred_matches_librosa(isa: str) -> None:
    wave = np.random.default_rng(8).standard_normal(5000).astype(np.float32)
    for pad_mode in ("constant", "reflect"):
        got = ops.stft(wave, n_fft=1024, hop_length=256, pad_mode=pad_mode)  # type: ignore[arg-type]
        want = librosa.stft(wave, n_fft=1024, hop_length=256, pad_mode=pad_mode).T
        assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max()


def test_decibels_within_two_float32_steps(isa: str) -> None:
    power = np.concatenate(
        [np.logspace(-12, 30, 200003), 1 + np.linspace(-0.3, 0.42, 100001), [0.0, 1.0, 1e-10, 3.4e38]]
    ).astype(np.float32)
    got = ops.power_to_db(power, top_db=None)
    want = 10 * np.log10(np.maximum(power.astype(np.float64), np.float64(np.float32(1e-10))))
    # the reference rounds once; near 0 dB the error is that of log(m), relative to m - 1
    assert (np.abs(got - want) <= 2 * np.spacing(np.abs(want).astype(np.float32)) + 1e-12).all()
    clipped = ops.power_to_db(power[:1001], top_db=20.0, ref=0.5)
    assert np.allclose(clipped, librosa.power_to_db(power[:1001], ref=0.5, top_db=20.0), atol=3e-5)


@pytest.mark.parametrize(("base", "reference"), [("e", np.log), ("10", np.log10), ("2", np.log2)])
def test_log_within_float32_rounding(isa: str, base: Any, reference: Any) -> None:
    rng = np.random.default_rng(7)
    values = np.concatenate(
        [
            np.exp(rng.uniform(np.log(1.2e-38), np.log(3.3e38), 200001)),
            1 + rng.uniform(-0.3, 0.42, 100001),
            1 + np.arange(-40, 41) * 2.0**-23,  # where the result is as small as its rounding error must be
            2.0 ** np.arange(-120, 127),
            [0.0, -1.0, -3e38, 1e-40, 3.4e38],
        ]
    ).astype(np.float32)
    got = ops.log(values, base=base, amin=1e-37)
    want = reference(np.maximum(values, np.float32(1e-37)).astype(np.float64))
    assert (np.abs(got - want) <= 0.51 * np.spacing(np.abs(want).astype(np.float32))).all()
    assert (
        ops.log(np.float32([-1, 0, 1e-6, 1e-5]), base=base, amin=1e-5) == np.float32(reference(1e-5))
    ).all()


@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (13, 13), (40, 13), (80, 80), (128, 39), (200, 97)])
def test_dct(isa: str, n_in: int, n_out: int) -> None:
    rows = np.random.default_rng(9).standard_normal((37, n_in)).astype(np.float32)
    want = scipy_fft.dct(rows.astype(np.float64), type=2, norm="ortho")[:, :n_out]
    assert np.abs(ops.dct(rows, n_out) - want).max() <= 4e-6
