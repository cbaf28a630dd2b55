# SPDX-License-Identifier: Apache-2.0
"""Properties and errors of the ops and the audio reader, and the state of the extension's stub."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo import _native, ops, pipeline
from zoo.errors import InputError, ProviderUnavailable

ISAS = _native.isas()
QUICK = settings(max_examples=40, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def _default_isa() -> Iterator[None]:
    yield
    _native.set_isa("")


def on_isa(isa: str, call: Any, *args: Any, **kwargs: Any) -> Any:
    _native.set_isa(isa)
    return call(*args, **kwargs)


# ------------------------------------------------------------------------------------------------------------- ISA


def test_isa_can_be_forced_and_is_never_replaced_silently(tmp_path: Path) -> None:
    assert ops.isa() in ops.isas()
    for name in ops.isas():
        _native.set_isa(name)
        assert ops.isa() == name
        assert pipeline.Pipeline([pipeline.Fit(length=3)]).isa == name
    with pytest.raises(ProviderUnavailable, match="isa=avx9000: unknown instruction set; this CPU can run: "):
        _native.set_isa("avx9000")
    code = "import zoo._native as n; print(n.isa())"
    for name in [*ops.isas(), "avx9000"]:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "ZOO_ISA": name},
            cwd=tmp_path,  # not the source tree, which has no extension
            capture_output=True,
            text=True,
        )
        if name in ops.isas():
            assert done.stdout.strip() == name
        else:
            assert done.returncode != 0
            assert "ProviderUnavailable: ZOO_ISA=avx9000: unknown instruction set" in done.stderr


@QUICK
@given(
    n=st.integers(1, 9000), gain=st.floats(1e-30, 1e15), seed=st.integers(0, 99), rate=st.integers(1, 200000)
)
def test_isas_agree(n: int, gain: float, seed: int, rate: int) -> None:
    wave = (np.random.default_rng(seed).standard_normal(n) * gain).astype(np.float32)
    scale = float(np.abs(wave).max())
    mfcc = [on_isa(i, ops.mfcc, wave, 22050) for i in ISAS]
    mel = [on_isa(i, ops.mel, wave, 22050) for i in ISAS]
    rate = min(max(rate, 22050 // 200), 22050 * 200)
    resampled = [on_isa(i, ops.resample, wave, rate, 22050) for i in ISAS]
    for i in range(1, len(ISAS)):
        assert np.abs(mfcc[i] - mfcc[0]).max() <= 2e-3
        assert (np.abs(mel[i] - mel[0]) <= 1e-5 * mel[0].max(1, keepdims=True)).all()
        assert np.abs(resampled[i] - resampled[0]).max() <= 4e-6 * scale


# ------------------------------------------------------------------------------------------------------ properties


@QUICK
@given(n=st.integers(1, 5000), hop=st.integers(1, 1500), isa=st.sampled_from(ISAS), center=st.booleans())
def test_shapes(n: int, hop: int, isa: str, center: bool) -> None:
    wave = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    _native.set_isa(isa)
    if not center and n < 512:
        with pytest.raises(
            InputError, match=f"the signal has {n} samples, fewer than one frame of n_fft = 512"
        ):
            ops.mfcc(wave, 16000, n_fft=512, hop_length=hop, center=center)
        return
    out = ops.mfcc(wave, 16000, n_fft=512, hop_length=hop, n_mels=40, n_mfcc=13, center=center)
    assert out.shape == (1 + n // hop if center else 1 + (n - 512) // hop, 13)
    assert out.dtype == np.float32
    assert out.flags.owndata
    assert np.isfinite(out).all()


@QUICK
@given(n=st.integers(1, 300), length=st.integers(1, 300))
def test_fit_is_the_sheets_definition(n: int, length: int) -> None:
    wave = np.arange(1, n + 1, dtype=np.float32)
    d = length - n
    if d >= 0:
        want = {"center": (d // 2, d - d // 2), "end": (0, d), "start": (d, 0)}
        for pad, widths in want.items():
            np.testing.assert_array_equal(ops.fit(wave, length, pad=pad), np.pad(wave, widths))  # type: ignore[arg-type]
    else:
        for crop, at in {"center": -d // 2, "start": 0, "end": -d}.items():
            np.testing.assert_array_equal(ops.fit(wave, length, crop=crop), wave[at : at + length])  # type: ignore[arg-type]


@QUICK
@given(n=st.integers(1, 3000), rate_in=st.integers(1, 768000), rate_out=st.integers(1, 768000))
def test_resample_takes_any_rate_or_says_why_not(n: int, rate_in: int, rate_out: int) -> None:
    wave = np.sin(np.arange(n, dtype=np.float32))
    if rate_in // 256 > rate_out or rate_out // 256 > rate_in:
        with pytest.raises(InputError, match=f"{rate_in} Hz to {rate_out} Hz is a ratio above 256"):
            ops.resample(wave, rate_in, rate_out)
        return
    out = ops.resample(wave[: max(1, min(n, 200000 * rate_in // rate_out))], rate_in, rate_out)
    assert len(out) == -(-min(n, max(1, 200000 * rate_in // rate_out)) * rate_out // rate_in)
    assert np.abs(out).max() <= 2


@QUICK
@given(n=st.integers(1, 2000), bad=st.sampled_from([np.nan, np.inf, -np.inf]), data=st.data())
def test_nonfinite_samples_are_named(n: int, bad: float, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, n - 1))
    isa = data.draw(st.sampled_from(ISAS))
    wave = np.zeros(n, data.draw(st.sampled_from([np.float32, np.float64])))
    wave[at:] = bad
    for call in (lambda: ops.mfcc(wave, 22050), lambda: ops.resample(wave, 3, 2), lambda: ops.stft(wave)):
        with pytest.raises(InputError, match=f"sample {at} is not finite"):
            on_isa(isa, call)


@QUICK
@given(
    n=st.integers(1, 300), isa=st.sampled_from(ISAS), base=st.sampled_from(["e", "10", "2"]), data=st.data()
)
def test_log_of_a_value_does_not_depend_on_its_place(
    n: int, isa: str, base: Any, data: st.DataObject
) -> None:
    values = np.random.default_rng(n).uniform(-1, 9, n).astype(np.float32)
    lo = data.draw(st.integers(0, n - 1))
    hi = data.draw(st.integers(lo + 1, n))
    whole = on_isa(isa, ops.log, values, base=base)
    np.testing.assert_array_equal(ops.log(values[lo:hi].copy(), base=base), whole[lo:hi])
    np.testing.assert_array_equal(ops.log(np.tile(values, (2, 1)), base=base), np.tile(whole, (2, 1)))


def test_denormals_take_no_slow_path() -> None:
    import time

    rng = np.random.default_rng(0)
    waves = [(rng.standard_normal(200000) * g).astype(np.float32) for g in (1.0, 1e-40)]
    times: list[list[float]] = [[], []]
    for _ in range(7):
        for wave, t in zip(waves, times, strict=True):
            start = time.perf_counter()
            ops.mfcc(ops.resample(wave, 16000, 22050), 22050)
            t.append(time.perf_counter() - start)
    assert min(times[1]) <= 3 * min(times[0])


@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.float32, 1), (np.float64, 1), (np.int16, 32768), (np.int32, 2147483648)]
)
def test_dtypes_channels_and_strides(dtype: type, scale: float) -> None:
    rng = np.random.default_rng(4)
    wave = rng.uniform(-0.9, 0.9, (5000, 3))
    given_wave = (wave * scale).astype(dtype)
    exact = (given_wave.astype(np.float64) / scale).mean(1).astype(np.float32)
    for isa in ISAS:
        _native.set_isa(isa)
        assert np.abs(ops.fit(given_wave, 5000) - exact).max() <= 6e-8
        np.testing.assert_array_equal(
            ops.fit(given_wave[:, 1], 5000), (given_wave[:, 1].astype(np.float64) / scale).astype(np.float32)
        )
        np.testing.assert_array_equal(ops.fit(given_wave[::-2, :1], 2500)[:1], ops.fit(given_wave[-1:, 0], 1))


def test_full_scale_integers() -> None:
    np.testing.assert_array_equal(
        ops.fit(np.array([-32768, 32767], np.int16), 2), np.float32([-1, 32767 / 32768])
    )
    np.testing.assert_array_equal(ops.fit(np.array([-(2**31)], np.int32), 1), np.float32([-1]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.mfcc(np.zeros(0, np.float32), 22050), "the signal has 0 samples"),
        (lambda: ops.fit(np.zeros(0, np.float32), 5), "the signal has 0 samples"),
        (lambda: ops.resample(np.zeros(0, np.float32), 5, 6), "the signal has 0 samples"),
        (lambda: ops.mfcc(np.zeros(9, np.complex64), 22050), "elements of type 'Zf'"),
        (lambda: ops.mfcc(np.zeros(9, ">f4"), 22050), "in native byte order"),
        (
            lambda: ops.mfcc(np.zeros((9, 2, 2), np.float32), 22050),
            "samples has 3 dimensions; it must have 1 or 2",
        ),
        (lambda: ops.mfcc(np.zeros((9, 65), np.float32), 22050), "samples has 65 channels"),
        (lambda: ops.mfcc(np.zeros((9, 0), np.float32), 22050), "samples has 0 channels"),
        (lambda: ops.mfcc("text", 22050), "samples is a str; it must be a float32"),  # type: ignore[arg-type]
        (lambda: ops.mfcc([1.0, 2.0], 22050), "samples is a list"),
        (lambda: ops.mfcc(np.zeros(9, np.float32), 0), "rate is 0; it must lie between 1 and 768000"),
        (
            lambda: ops.mfcc(np.zeros(9, np.float32), 22050, n_fft=2046),
            "n_fft is 2046; it must be even, a product",
        ),
        (lambda: ops.mfcc(np.zeros(9, np.float32), 22050, n_fft=1025), "n_fft is 1025"),
        (lambda: ops.mfcc(np.zeros(9, np.float32), 22050, n_mfcc=129), "n_mfcc is 129; .* n_mels = 128"),
        (
            lambda: ops.mfcc(np.zeros(9, np.float32), 22050, fmin=9000.0, fmax=8000.0),
            "0 <= fmin < fmax must hold",
        ),
        (lambda: ops.mfcc(np.zeros(9, np.float32), 22050, power=1.5), "power is 1.500000; it must be 1 or 2"),
        (lambda: ops.mfcc(np.full(9, 1e30, np.float32), 22050), "power overflows float32; scale the samples"),
        (lambda: ops.stft(np.zeros(9, np.float32), win_length=4096), "win_length is 4096; .* n_fft = 2048"),
        (lambda: ops.stft(np.zeros(9, np.float32), hop_length=0), "hop_length is 0; it must lie between"),
        (lambda: ops.fit(np.zeros(9, np.float32), 0), "length is 0; it must lie between"),
        (lambda: ops.fit(np.zeros(9, np.float32), 5, pad="left"), "pad is 'left'; it must be one of center"),  # type: ignore[arg-type]
        (
            lambda: ops.dct(np.zeros((2, 9), np.float32), 10),
            "n_out is 10; it must lie between 1 and n_in = 9",
        ),
        (lambda: ops.dct(np.zeros((2, 9)), 3), "the input must be float32"),  # type: ignore[arg-type]
        (lambda: ops.power_to_db(np.array([1, np.nan], np.float32)), "value 1 is not finite"),
        (lambda: ops.power_to_db(np.zeros(0, np.float32)), r"power_to_db: the input has shape \(0,\)"),
        (lambda: ops.log(np.array([1, np.inf], np.float32)), "value 1 is not finite"),
        (lambda: ops.log(np.ones(1, np.float32), amin=0.0), "amin is 0; it must lie between 1e-37 and"),
        (lambda: ops.log(np.ones(1, np.float32), base="3"), "base is '3'; it must be one of e, 10, 2"),  # type: ignore[arg-type]
        (lambda: ops.log(np.ones(1)), "the input must be float32"),  # type: ignore[arg-type]
        (
            lambda: ops.power_to_db(np.ones(1, np.float32), amin=0.0),
            "amin is 0; it must lie between 1e-37 and",
        ),
        (
            lambda: ops.standardize(np.zeros((2, 3), np.float32), mean=[0], std=[1]),
            "have 1 values, the input has 3",
        ),
        (
            lambda: ops.standardize(np.zeros((2, 1), np.float32), mean=[0], std=[0]),
            r"std\[0\] is 0.000000; it must be",
        ),
        (
            lambda: ops.min_max(np.zeros((2, 3), np.float32), low=[0], high=[1]),
            "low and high have 1 values, the input has 3",
        ),
        (lambda: ops.min_max(np.zeros((2, 1), np.float32), low=[0]), "low has 1 values and high 0"),
        (
            lambda: ops.min_max(np.zeros((2, 1), np.float32), low=[1], high=[0]),
            r"low\[0\] is 1.000000 and high\[0\] 0.000000; both must be finite, high not below low",
        ),
        (lambda: ops.min_max(np.array([[1, np.nan]], np.float32)), "value 1 is not finite"),
    ],
)
def test_messages(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_standardize() -> None:
    rows = np.random.default_rng(1).normal(3, 2, (50, 4)).astype(np.float32)
    rows[:, 3] = 7
    got = ops.standardize(rows)
    assert np.abs(got[:, :3] - ((rows - rows.mean(0)) / rows.std(0).clip(1e-30))[:, :3]).max() <= 1e-5
    assert (got[:, 3] == 0).all()
    mean, std = [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 0.5, 3.0]
    assert np.abs(ops.standardize(rows, mean=mean, std=std) - (rows - mean) / std).max() <= 1e-6


def test_min_max() -> None:
    rows = np.random.default_rng(1).normal(3, 2, (50, 4)).astype(np.float32)
    rows[:, 3] = 7
    low, high = rows.min(0).astype(np.float64), rows.max(0).astype(np.float64)
    expected = ((rows - low) / np.where(high > low, high - low, 1)).clip(0, 1)
    for isa in ISAS:
        _native.set_isa(isa)
        got = ops.min_max(rows)
        assert np.abs(got - expected).max() <= 1e-7
        assert (got[:, :3].min(0) == 0).all()
        assert (got[:, :3].max(0) == 1).all()
        assert (got[:, 3] == 0).all()  # constant
        np.testing.assert_array_equal(ops.min_max(rows, low=low.tolist(), high=high.tolist()), got)
        tight = ops.min_max(rows, low=[3.0] * 4, high=[4.0] * 4)
        np.testing.assert_allclose(tight, (rows - 3.0).clip(0, 1), atol=1e-6)
        np.testing.assert_array_equal(ops.min_max(rows[:1]), np.zeros((1, 4), np.float32))
    bounded = pipeline.Pipeline([pipeline.MinMax(low=(0.0,) * 4, high=(6.0,) * 4)], shape=(-1, 4))
    stream = bounded.stream(shape=(4,))
    parts = [stream.push(rows[:7]), stream.push(rows[7:]), stream.finish()]
    np.testing.assert_array_equal(np.concatenate(parts), bounded.run(rows))


# ---------------------------------------------------------------------------------------------------------- reader


def wav(
    data: bytes,
    *,
    tag: int = 1,
    channels: int = 1,
    rate: int = 8000,
    bits: int = 16,
    claimed: int | None = None,
) -> bytes:
    """A RIFF file with one fmt and one data chunk."""
    align = channels * bits // 8
    fmt = struct.pack("<HHIIHH", tag, channels, rate, min(rate * align, 2**32 - 1), align, bits)
    size = len(data) if claimed is None else claimed
    body = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", min(len(body), 2**32 - 1)) + body


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


BAD_FILES = {
    "empty": (b"", "the file is empty"),
    "text": (b"this is not audio, whatever its name says\n" * 9, "is neither WAV nor FLAC"),
    "no samples": (wav(b""), "the file holds 0 samples"),
    "truncated": (
        wav(bytes(100), claimed=2000),
        "truncated WAV: the header says 1000 frames, the file holds 50",
    ),
    "cut in the header": (wav(bytes(100))[:30], "the WAV header is damaged"),
    "only RIFF": (b"RIFF\0\0\0\0WAVE", "the WAV header is damaged"),
    "rate 0": (wav(bytes(100), rate=0), "names a rate outside 1 to 384000 Hz"),
    "rate": (wav(bytes(100), rate=900000), "names a rate outside 1 to 384000 Hz"),
    "0 channels": (wav(bytes(100), channels=0), "no channels or no sample data"),
    "65 channels": (wav(bytes(1300), channels=65), "65 channels; it must lie between 1 and 64"),
    "12 bits": (wav(bytes(120), bits=12), "format 1 with 12 bits is not supported"),
    "mu-law": (wav(bytes(100), tag=7, bits=8), "WAV format 7 with 8 bits is not supported"),
    "nan": (wav(floats(0, 1, float("nan"), 0), tag=3, bits=32), "sample 2 is not finite"),
    "inf": (wav(floats(0, 0, 0, float("-inf")), tag=3, bits=32), "sample 3 is not finite"),
    "flac magic only": (b"fLaC" + bytes(60), "FLAC"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(tmp_path: Path, name: str) -> None:
    data, message = BAD_FILES[name]
    path = tmp_path / "bad.wav"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        ops.read_audio(path)
    assert str(path) in str(caught.value)
    with pytest.raises(InputError, match=message):
        pipeline.Pipeline([pipeline.Fit(length=10)]).run_file(path)


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory, not an audio file"):
        ops.read_audio(tmp_path)
    with pytest.raises(InputError, match="No such file or directory"):
        ops.read_audio(tmp_path / "nothing.wav")
    with pytest.raises(InputError, match="null character"):
        ops.read_audio("a\0b")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(InputError, match="is not a regular file"):
        ops.read_audio(fifo)
    good = tmp_path / "good.wav"
    good.write_bytes(wav(bytes(20)))
    for start, frames in ((-1, 1), (0, 11), (11, 0), (5, 6), (0, -2), (2**62, 2**62)):
        with pytest.raises(InputError, match="the file holds 10 frames"):
            ops.read_audio(good, start, frames)


def test_extreme_but_valid_files(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for data in (
        wav(bytes(range(256)), bits=8, rate=4000),
        wav(bytes(6400), rate=192000),
        wav(bytes(1600), channels=8),
        wav(bytes(6), rate=384000, bits=24),
        wav(bytes(2)),
        wav(bytes(100), claimed=0xFFFFFFFF),  # a streamed file, whose writer did not know the length
    ):
        path.write_bytes(data)
        samples, rate = ops.read_audio(path)
        features, timing = pipeline.Pipeline(
            [pipeline.Resample(rate=22050), pipeline.Fit(length=3000), pipeline.Mfcc()]
        ).run_file(path)
        assert len(samples) > 0
        assert rate == ops.audio_info(path).rate
        assert features.shape == (6, 39)
        assert set(timing) == {"decode", "preprocess"}
    assert ops.audio_info(path).frames == 50


def flac_file() -> bytes:
    soundfile = pytest.importorskip("soundfile")
    file = io.BytesIO()
    wave = np.sin(np.arange(9000) * 0.05) * 0.3 + np.random.default_rng(0).normal(0, 0.01, 9000)
    soundfile.write(file, np.stack([wave, wave[::-1]], 1), 16000, format="FLAC")
    return file.getvalue()


SEEDS = {
    "pcm16": wav(bytes(np.random.default_rng(0).integers(0, 256, 4000, dtype=np.uint8)), channels=2),
    "pcm24": wav(bytes(3000), bits=24),
    "float": wav(floats(*np.linspace(-1, 1, 500)), tag=3, bits=32),
}


@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(
    seed=st.sampled_from(["pcm16", "pcm24", "float", "flac"]),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=6)), max_size=4),
    in_header=st.booleans(),
    cut=st.none() | st.integers(0, 10**6),
    tail=st.binary(max_size=20),
)
def test_damaged_files_give_samples_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory,
    seed: str,
    edits: list[tuple[int, bytes]],
    in_header: bool,
    cut: int | None,
    tail: bytes,
) -> None:
    SEEDS.setdefault("flac", b"") or SEEDS.update(flac=flac_file())
    data = bytearray(SEEDS[seed])
    for at, value in edits:
        at %= 60 if in_header else len(data)
        data[at : at + len(value)] = value
    if cut is not None:
        del data[cut % len(data) :]
    path = tmp_path_factory.getbasetemp() / "fuzz.wav"
    path.write_bytes(bytes(data) + tail)
    message = None
    try:
        samples, rate = ops.read_audio(path)
    except InputError as error:
        message = str(error)
    if message is not None:
        assert str(path) in message
    else:
        assert 1 <= rate <= 768000
        assert samples.size > 0
        assert np.isfinite(samples).all()


# ------------------------------------------------------------------------------------------------------- the stub


def test_stub_is_current() -> None:
    """``zoo/_native.pyi`` is what nanobind's generator writes for the extension."""
    stubgen = pytest.importorskip("nanobind.stubgen")
    generator = stubgen.StubGen(_native)
    generator.put(_native)
    source = Path(_native.__file__).with_name("_native.pyi").read_text()
    body = "".join(line for line in source.splitlines(keepends=True) if not line.startswith("#"))
    assert body.strip() == generator.get().strip(), "run: python -m nanobind.stubgen -m zoo._native"
