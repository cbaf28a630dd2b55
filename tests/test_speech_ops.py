# SPDX-License-Identifier: Apache-2.0
"""Properties and errors of the speech ops: lengths, ranges, streams, threads, instruction sets, extremes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from zoo import _native, ops
from zoo.errors import InputError
from zoo.pipeline import (
    Cmvn,
    CmvnSliding,
    Context,
    DeepspeechMfcc,
    KaldiFbank,
    KaldiMfcc,
    Mfcc,
    Op,
    Pipeline,
    Standardize,
    WaveNormalize,
)

Array = np.ndarray[Any, Any]
ISAS = _native.isas()
QUICK = settings(max_examples=40, suppress_health_check=list(HealthCheck))
RATE = 2000  # Hz: frames of 50 samples every 20, so that a short signal has many


@pytest.fixture(autouse=True)
def _default_isa() -> Iterator[None]:
    yield
    _native.set_isa("")


def on_isa(isa: str, call: Any, *args: Any, **kwargs: Any) -> Any:
    _native.set_isa(isa)
    return call(*args, **kwargs)


def wave(n: int, seed: int) -> Array:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, n).astype(np.float32)


def streamed(pipeline: Pipeline, data: Array, sizes: Sequence[int]) -> Array:
    """The stream's output for chunks of these sizes, used in turn."""
    stream, left, out = pipeline.stream(RATE), data, []
    for size in itertools.cycle(sizes):
        out.append(stream.push(left[:size]))
        left = left[size:]
        if not len(left):
            return np.concatenate([*out, stream.finish()])
    raise AssertionError


FBANK = KaldiFbank(rate=RATE, num_bins=7)
STATISTICS = Standardize(mean=tuple(np.linspace(3, 9, 7).tolist()), std=tuple(np.linspace(1, 2, 7).tolist()))

#: Chains that compute any rows by themselves and work on streams.
CHAINS: dict[str, Sequence[Op]] = {
    "fbank": [FBANK],
    "fbank, centred": [KaldiFbank(rate=RATE, num_bins=7, snip_edges=False, use_energy=True)],
    "fbank, odd": [
        KaldiFbank(
            rate=RATE,
            num_bins=5,
            frame_length_ms=23.5,
            frame_shift_ms=3.5,
            snip_edges=False,
            use_energy=True,
            raw_energy=False,
        )
    ],
    "fbank, no FFT padding": [KaldiFbank(rate=RATE, num_bins=7, round_to_power_of_two=False)],
    "fbank, frames apart": [KaldiFbank(rate=RATE, num_bins=7, frame_shift_ms=60.0, use_log_fbank=False)],
    "mfcc": [KaldiMfcc(rate=RATE, num_bins=9, num_ceps=6)],
    "deepspeech": [DeepspeechMfcc(rate=RATE, win_length=64, hop_length=20, n_mels=12, n_mfcc=5)],
    "deepspeech, padded": [DeepspeechMfcc(rate=RATE, win_length=50, hop_length=7, n_mels=9, n_mfcc=5)],
    "context": [FBANK, Context(before=3, after=5)],
    "context twice": [FBANK, Context(before=2, after=0), Context(before=0, after=4)],
    "sliding": [FBANK, CmvnSliding(window=11, min_window=4, norm_vars=True)],
    "sliding, centred": [FBANK, CmvnSliding(window=10, min_window=4, center=True)],
    "sliding, long": [FBANK, CmvnSliding(window=200, min_window=50, norm_vars=True)],
    "standardize": [FBANK, STATISTICS, Context(before=1, after=1)],
}


def pipeline_frames(name: str, n: int) -> bool:
    """Whether a signal of n samples has a frame."""
    if "centred" in name and "sliding" not in name:
        return n >= 10  # Kaldi without snip_edges rounds: (n + shift / 2) / shift frames
    return n >= {"fbank, odd": 4, "deepspeech": 64}.get(name, 50)


@QUICK
@given(
    name=st.sampled_from(sorted(CHAINS)),
    n=st.integers(1, 6000),
    sizes=st.lists(st.integers(0, 2000), min_size=1, max_size=5).filter(any),
    seed=st.integers(0, 9),
    isa=st.sampled_from(ISAS),
)
@example(name="fbank, centred", n=9, sizes=[1], seed=0, isa="baseline")
@example(name="fbank, centred", n=10, sizes=[1], seed=0, isa="baseline")
@example(name="fbank, centred", n=19, sizes=[4], seed=0, isa="baseline")
def test_a_stream_equals_the_whole(name: str, n: int, sizes: list[int], seed: int, isa: str) -> None:
    pipeline, data = Pipeline(CHAINS[name], isa=isa), wave(n, seed)
    if not pipeline_frames(name, n):
        for call in (lambda: pipeline(data, RATE), lambda: streamed(pipeline, data, sizes)):
            with pytest.raises(InputError, match="samples, too few for one frame"):
                call()
        return
    np.testing.assert_array_equal(streamed(pipeline, data, sizes), pipeline(data, RATE))


@pytest.mark.parametrize("name", CHAINS)
def test_sample_by_sample(name: str) -> None:
    pipeline, data = Pipeline(CHAINS[name]), wave(500, 1)
    np.testing.assert_array_equal(streamed(pipeline, data, [1]), pipeline(data, RATE))


@QUICK
@given(name=st.sampled_from(sorted(CHAINS)), n=st.integers(80, 9000), threads=st.integers(2, 5))
def test_threads_do_not_change_a_bit(name: str, n: int, threads: int) -> None:
    pipeline, data = Pipeline(CHAINS[name]), wave(n, 3)
    np.testing.assert_array_equal(pipeline(data, RATE, threads=threads), pipeline(data, RATE))


@QUICK
@given(lengths=st.lists(st.integers(80, 3000), max_size=8), name=st.sampled_from(sorted(CHAINS)))
def test_a_batch_equals_its_members(lengths: list[int], name: str) -> None:
    pipeline = Pipeline([WaveNormalize(), *CHAINS[name], Cmvn(norm_vars=True)])
    clips = [wave(n, i) for i, n in enumerate(lengths)]
    for got, clip in zip(pipeline.batch(clips, RATE, threads=2), clips, strict=True):
        np.testing.assert_array_equal(got, pipeline(clip, RATE))


def test_streams_answer_as_early_as_they_can() -> None:
    data = wave(4000, 0)
    for ops_, late in (
        ([FBANK], 0),
        ([FBANK, Context(before=9, after=9)], 9),
        ([FBANK, CmvnSliding(window=20, center=True)], 9),
        ([FBANK, CmvnSliding(window=20, min_window=20)], 0),
    ):
        stream = Pipeline(ops_).stream(RATE)
        assert len(stream.push(data)) == 1 + (4000 - 50) // 20 - late
        assert len(stream.finish()) == late
    with pytest.raises(InputError, match=r"op 0 \(wave_normalize\) needs the whole input"):
        Pipeline([WaveNormalize()]).stream(RATE)
    with pytest.raises(InputError, match=r"op 1 \(cmvn\) needs the whole input"):
        Pipeline([FBANK, Cmvn()]).stream(RATE)
    with pytest.raises(InputError, match=r"op 1 \(standardize\) needs the whole input"):
        Pipeline([FBANK, Standardize()]).stream(RATE)


@QUICK
@given(n=st.integers(1, 3000), snip=st.booleans(), shift=st.integers(1, 90), length=st.integers(16, 90))
def test_frame_counts(n: int, snip: bool, shift: int, length: int) -> None:
    params: dict[str, Any] = {
        "frame_length_ms": float(length),
        "frame_shift_ms": float(shift),
        "snip_edges": snip,
        "num_bins": 3,
    }
    frames = (n + shift // 2) // shift if not snip else 0 if n < length else 1 + (n - length) // shift
    if frames == 0:
        with pytest.raises(
            InputError, match=f"the signal has {n} samples, too few for one frame of {length}; pad it"
        ):
            ops.kaldi_fbank(wave(n, 0), 1000, **params)
        return
    assert ops.kaldi_fbank(wave(n, 0), 1000, **params).shape == (frames, 3)


@QUICK
@example(n=600, gain=76949903.0, seed=24, columns=1)
@given(
    n=st.integers(600, 4000),
    gain=st.floats(1e-30, 1e8),
    seed=st.integers(0, 99),
    columns=st.integers(1, 90),
)
def test_isas_agree(n: int, gain: float, seed: int, columns: int) -> None:
    """All that is summed is summed in float64; what differs is the rounding of results and of the logarithm."""
    data = (np.random.default_rng(seed).standard_normal(n) * gain).astype(np.float32)
    rows = np.random.default_rng(seed).normal(-9, 3, (n // columns, columns)).astype(np.float32)
    calls: dict[str, tuple[Callable[[], Array], float]] = {
        "fbank": (lambda: ops.kaldi_fbank(data, 16000, num_bins=40, use_energy=True), 2e-5),
        "mfcc": (lambda: ops.kaldi_mfcc(data, 16000), 4e-4),
        "deepspeech": (lambda: ops.deepspeech_mfcc(data, 16000), 4e-5),
        "normalize": (lambda: ops.wave_normalize(data), 1e-6),
        "cmvn": (lambda: ops.cmvn(rows, norm_vars=True), 2e-6),
        "sliding": (lambda: ops.cmvn_sliding(rows, window=30, min_window=9, norm_vars=True), 1e-5),
        "standardize": (lambda: ops.standardize(rows), 2e-6),
    }
    for name, (call, bound) in calls.items():
        results = [on_isa(isa, call) for isa in ISAS]
        for other in results[1:]:
            assert np.abs(other - results[0]).max() <= bound, name


@QUICK
@given(n=st.integers(512, 2000), bad=st.sampled_from([np.nan, np.inf, -np.inf]), data=st.data())
def test_nonfinite_values_are_named(n: int, bad: float, data: st.DataObject) -> None:
    _native.set_isa(data.draw(st.sampled_from(ISAS)))
    at = data.draw(st.integers(0, 399))  # in the first frame of each
    signal = wave(n, 0)
    signal[at:] = bad
    for audio in (ops.kaldi_fbank, ops.kaldi_mfcc, ops.deepspeech_mfcc):
        with pytest.raises(InputError, match=f"sample {at} is not finite"):
            audio(signal, 16000)
    with pytest.raises(InputError, match=f"sample {at} is not finite"):
        ops.wave_normalize(signal)
    rows = wave(4 * n, 0).reshape(n, 4)
    rows.reshape(-1)[at:] = bad
    for tensor in (ops.cmvn, ops.cmvn_sliding, ops.context, ops.standardize):
        with pytest.raises(InputError, match=f"value {at} is not finite"):
            tensor(rows)


def test_denormals_take_no_slow_path() -> None:
    rng = np.random.default_rng(0)
    signals = [(rng.standard_normal(100000) * g).astype(np.float32) for g in (1.0, 1e-40)]
    chain = Pipeline(
        [WaveNormalize(), KaldiFbank(rate=16000), CmvnSliding(), Cmvn(norm_vars=True), Context()]
    )
    direct = Pipeline([KaldiFbank(rate=16000, use_log_fbank=False), Context(), Cmvn(norm_vars=True)])
    for pipeline in (chain, direct):
        times: list[list[float]] = [[], []]
        for _ in range(7):
            for signal, t in zip(signals, times, strict=True):
                start = time.perf_counter()
                pipeline(signal, 16000)
                t.append(time.perf_counter() - start)
        assert min(times[1]) <= 3 * min(times[0])


def test_constant_and_tiny_inputs() -> None:
    for isa in ISAS:
        _native.set_isa(isa)
        flat = np.full((300, 5), 7.3, np.float32)
        for call in (ops.cmvn, ops.cmvn_sliding):
            assert (call(flat, norm_vars=True) == 0).all()
        assert (ops.standardize(flat) == 0).all()
        assert (ops.wave_normalize(np.full(1000, -3.7, np.float32)) == 0).all()
        assert ops.wave_normalize(np.array([2.5], np.float32)).tolist() == [0]
        assert ops.cmvn_sliding(np.array([[4.0]], np.float32), norm_vars=True).tolist() == [[0]]
        one = np.array([[1.5, -2.0]], np.float32)
        np.testing.assert_array_equal(ops.context(one, before=1, after=1), [[0, 0, 1.5, -2, 0, 0]])
        silent = ops.kaldi_fbank(np.zeros(400, np.float32), 16000, use_energy=True)
        np.testing.assert_allclose(silent, np.log(np.finfo(np.float32).eps), rtol=1e-6)


def test_the_scale_is_that_of_the_samples() -> None:
    """int16 samples and their floats are one signal; the scale only multiplies."""
    data = np.random.default_rng(2).integers(-9000, 9000, 3000).astype(np.int16)
    by_int, by_float = (ops.kaldi_fbank(d, 16000) for d in (data, data.astype(np.float32) / 32768))
    np.testing.assert_array_equal(by_int, by_float)
    scaled = ops.kaldi_fbank(data.astype(np.float32), 16000, scale=1.0)
    np.testing.assert_array_equal(scaled, by_int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.kaldi_fbank(wave(0, 0), 16000), "the signal has 0 samples"),
        (
            lambda: ops.kaldi_fbank(wave(399, 0), 16000),
            "the signal has 399 samples, too few for one frame of 400",
        ),
        (lambda: ops.deepspeech_mfcc(wave(511, 0), 16000), "too few for one frame of 512"),
        (lambda: ops.kaldi_fbank(np.full(999, 1e30, np.float32), 16000, remove_dc_offset=False), "overflows float32; scale"),
        (lambda: ops.deepspeech_mfcc(3e38 * np.sign(wave(999, 0)), 16000), "a band of frame 0 overflows float32"),
        (lambda: ops.kaldi_fbank(wave(999, 0), 16000, num_bins=2), "num_bins is 2; it must lie between 3 and 4096"),
        (
            lambda: ops.kaldi_fbank(wave(999, 0), 16000, num_bins=300),
            r"op 0 \(kaldi_fbank\): band 2 of num_bins = 300 holds no bin of the 512-point FFT; use fewer bands or longer frames",
        ),
        (lambda: ops.kaldi_mfcc(wave(999, 0), 16000, num_ceps=24), "num_ceps is 24; .* num_bins = 23"),
        (
            lambda: ops.kaldi_fbank(wave(999, 0), 16000, low_freq=8000.0),
            "0 <= low_freq < high_freq <= rate / 2 must hold",
        ),
        (lambda: ops.kaldi_fbank(wave(999, 0), 16000, high_freq=8001.0), "high_freq 8001.000000 Hz; 0 <="),
        (lambda: ops.kaldi_fbank(wave(999, 0), 16000, preemph_coeff=1.1), "preemph_coeff is 1.1"),
        (lambda: ops.kaldi_fbank(wave(999, 0), 16000, frame_shift_ms=0.01), "a shift of 0; a frame must have 2 to 65536"),
        (
            lambda: ops.kaldi_fbank(wave(999, 0), 16000, frame_length_ms=25.0625, round_to_power_of_two=False),
            "a frame has 401 samples; without round_to_power_of_two it must be even",
        ),
        (lambda: ops.kaldi_fbank(wave(999, 0), 16000, window_type="sine"), "window_type is 'sine'; it must be one of povey"),  # type: ignore[arg-type]
        (lambda: ops.deepspeech_mfcc(wave(999, 0), 16000, n_mfcc=41), "n_mfcc is 41; .* n_mels = 40"),
        (lambda: ops.deepspeech_mfcc(wave(999, 0), 16000, fmax=9000.0), "0 <= fmin < fmax <= rate / 2"),
        (lambda: ops.context(np.zeros((3, 2), np.float32), before=-1), "before is -1; it must lie between 0"),
        (lambda: ops.context(np.zeros(3, np.float32)), "it needs rows of a fixed number of values"),
        (lambda: ops.cmvn(np.zeros((0, 2), np.float32)), r"cmvn: the input has shape \(0, 2\)"),
        (lambda: ops.cmvn(np.zeros((3, 2), np.float32), norm_means=False, norm_vars=True), "norm_vars needs norm_means"),
        (
            lambda: ops.cmvn_sliding(np.zeros((3, 2), np.float32), window=5),
            "min_window is 100; it must lie between 1 and window = 5",
        ),
        (lambda: ops.cmvn_sliding(np.zeros((3, 2), np.float32), window=0), "window is 0; it must lie between 1"),
        (lambda: ops.wave_normalize(wave(9, 0), epsilon=0.0), "epsilon is 0; it must lie between 1e-30 and 1"),
        (lambda: Pipeline([KaldiFbank()]), "the rate of the signal is not known; put a resample op before it"),
        (
            lambda: Pipeline([FBANK])(wave(99, 0), 8000),
            "kaldi_fbank: the signal has 8000 Hz, the op needs 2000; resample it first",
        ),
        (lambda: Pipeline([Mfcc(rate=8000, n_mels=20, n_mfcc=9), STATISTICS]), "have 7 values, the input has 9 columns"),
    ],
)  # fmt: skip
def test_messages(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
