# SPDX-License-Identifier: Apache-2.0
"""Sound and pictures of files, block by block: WAV and FLAC by the built-in reader, all else by PyAV (extra ``media``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError, ProviderUnavailable

if TYPE_CHECKING:
    from types import ModuleType

_BLOCK_SECONDS = 10


@dataclass(frozen=True)
class Sound:
    """The sound of one input. Each call of ``blocks`` goes through it anew, so memory is that of a block.

    Attributes
    ----------
    rate : int
        Hz.
    blocks : callable
        Arrays of samples in order, shape (n,) or (n, channels), as a pipeline takes them.
    """

    rate: int
    blocks: Callable[[], Iterator[NDArray[Any]]]


def of_samples(samples: NDArray[Any], rate: int) -> Sound:
    """Samples at hand as a ``Sound``."""
    step = _BLOCK_SECONDS * max(rate, 1)

    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, len(samples), step):
            yield samples[start : start + step]

    return Sound(rate, blocks)


def open_sound(path: str | os.PathLike[str]) -> Sound:
    """The (first) sound track of a file: audio or video, whatever FFmpeg decodes.

    Raises
    ------
    InputError
        No such file, no sound in it, or it cannot be decoded; the last also while blocks are read.
    ProviderUnavailable
        It is neither WAV nor FLAC, and PyAV is not installed.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    built_in = head[:4] == b"fLaC" or head[8:] == b"WAVE"
    return _built_in(file) if built_in else _decoded(file)


def _built_in(path: Path) -> Sound:
    from zoo import ops

    info = ops.audio_info(path)
    step = _BLOCK_SECONDS * info.rate

    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, info.frames, step):
            yield ops.read_audio(path, start=start, frames=min(step, info.frames - start))[0]

    return Sound(info.rate, blocks)


def _decoded(path: Path) -> Sound:
    av = _pyav(path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise InputError(f"{path}: it has no sound")
            rate = int(container.streams.audio[0].rate)
    except av.error.FFmpegError as error:
        raise InputError(f"{path}: cannot be decoded: {error.strerror}") from error

    def blocks() -> Iterator[NDArray[Any]]:
        try:
            with av.open(str(path)) as container:
                yield from _joined(_samples(av, container), _BLOCK_SECONDS * rate)
        except av.error.FFmpegError as error:
            raise InputError(f"{path}: its sound cannot be decoded: {error.strerror}") from error

    return Sound(rate, blocks)


def _samples(av: ModuleType, container: Any) -> Iterator[NDArray[np.float32]]:
    """Decoded frames as float32 (n, channels), at the track's own rate."""
    stream = container.streams.audio[0]
    resampler = av.AudioResampler(format="flt")
    for frame in _and_none(container.decode(stream)):
        for made in resampler.resample(frame):
            array: NDArray[np.float32] = made.to_ndarray()
            yield array.reshape(-1, made.layout.nb_channels)


def _and_none(frames: Iterator[Any]) -> Iterator[Any]:
    yield from frames
    yield None  # flushes the resampler


def _joined(parts: Iterator[NDArray[np.float32]], least: int) -> Iterator[NDArray[np.float32]]:
    """Parts put together to blocks of at least ``least`` rows, the last one aside."""
    held: list[NDArray[np.float32]] = []
    rows = 0
    for part in parts:
        held.append(part)
        rows += len(part)
        if rows >= least:
            yield np.concatenate(held)
            held, rows = [], 0
    if rows:
        yield np.concatenate(held)


def _pyav(path: Path) -> ModuleType:
    try:
        import av
        import av.error
    except ImportError as error:
        raise ProviderUnavailable(
            f"{path}: neither WAV nor FLAC; other files need PyAV: pip install 'affect-zoo[media]'"
        ) from error
    module: ModuleType = av
    return module
