# SPDX-License-Identifier: Apache-2.0
"""EEG: recordings brought into a model's channels and rate, and windows of a stream as they are completed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.pipeline import Pipeline
from zoo.recording import Recording, last_window, read_recording
from zoo.runtime.modality.base import Features, Given, Modality, Raw, Window
from zoo.runtime.stream import marked
from zoo.specs import RawInput

if TYPE_CHECKING:
    from zoo.runtime.modality.front import Front

_CHUNK_SECONDS = 10


class Eeg(Modality):
    """Samples (n, channels) in microvolts. A recording's features are those of its last window."""

    takes, files, windowed = "EEG, in windows of its own", "EEG files", True

    def features(self, front: Front, given: Given) -> tuple[Features, float]:
        start = perf_counter()
        samples = samples_of(given, front.spec, front.model)
        decode_ms = (perf_counter() - start) * 1e3
        return self.run(front, (samples, front.spec.rate or 0)), decode_ms

    def run(self, front: Front, given: Any) -> Features:
        return (last_window(front.pipeline, *given),)

    def golden(self, path: Path, spec: RawInput, model: str) -> Raw:
        return Raw(samples_of(path, spec, model), spec.rate or 0)

    def given(self, raw: Raw) -> Given:
        return raw.samples, raw.rate

    def altered(self, raw: Raw, step: int) -> Raw:
        """Its later part, at least half of it, at another level."""
        start = (step * 7919) % max(1, len(raw.samples) // 2)
        level = 10 ** (-(step % 7) / 20)
        return Raw(np.ascontiguousarray(raw.samples[start:] * level), raw.rate)

    def by_windows(self, front: Front) -> bool:
        try:
            EegWindows(front.pipeline, front.spec, front.model)
        except InputError:
            return False
        return True

    def windows(
        self, front: Front, chunks: Iterable[Any], rate: int | None, hop: float | None
    ) -> Iterator[Window]:
        own = EegWindows(front.pipeline, front.spec, front.model)
        if rate not in (None, front.spec.rate) or hop not in (None, own.hop):
            raise InputError(
                f"{front.model}: a stream at {rate or front.spec.rate} Hz every {hop or own.hop:g} s; its pipeline is made for "
                f"{front.spec.rate} Hz and {own.hop:g} s. Leave both out, and resample before"
            )
        for features, start, end, spent in own.cut(chunks):
            yield Window((features,), 0.0, spent, start, end)

    def chunks(self, path: Path, spec: RawInput, rate: float | None) -> tuple[Iterator[Any], int | None]:
        found = read_recording(path, channels=spec.names, rate=rate)
        step = max(1, round(_CHUNK_SECONDS * found.rate))

        def parts() -> Iterator[Recording]:
            for start in range(0, len(found.samples), step):
                yield Recording(found.samples[start : start + step], found.rate, found.channels, found.name)

        return parts(), None


def samples_of(raw: Any, spec: RawInput, model: str) -> NDArray[np.float64]:
    """A raw EEG input as the pipeline takes it: float64 (n, channels), in the model's order.

    Parameters
    ----------
    raw : Recording, path, or (samples, rate)
        Of an array the columns must be the model's channels, in its order.

    Raises
    ------
    InputError
        As :func:`zoo.recording.read_recording` and :meth:`zoo.recording.Recording.in_order`.
    ProviderUnavailable
        The file needs MNE.
    """
    if isinstance(raw, (str, os.PathLike)):
        raw = read_recording(raw, channels=spec.names)
    elif isinstance(raw, tuple) and len(raw) == 2:
        raw = Recording(np.asarray(raw[0]), float(raw[1]), spec.names)
    if not isinstance(raw, Recording):
        raise InputError(
            f"{model}: input is {type(raw).__name__}; give a file path, a Recording, or a tuple (samples, rate)"
        )
    return raw.in_order(spec.names, spec.rate or raw.rate, model)


class EegWindows:
    """Windows of a live recording. The pipeline's ops carry their state on, so that a window's features have the same bits
    whatever the chunks, and as in a run over all samples at once.

    Parameters
    ----------
    pipeline : Pipeline
        One that works on streams and cuts windows (``bandpower``).
    spec : RawInput
        The model's channels and rate.
    model : str
        Its name, for errors.

    Raises
    ------
    InputError
        The pipeline needs the whole recording, or cuts no windows.
    """

    def __init__(self, pipeline: Pipeline, spec: RawInput, model: str) -> None:
        rate = spec.rate or 0
        window, hop = (pipeline.window_seconds(rate), pipeline.hop_seconds(rate)) if rate else (None, None)
        if window is None or hop is None:
            raise InputError(f"{model}: its pipeline cuts no windows, so it cannot stream")
        self.window, self.hop = window, hop
        self._spec, self._model, self._seen = spec, model, 0
        self._stream = pipeline.stream(rate, shape=(len(spec.names),))

    def cut(self, chunks: Iterable[Any]) -> Iterator[tuple[NDArray[np.float32], float, float, float]]:
        """Yield (features, start second, end second, milliseconds of preprocessing) of each window.

        Chunks are as :func:`samples_of` takes them, or arrays (n, channels) at the model's rate.
        """
        done = 0
        for last, chunk in marked(chunks):
            began = perf_counter()
            rows = self._stream.finish() if last else self._push(chunk)
            spent = (perf_counter() - began) * 1e3 / max(len(rows), 1)
            for features in rows:
                start = done * self.hop
                yield features, start, start + self.window, spent
                done += 1
        if not done:
            raise InputError(
                f"{self._model}: the recording has {self._seen} samples, less than one window of {self.window:g} s"
            )

    def _push(self, chunk: Any) -> NDArray[np.float32]:
        raw = chunk if isinstance(chunk, (Recording, tuple)) else (chunk, self._spec.rate)
        samples = samples_of(raw, self._spec, self._model)
        self._seen += len(samples)
        rows: NDArray[np.float32] = self._stream.push(samples)
        return rows
