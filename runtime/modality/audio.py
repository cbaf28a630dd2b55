# SPDX-License-Identifier: Apache-2.0
"""Sound: files, or samples with their rate; live signals in sliding windows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.ops import audio_info, read_audio
from zoo.runtime.modality.base import Features, Given, Modality, Raw, Window
from zoo.runtime.modality.video import rows_along
from zoo.runtime.stream import HOP, AudioWindows

if TYPE_CHECKING:
    from zoo.runtime.modality.front import Front
    from zoo.specs import RawInput

_CHUNK_SECONDS = 10


class Audio(Modality):
    """Samples of any rate: the pipeline resamples."""

    takes, files, hops = "audio", "audio files", True

    def features(self, front: Front, given: Given) -> tuple[Features, float]:
        if front.along:
            return rows_along(front, given)
        if isinstance(given, (str, os.PathLike)):
            features, timing = front.pipeline.run_file(given)
            return (features,), timing["decode"]
        if isinstance(given, tuple) and len(given) == 2:
            if not isinstance(given[1], (int, float, np.integer, np.floating)):
                raise InputError(
                    f"{front.model}: the rate is {type(given[1]).__name__}; give a tuple (samples, rate), the rate a number of Hz"
                )
            return self.run(front, given), 0.0
        raise InputError(
            f"{front.model}: input is {type(given).__name__}; give a file path, or a tuple (samples, rate)"
        )

    def run(self, front: Front, given: Any) -> Features:
        return (front.pipeline.run(*given),)

    def golden(self, path: Path, spec: RawInput, model: str) -> Raw:
        samples, rate = read_audio(path)
        return Raw(to_int16(samples), int(rate))

    def given(self, raw: Raw) -> Given:
        return raw.samples, raw.rate

    def altered(self, raw: Raw, step: int) -> Raw:
        """Shifted, cut and scaled."""
        n = len(raw.samples)
        start = (step * 7919) % max(1, n // 2)
        length = max(1, n - start - (step * 104729) % max(1, n // 3))
        level = 10 ** (-(step % 7) * 3 / 20)
        part = raw.samples[start : start + length].astype(np.float64) * level
        return Raw(np.rint(part).astype(np.int16), raw.rate)

    def windows(
        self, front: Front, chunks: Iterable[Any], rate: int | None, hop: float | None
    ) -> Iterator[Window]:
        rate = rate or front.spec.rate
        if rate is None:
            raise InputError(f"{front.model}: give the rate of the stream")
        seconds = front.pipeline.window_seconds(rate)
        if seconds is None:
            raise InputError(f"{front.model}: its pipeline fixes no window length, so it cannot stream")
        for samples, first, last in AudioWindows(rate, seconds, HOP if hop is None else hop).cut(chunks):
            begun = perf_counter()
            features, decode_ms = self.features(front, (samples, rate))
            yield Window(features, decode_ms, (perf_counter() - begun) * 1e3 - decode_ms, first, last)

    def chunks(self, path: Path, spec: RawInput, rate: float | None) -> tuple[Iterator[Any], int | None]:
        info = audio_info(path)
        block = _CHUNK_SECONDS * info.rate

        def parts() -> Iterator[NDArray[Any]]:
            for start in range(0, info.frames, block):
                yield read_audio(path, start=start, frames=min(block, info.frames - start))[0]

        return parts(), info.rate


def to_int16(samples: NDArray[Any]) -> NDArray[np.int16]:
    """Samples in [-1, 1] or int16 as int16; exact for what was decoded from 16 bits."""
    array = np.asarray(samples)
    if array.dtype == np.int16:
        return array
    return np.clip(np.rint(array.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
