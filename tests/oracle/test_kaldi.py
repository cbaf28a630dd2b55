# SPDX-License-Identifier: Apache-2.0
"""Kaldi's filter banks and cepstra against kaldi-native-fbank and against float64 arithmetic.

kaldi-native-fbank windows and transforms in float32. What its FFT rounds away is about 1e-7 of a frame's largest bin, so a
band 90 dB below the largest one is off by some 1e-3 and a band of nothing but a tone's distant side lobes by more. Ours
runs in float64. Two bounds follow: 1e-3 to kaldi-native-fbank wherever a band holds more than its noise, and 2e-4 to a
float64 reference everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zoo import ops
from zoo.pipeline import KaldiFbank, KaldiMfcc, Pipeline

knf = pytest.importorskip("kaldi_native_fbank")
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

TOLERANCE = 1e-3  # to kaldi-native-fbank
ROOM_DB = 75.0  # below a frame's largest band, where it holds
EXACT = 2e-4  # to float64
EPSILON = float(np.finfo(np.float32).eps)

FRAME = {
    "frame_length_ms", "frame_shift_ms", "preemph_coeff", "remove_dc_offset", "window_type", "blackman_coeff",
    "round_to_power_of_two", "snip_edges",
}  # fmt: skip
MEL = {"num_bins", "low_freq", "high_freq"}


def kaldi(wave: F32, rate: int, *, mfcc: bool = False, online: bool = False, **params: Any) -> F32:
    """Features of kaldi-native-fbank; online: the samples arrive in chunks."""
    options = knf.MfccOptions() if mfcc else knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.samp_freq = rate
    scale = params.pop("scale", 32768.0)
    for name, value in params.items():
        part = options.frame_opts if name in FRAME else options.mel_opts if name in MEL else options
        setattr(part, name, value)
    computer = (knf.OnlineMfcc if mfcc else knf.OnlineFbank)(options)
    samples = (wave * np.float32(scale)).tolist()
    step = 777 if online else max(1, len(samples))
    for at in range(0, len(samples), step):
        computer.accept_waveform(rate, samples[at : at + step])
    computer.input_finished()
    return np.array([computer.get_frame(i) for i in range(computer.num_frames_ready)], np.float32)


def mel_weights(rate: int, n_fft: int, num_bins: int, low: float, high: float) -> F64:
    """Kaldi's triangles, in float32 as there."""
    f32 = np.float32

    def mel(f: Any) -> Any:
        return f32(1127) * np.log(f32(1) + f / f32(700), dtype=np.float32)

    nyquist = f32(0.5) * f32(rate)
    low_mel, high_mel = mel(f32(low)), mel(f32(high) if high > 0 else nyquist + f32(high))
    step = (high_mel - low_mel) / f32(num_bins + 1)
    at = mel(f32(rate) / f32(n_fft) * np.arange(n_fft // 2, dtype=np.float32))
    left = (low_mel + np.arange(num_bins, dtype=np.float32) * step)[:, None]
    center = (low_mel + np.arange(1, num_bins + 1, dtype=np.float32) * step)[:, None]
    right = (low_mel + np.arange(2, num_bins + 2, dtype=np.float32) * step)[:, None]
    up, down = (at - left) / (center - left), (right - at) / (right - center)
    return np.where((at > left) & (at < right), np.where(at <= center, up, down), 0).astype(np.float64)


def exact(
    wave: F32,
    rate: int,
    *,
    mfcc: bool = False,
    scale: float = 32768.0,
    frame_length_ms: float = 25.0,
    frame_shift_ms: float = 10.0,
    preemph_coeff: float = 0.97,
    remove_dc_offset: bool = True,
    window_type: str = "povey",
    blackman_coeff: float = 0.42,
    round_to_power_of_two: bool = True,
    snip_edges: bool = True,
    num_bins: int = 23,
    low_freq: float = 20.0,
    high_freq: float = 0.0,
    use_energy: bool | None = None,
    raw_energy: bool = True,
    energy_floor: float = 0.0,
    use_log_fbank: bool = True,
    use_power: bool = True,
    num_ceps: int = 13,
    cepstral_lifter: float = 22.0,
) -> F64:
    """The definition, frame by frame in float64."""
    length = int(np.float32(rate) * np.float32(0.001) * np.float32(frame_length_ms))
    shift = int(np.float32(rate) * np.float32(0.001) * np.float32(frame_shift_ms))
    x, n = wave.astype(np.float64) * scale, len(wave)
    count = 1 + (n - length) // shift if snip_edges else (n + shift // 2) // shift
    first = 0 if snip_edges else shift // 2 - length // 2
    index = first + np.arange(count)[:, None] * shift + np.arange(length)
    index %= 2 * n  # mirrored with the edge samples
    frames = x[np.where(index < n, index, 2 * n - 1 - index)]
    if remove_dc_offset:
        frames = frames - frames.mean(1, keepdims=True)
    energy = (frames**2).sum(1)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    angle = 2 * np.pi * np.arange(length) / (length - 1)
    window = {
        "povey": (0.5 - 0.5 * np.cos(angle)) ** 0.85,
        "hamming": 0.54 - 0.46 * np.cos(angle),
        "hanning": 0.5 - 0.5 * np.cos(angle),
        "rectangular": np.ones(length),
        "blackman": blackman_coeff - 0.5 * np.cos(angle) + (0.5 - blackman_coeff) * np.cos(2 * angle),
    }[window_type]
    frames = (frames - float(np.float32(preemph_coeff)) * before) * window
    if not raw_energy:
        energy = (frames**2).sum(1)
    n_fft = 1 << (length - 1).bit_length() if round_to_power_of_two else length
    spectrum = np.abs(np.fft.rfft(frames, n_fft))[:, : n_fft // 2] ** (2 if use_power else 1)
    bands = spectrum @ mel_weights(rate, n_fft, num_bins, low_freq, high_freq).T
    log_energy = np.log(np.maximum(energy, max(EPSILON, energy_floor)))
    if mfcc or use_log_fbank:
        bands = np.log(np.maximum(bands, EPSILON))
    if not mfcc:
        return np.concatenate([log_energy[:, None], bands], 1) if use_energy else bands
    k, b = np.arange(num_ceps)[:, None], np.arange(num_bins) + 0.5
    basis = np.cos(np.pi / num_bins * k * b) * np.sqrt(np.where(k == 0, 1, 2) / num_bins)
    ceps = bands @ basis.T
    if cepstral_lifter:
        ceps *= 1 + 0.5 * cepstral_lifter * np.sin(np.pi * np.arange(num_ceps) / cepstral_lifter)
    if use_energy is None or use_energy:
        ceps[:, 0] = log_energy
    return np.asarray(ceps)


FBANK: list[dict[str, Any]] = [
    {},
    {"num_bins": 80, "scale": 1.0},
    {"num_bins": 80},
    {"num_bins": 40, "snip_edges": False, "window_type": "hamming", "use_energy": True, "raw_energy": False},
    {"window_type": "blackman", "num_bins": 30, "use_power": False, "low_freq": 100.0, "high_freq": -400.0},
    {"round_to_power_of_two": False, "window_type": "hanning", "high_freq": 7600.0, "use_energy": True},
    {"window_type": "rectangular", "preemph_coeff": 0.0, "remove_dc_offset": False},
    {
        "frame_length_ms": 32.0,
        "frame_shift_ms": 12.5,
        "use_energy": True,
        "energy_floor": 1e9,
        "preemph_coeff": 0.5,
    },
]
MFCC: list[dict[str, Any]] = [
    {},
    {"num_bins": 40, "num_ceps": 40, "use_energy": False},
    {"cepstral_lifter": 0.0, "snip_edges": False, "raw_energy": False, "energy_floor": 1e8},
]


@pytest.fixture(scope="session")
def speech(data_root: Path) -> list[F32]:
    """Sentences of EmoDB at 16 kHz."""
    soundfile = pytest.importorskip("soundfile")
    files = sorted((data_root / "emodb" / "full4").glob("*.flac"))[::22]
    clips = [soundfile.read(file, dtype="float32") for file in files]
    assert len(clips) > 10
    assert {rate for _, rate in clips} == {16000}
    return [samples for samples, _ in clips]


@pytest.fixture(scope="session")
def references(speech: list[F32]) -> dict[bool, list[list[tuple[F32, F64]]]]:
    """Of fbank (False) and MFCC (True), of each case and clip: kaldi-native-fbank's features and those in float64."""
    return {
        mfcc: [
            [(kaldi(c, 16000, mfcc=mfcc, **case), exact(c, 16000, mfcc=mfcc, **case)) for c in speech]
            for case in cases
        ]
        for mfcc, cases in ((False, FBANK), (True, MFCC))
    }


def test_fbank_of_real_speech(isa: str, speech: list[F32], references: dict[bool, Any]) -> None:
    for case, answers in zip(FBANK, references[False], strict=True):
        worst = faint = off = 0.0
        cells = loud_cells = 0
        for clip, (want, truth) in zip(speech, answers, strict=True):
            got = ops.kaldi_fbank(clip, 16000, **case)
            assert got.shape == want.shape
            energy = 1 if case.get("use_energy") else 0
            level = (10 if case.get("use_power", True) else 20) / np.log(10) * want[:, energy:]
            loud = np.ones(want.shape, bool)
            loud[:, energy:] = level > level.max(1, keepdims=True) - ROOM_DB
            error = np.abs(got - want)
            worst, faint = max(worst, float(error[loud].max())), max(faint, float(error.max()))
            cells, loud_cells = cells + loud.size, loud_cells + int(loud.sum())
            off = max(off, float(np.abs(got - truth).max()))
        print(f"{isa} {case}: {worst:.1e} (faint bands {faint:.1e}), to float64 {off:.1e}")
        assert worst <= TOLERANCE
        assert loud_cells > 0.97 * cells  # the bound is about nearly all bands
        assert off <= EXACT


def test_mfcc_of_real_speech(isa: str, speech: list[F32], references: dict[bool, Any]) -> None:
    """A faint band's error reaches all coefficients, times up to 12 by the lifter, so that the RMS is bounded."""
    for case, answers in zip(MFCC, references[True], strict=True):
        squares, count, off = 0.0, 0, 0.0
        for clip, (want, truth) in zip(speech, answers, strict=True):
            got = ops.kaldi_mfcc(clip, 16000, **case)
            assert got.shape == want.shape
            squares, count = squares + float(((got - want) ** 2).sum()), count + got.size
            off = max(off, float(np.abs(got - truth).max()))
        print(f"{isa} {case}: RMS {np.sqrt(squares / count):.1e}, to float64 {off:.1e}")
        assert np.sqrt(squares / count) <= TOLERANCE / 2
        assert off <= EXACT


def signals() -> dict[str, F32]:
    """Extremes at 16 kHz."""
    n, t = 8000, np.arange(8000) / 16000
    impulse, first, last = np.zeros(n), np.zeros(n), np.zeros(n)
    impulse[n // 2], first[0], last[-1] = 1, 1, 1
    rng = np.random.default_rng(3)
    return {
        name: np.asarray(wave, np.float32)
        for name, wave in {
            "silence": np.zeros(n),
            "impulse": impulse,
            "first sample": first,
            "last sample": last,
            "tone on a bin": 0.5 * np.sin(2 * np.pi * 1000 * t),
            "tone between bins": np.sin(2 * np.pi * 3333.3 * t),
            "quiet tone": 1e-4 * np.sin(2 * np.pi * 440 * t),
            "square": np.sign(np.sin(2 * np.pi * 100 * t) + 1e-9),
            "constant": np.ones(n),
            "noise": rng.standard_normal(n),
            "noise on an offset": 0.9 + 1e-3 * rng.standard_normal(n),
            "denormals": 1e-40 * rng.standard_normal(n),
            "gain 1e9": 1e9 * rng.standard_normal(n),
            "one frame": rng.standard_normal(400),
            "401 samples": rng.standard_normal(401),
        }.items()
    }


@pytest.mark.parametrize("name", signals())
def test_synthetic_signals(isa: str, name: str) -> None:
    wave = signals()[name]
    for case in (
        {"num_bins": 80},
        {"num_bins": 80, "scale": 1.0, "window_type": "hanning"},
        {"num_bins": 40, "snip_edges": False, "use_energy": True},
    ):
        got = ops.kaldi_fbank(wave, 16000, **case)  # type: ignore[arg-type]
        assert np.abs(got - exact(wave, 16000, **case)).max() <= EXACT, case  # type: ignore[arg-type]
        want = kaldi(wave, 16000, **case)
        assert got.shape == want.shape
        if name == "noise on an offset":
            continue  # its float32 sum leaves some of the offset: 0.02 off the definition
        error = np.abs(got - want)
        if "tone" in name:  # bands of distant side lobes hold its noise
            error = error[want > want.max(1, keepdims=True) - ROOM_DB / 10 * np.log(10)]
        assert error.max() <= TOLERANCE, case


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_rates(isa: str, rate: int) -> None:
    wave = np.random.default_rng(rate).standard_normal(rate // 4).astype(np.float32)
    got, want = ops.kaldi_fbank(wave, rate, num_bins=30), kaldi(wave, rate, num_bins=30)
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= TOLERANCE
    assert np.abs(got - exact(wave, rate, num_bins=30)).max() <= EXACT


@pytest.mark.parametrize("snip_edges", [True, False])
def test_streams_equal_the_online_features(isa: str, snip_edges: bool) -> None:
    """Frames come out as soon as there, and are those of the online computers of kaldi-native-fbank."""
    wave = np.random.default_rng(1).uniform(-1, 1, 9001).astype(np.float32)
    for op, mfcc in (
        (KaldiFbank(snip_edges=snip_edges, rate=16000), False),
        (KaldiMfcc(snip_edges=snip_edges, rate=16000), True),
    ):
        stream = Pipeline([op], isa=isa).stream(16000)
        rows = [stream.push(wave[at : at + 777]) for at in range(0, len(wave), 777)]
        assert sum(map(len, rows)) >= 1 + (9001 - (400 if snip_edges else 280)) // 160 - 1
        got = np.concatenate([*rows, stream.finish()])
        want = kaldi(wave, 16000, mfcc=mfcc, online=True, snip_edges=snip_edges)
        assert got.shape == want.shape
        assert np.abs(got - want).max() <= TOLERANCE
