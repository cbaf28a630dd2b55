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
from zoo.pipeline import Fit, Mfcc, Op, Pipeline, Resample

Array = np.ndarray[Any, Any]
QUICK = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


def wave(n: int, seed: int) -> Array:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, n).astype(np.float32)


#: Chains that work on streams: name -> (ops, input of n rows, rate).
STREAMS: dict[str, tuple[tuple[Op, ...], Callable[[int, int], Array], float]] = {
    "resample up": ((Resample(rate=22050),), wave, 16000),
    "resample down": ((Resample(rate=8000),), wave, 44100),
    "resample twice": ((Resample(rate=16000), Resample(rate=22050)), wave, 48000),
    "same rate": ((Resample(rate=16000),), wave, 16000),
}


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


def test_a_stream_answers_as_early_as_it_can() -> None:
    stream = Pipeline([Resample(rate=22050)]).stream(16000)
    data = wave(16000, 0)
    done = len(stream.push(data))
    assert 22050 - 110 <= done < 22050  # all but the half width of the filter: 72 samples
    assert done + len(stream.finish()) == 22050


@pytest.mark.parametrize(
    ("use", "message"),
    [
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
@given(n=st.integers(1, 9000), threads=st.integers(1, 5))
def test_threads_do_not_change_a_bit(n: int, threads: int) -> None:
    pipeline, data = Pipeline([Resample(rate=22050)]), wave(n, 3)
    np.testing.assert_array_equal(pipeline(data, 16000, threads=threads), pipeline(data, 16000))
