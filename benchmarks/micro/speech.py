# SPDX-License-Identifier: Apache-2.0
"""Speech ops beside kaldi-native-fbank, transformers and vectorised NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import kaldi_native_fbank as knf
import numpy as np
from audio import INPUTS, speech_like, within
from run import Row

from zoo.ops import isa
from zoo.pipeline import (
    Cmvn,
    CmvnSliding,
    Context,
    DeepspeechMfcc,
    KaldiFbank,
    KaldiMfcc,
    Op,
    Pipeline,
    Standardize,
    WaveNormalize,
)

Array = np.ndarray[Any, Any]
RATE = 16000


def kaldi_rows(clips: list[Array]) -> Iterator[Row]:
    """The peer is timed without fetching its frames, on lists, which it takes faster than arrays."""
    lists = [(clip * np.float32(32768)).tolist() for clip in clips]

    def computer(mfcc: bool, bins: int) -> Callable[[], Any]:
        options = knf.MfccOptions() if mfcc else knf.FbankOptions()
        options.frame_opts.dither = 0.0
        options.mel_opts.num_bins = bins
        return lambda: (knf.OnlineMfcc if mfcc else knf.OnlineFbank)(options)

    settings: list[tuple[str, Op, bool, int]] = [
        ("kaldi_fbank 80 bands", KaldiFbank(rate=RATE, num_bins=80), False, 80),
        ("kaldi_fbank 23 bands", KaldiFbank(rate=RATE), False, 23),
        ("kaldi_mfcc 13 of 23", KaldiMfcc(rate=RATE), True, 23),
    ]
    for name, op, mfcc, bins in settings:
        ours, theirs = Pipeline([op], isa=isa()), computer(mfcc, bins)

        def whole(i: int, theirs: Callable[[], Any] = theirs) -> Any:
            features = theirs()
            features.accept_waveform(RATE, lists[i])
            features.input_finished()
            return features

        def check(ours: Pipeline = ours, whole: Callable[[int], Any] = whole) -> str | None:
            features = whole(0)
            want = np.array([features.get_frame(k) for k in range(features.num_frames_ready)])
            return within(float(np.abs(ours.run(clips[0], RATE) - want).max()), 1e-3)

        yield Row(
            op=f"{name}, 16 kHz, 2 s",
            peer="kaldi-native-fbank",
            ours=lambda i, ours=ours: ours.run(clips[i], RATE),  # type: ignore[misc]
            theirs=whole,
            inputs=INPUTS,
            check=check,
            goal=4,
        )

    fbank, online = Pipeline([KaldiFbank(rate=RATE, num_bins=80)], isa=isa()), computer(False, 80)
    parts = [[clip[at : at + 1600] for at in range(0, len(clip), 1600)] for clip in clips]
    list_parts = [[samples[at : at + 1600] for at in range(0, len(samples), 1600)] for samples in lists]

    def ours_stream(i: int) -> list[Array]:
        stream = fbank.stream(RATE)
        return [*(stream.push(part) for part in parts[i]), stream.finish()]

    def their_stream(i: int) -> Any:
        features = online()
        for part in list_parts[i]:
            features.accept_waveform(RATE, part)
        features.input_finished()
        return features

    yield Row(
        op="kaldi_fbank 80 bands, 2 s in chunks of 100 ms",
        peer="kaldi-native-fbank",
        ours=ours_stream,
        theirs=their_stream,
        inputs=INPUTS,
        check=lambda: (
            None
            if sum(map(len, ours_stream(0))) == their_stream(0).num_frames_ready
            else "the numbers of frames differ"
        ),
        goal=4,
    )


def numpy_mfcc() -> Callable[[Array], Array]:
    """DeepSpeech's cepstra, vectorised over frames, in float64: in float32 a tone's side lobes are off by more than 1e-4."""
    edges = 1127 * np.log1p(20 / 700) + np.arange(42) / 41 * (
        1127 * np.log1p(8000 / 700) - 1127 * np.log1p(20 / 700)
    )
    at = (1127 * np.log1p(np.arange(257) * 31.25 / 700))[None]
    low, mid, high = edges[:40, None], edges[1:41, None], edges[2:, None]
    weights = np.maximum(0, np.minimum((at - low) / (mid - low), (high - at) / (high - mid)))
    weights[:, :2] = 0
    bands = np.ascontiguousarray(weights.T)
    k, j = np.arange(26)[None], np.arange(40)[:, None] + 0.5
    basis = np.sqrt(2 / 40) * np.cos(np.pi / 40 * j * k)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)

    def mfcc(wave: Array) -> Array:
        frames = np.lib.stride_tricks.sliding_window_view(wave, 512)[::320] * window
        return np.log(np.maximum(np.abs(np.fft.rfft(frames)) @ bands, 1e-12)) @ basis  # type: ignore[no-any-return]

    return mfcc


def numpy_context(rows: Array) -> Array:
    """Nine rows before and after."""
    padded = np.pad(rows, ((9, 9), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, (19, rows.shape[1])).reshape(len(rows), -1)


def numpy_sliding(rows: Array) -> Array:
    """Kaldi's default windows, not centred, by cumulative sums."""
    n = len(rows)
    x = rows.astype(np.float64)
    sums = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(x, 0)])
    squares = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(x * x, 0)])
    t = np.arange(n)
    begin, end = np.maximum(0, t - 600), np.minimum(n, np.maximum(t + 1, 100))
    count = (end - begin)[:, None]
    mean = (sums[end] - sums[begin]) / count
    variance = np.maximum((squares[end] - squares[begin]) / count - mean * mean, 1e-10)
    return ((x - mean) / np.sqrt(variance)).astype(np.float32)  # type: ignore[no-any-return]


def tensor_rows() -> Iterator[Row]:
    """Ops on matrices of features."""
    rng = np.random.default_rng(0)
    features = [rng.normal(-10, 3, (1500, 80)).astype(np.float32) for _ in range(8)]
    cepstra = [rng.normal(0, 3, (99, 26)).astype(np.float32) for _ in range(INPUTS)]
    mean, std = np.linspace(-12, -8, 80), np.linspace(2, 4, 80)
    mean32, inverse32 = mean.astype(np.float32), (1 / std).astype(np.float32)

    def standardize(x: Array) -> Array:
        return (x - mean32) * inverse32  # type: ignore[no-any-return]

    def cmvn(x: Array) -> Array:
        return (x - x.mean(0)) / x.std(0)  # type: ignore[no-any-return]

    settings: list[tuple[str, Op, list[Array], Callable[[Array], Array], float, float | None]] = [
        ("context 9 + 9, 99 x 26", Context(), cepstra, numpy_context, 0, 1),
        ("cmvn with variance, 1500 x 80", Cmvn(norm_vars=True), features, cmvn, 1e-4, 4),
        (
            "cmvn_sliding with variance, 1500 x 80",
            CmvnSliding(norm_vars=True),
            features,
            numpy_sliding,
            1e-4,
            4,
        ),
        (
            "standardize given, 1500 x 80",
            Standardize(mean=tuple(mean.tolist()), std=tuple(std.tolist())),
            features,
            standardize,
            1e-4,
            1,
        ),
        ("standardize own, 1500 x 80", Standardize(), features, cmvn, 1e-4, 4),
    ]
    for name, op, inputs, peer, bound, goal in settings:
        pipeline = Pipeline([op], isa=isa(), shape=(-1, inputs[0].shape[1]))
        yield Row(
            op=name,
            peer="NumPy, vectorised",
            ours=lambda i, p=pipeline, x=inputs: p.run(x[i]),  # type: ignore[misc]
            theirs=lambda i, f=peer, x=inputs: f(x[i]),  # type: ignore[misc]
            inputs=len(inputs),
            check=lambda p=pipeline, f=peer, x=inputs, b=bound: within(
                float(np.abs(p.run(x[0]) - f(x[0])).max()), b
            ),  # type: ignore[misc]
            goal=goal,
        )


def rows() -> Iterator[Row]:
    """Features of 2-s clips, and what is done to them."""
    from transformers import Wav2Vec2FeatureExtractor

    clips = [speech_like(2.0, RATE, seed) for seed in range(INPUTS)]
    yield from kaldi_rows(clips)
    reference = numpy_mfcc()
    deepspeech = Pipeline([DeepspeechMfcc(rate=RATE)], isa=isa())
    yield Row(
        op="deepspeech_mfcc 16 kHz, 2 s",
        peer="NumPy, vectorised",
        ours=lambda i: deepspeech.run(clips[i], RATE),
        theirs=lambda i: reference(clips[i]),
        inputs=INPUTS,
        check=lambda: within(float(np.abs(deepspeech.run(clips[0], RATE) - reference(clips[0])).max()), 1e-4),
        goal=10,
    )
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=True)
    normalize = Pipeline([WaveNormalize()], isa=isa())
    yield Row(
        op="wave_normalize 16 kHz, 2 s",
        peer="transformers' zero_mean_unit_var_norm",
        ours=lambda i: normalize.run(clips[i], RATE),
        theirs=lambda i: extractor.zero_mean_unit_var_norm([clips[i]], None)[0],
        inputs=INPUTS,
        check=lambda: within(
            float(
                np.abs(
                    normalize.run(clips[0], RATE) - extractor.zero_mean_unit_var_norm([clips[0]], None)[0]
                ).max()
            ),
            1e-5,
        ),
        goal=2,
    )
    yield from tensor_rows()
