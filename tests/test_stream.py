# SPDX-License-Identifier: Apache-2.0
"""Streams and batches give the same bits as one run on the whole input, whatever the chunks and threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.errors import InputError
from zoo.pipeline import Dct, Fit, Log, Mel, Mfcc, Op, Pipeline, PowerToDb, Resample, Stft

Array = np.ndarray[Any, Any]
QUICK = settings(max_examples=30, suppress_health_check=list(HealthCheck))


def wave(n: int, seed: int) -> Array:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, n).astype(np.float32)


#: Chains that work on streams: name -> (ops, input of n rows, rate).
STREAMS: dict[str, tuple[tuple[Op, ...], Callable[[int, int], Array], float]] = {
    "resample up": ((Resample(rate=22050),), wave, 16000),
    "resample down": ((Resample(rate=8000),), wave, 44100),
    "resample twice": ((Resample(rate=16000), Resample(rate=22050)), wave, 48000),
    "same rate": ((Resample(rate=16000),), wave, 16000),
    "resample to twice the rate": ((Resample(rate=32000),), wave, 16000),
    "resample to half the rate": ((Resample(rate=8000),), wave, 16000),
    "resample to a third of the rate": ((Resample(rate=16000),), wave, 48000),
    "resample up in two stages": ((Resample(rate=48000),), wave, 16000),
    "resample down in two stages": ((Resample(rate=16000),), wave, 192000),
    "resample between odd rates": ((Resample(rate=16001),), wave, 22050),
    "stft": ((Stft(n_fft=512, hop_length=160),), wave, 16000),
    "stft, reflect": ((Stft(n_fft=512, hop_length=160, pad_mode="reflect", output="complex"),), wave, 16000),
    "stft, not centred": ((Stft(n_fft=400, hop_length=160, center=False, output="magnitude"),), wave, 16000),
    "stft, hop above n_fft": ((Stft(n_fft=64, hop_length=301, pad_mode="reflect"),), wave, 16000),
    "stft, not centred, hop above n_fft": ((Stft(n_fft=64, hop_length=301, center=False),), wave, 16000),
    "stft, long frames": ((Stft(n_fft=4096, hop_length=700, pad_mode="reflect"),), wave, 16000),
    "mel": ((Mel(rate=16000, n_fft=600, hop_length=77, n_mels=40),), wave, 16000),
    "mfcc": (
        (Mfcc(rate=48000, n_mfcc=13, n_fft=1024, win_length=512, window="hamming", top_db=None),), wave, 48000,
    ),
    "mfcc after resample": ((Resample(rate=22050), Mfcc(n_mfcc=39, top_db=None)), wave, 16000),
    "log mel": (
        (
            Resample(rate=22050),
            Mel(n_fft=1024, hop_length=256, pad_mode="reflect", power=1.0, n_mels=80, fmax=8000.0),
            Log(amin=1e-5),
        ), wave, 48000,
    ),
    "mfcc in steps": (
        (Mel(rate=16000, n_fft=512, hop_length=128, n_mels=40), PowerToDb(top_db=None), Dct(n_out=13)),
        wave, 16000,
    ),
}  # fmt: skip


def in_chunks(pipeline: Pipeline, data: Array, rate: float, sizes: Sequence[int]) -> Array:
    """The stream's output for chunks of these sizes, used in turn."""
    stream = pipeline.stream(rate, shape=data.shape[1:] if data.ndim > 1 else None)
    out, at, i = [], 0, 0
    while at < len(data):
        out.append(stream.push(data[at : at + sizes[i % len(sizes)]]))
        at += sizes[i % len(sizes)]
        i += 1
    return np.concatenate([*out, stream.finish()])


@QUICK
@given(
    name=st.sampled_from(sorted(STREAMS)),
    n=st.integers(1, 6000),
    sizes=st.lists(st.integers(0, 2000), min_size=1, max_size=5).filter(any),
    seed=st.integers(0, 9),
)
def test_a_stream_equals_the_whole(name: str, n: int, sizes: list[int], seed: int) -> None:
    chain, make, rate = STREAMS[name]
    pipeline, data = Pipeline(chain), make(n, seed)
    try:
        whole = pipeline(data, rate)
    except InputError as error:
        with pytest.raises(InputError, match=str(error)[-20:].replace("(", r"\(").replace(")", r"\)")):
            in_chunks(pipeline, data, rate, sizes)
        return
    np.testing.assert_array_equal(in_chunks(pipeline, data, rate, sizes), whole)


@pytest.mark.parametrize(
    ("rate_in", "rate_out", "held"),
    [
        (16000, 22050, 72),  # the half width of the sharp filter, input samples
        (48000, 44100, 79),
        (16000, 48000, 80),  # that of both stages
        (48000, 16000, 238),
    ],
)
def test_a_stream_answers_as_early_as_it_can(rate_in: int, rate_out: int, held: int) -> None:
    stream = Pipeline([Resample(rate=rate_out)]).stream(rate_in)
    done = len(stream.push(wave(rate_in, 0)))
    assert rate_out - held * rate_out / rate_in - 1 <= done <= rate_out - (held - 2) * rate_out / rate_in
    assert done + len(stream.finish()) == rate_out


def test_frames_come_as_early_as_they_can() -> None:
    """Frame t needs samples up to t * hop + n_fft / 2; the first of a mirrored signal needs one more."""
    stream = Pipeline([Mel(rate=16000, n_fft=512, hop_length=100)]).stream(16000)
    assert [len(stream.push(wave(n, 0))) for n in (255, 1, 99, 1, 300)] == [0, 1, 0, 1, 3]
    assert len(stream.finish()) == 1 + 656 // 100 - 5
    mirrored = Pipeline([Mel(rate=16000, n_fft=512, hop_length=100, pad_mode="reflect")]).stream(16000)
    assert [len(mirrored.push(wave(n, 0))) for n in (256, 1, 99)] == [0, 1, 1]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda: Pipeline([Mfcc(rate=8000)]).stream(8000),
            r"op 0 \(mfcc\) needs the whole input; .* \(its top_db looks for .* set top_db to null\)",
        ),
        (
            lambda: Pipeline([Mel(rate=8000), PowerToDb()]).stream(8000),
            r"op 1 \(power_to_db\) needs the whole input; .* set top_db to null",
        ),
        (
            lambda: Pipeline([Stft(center=False)]).stream(9).finish(),
            "the signal has 0 samples",
        ),
        (lambda: Pipeline([Fit(length=9)]).stream(8000), r"op 0 \(fit\) needs the whole input"),
        (lambda: Pipeline([Resample(rate=9)]).stream(0.5), "the rate is 0.5 Hz; it must lie between 1 and"),
        (lambda: Pipeline([Resample(rate=9)]).stream(9).finish(), "the signal has 0 samples"),
        (
            lambda: Pipeline([Resample(rate=9)]).stream(9).push(np.array([1, np.nan], np.float32)),
            "sample 1 is not finite",
        ),
        (lambda: Pipeline([Resample(rate=9)]).stream(9).push(np.zeros(3, np.uint8)), "samples has elements"),
    ],
)
def test_messages(use: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        use()


def test_nothing_follows_the_end() -> None:
    stream = Pipeline([Resample(rate=9)]).stream(18)
    stream.push(wave(99, 0))
    stream.finish()
    with pytest.raises(InputError, match="the stream has ended"):
        stream.push(wave(9, 0))


@QUICK
@given(lengths=st.lists(st.integers(1, 3000), max_size=12), threads=st.integers(0, 5))
def test_a_batch_equals_its_members(lengths: list[int], threads: int) -> None:
    pipeline = Pipeline([Resample(rate=22050), Fit(length=2048), Mfcc()])
    clips = [wave(n, i) for i, n in enumerate(lengths)]
    for got, clip in zip(pipeline.batch(clips, 16000, threads=threads), clips, strict=True):
        np.testing.assert_array_equal(got, pipeline(clip, 16000))


def test_a_batch_names_the_bad_input() -> None:
    pipeline = Pipeline([Resample(rate=22050)])
    with pytest.raises(InputError, match="input 1: sample 0 is not finite"):
        pipeline.batch([wave(9, 0), np.full(4, np.inf, np.float32)], 16000)
    with pytest.raises(InputError, match="input 2: the signal has 0 samples"):
        pipeline.batch([wave(9, 0), wave(9, 0), wave(0, 0)], 16000)


@QUICK
@given(name=st.sampled_from(sorted(STREAMS)), n=st.integers(1, 9000), threads=st.integers(1, 5))
def test_threads_do_not_change_a_bit(name: str, n: int, threads: int) -> None:
    chain, make, rate = STREAMS[name]
    pipeline, data = Pipeline(chain), make(n, 3)
    try:
        whole = pipeline(data, rate)
    except InputError:
        return  # too short for a frame
    np.testing.assert_array_equal(pipeline(data, rate, threads=threads), whole)


@QUICK
@given(
    n=st.integers(1, 7000),
    frames=st.tuples(st.integers(0, 70), st.integers(1, 70)),
    pad_mode=st.sampled_from(["constant", "reflect"]),
    center=st.booleans(),
    n_fft=st.sampled_from([64, 400, 2048]),
    hop=st.integers(1, 900),
)
def test_frames_of_a_part_of_the_signal(
    n: int, frames: tuple[int, int], pad_mode: Any, center: bool, n_fft: int, hop: int
) -> None:
    """A tail of the resampled signal, framed, needs only that tail of the input and gives its rows of the whole."""
    stft = Stft(n_fft=n_fft, hop_length=hop, pad_mode=pad_mode, center=center)
    cut = min(frames[0] * hop, n - 1)
    pipeline = Pipeline([Fit(length=n - cut, crop="end"), stft])
    data = wave(n, 1)
    if not center and n - cut < n_fft:
        with pytest.raises(InputError, match="fewer than one frame"):
            pipeline(data, 16000)
        return
    start, stop = pipeline.input_range(n, 16000)
    assert start >= cut
    whole = Pipeline([stft])(data[cut:], 16000)
    np.testing.assert_array_equal(pipeline(data[start:stop], 16000, start=start, total=n), whole)
