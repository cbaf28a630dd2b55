# SPDX-License-Identifier: Apache-2.0
"""Sound and pictures of films, block by block: WAV and FLAC by the built-in reader, all else by PyAV (extra ``media``)."""

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
_BLOCK_BYTES, _BLOCK_FRAMES = 32 << 20, 16
#: Seconds by which time stamps are rounded at most.
_SLACK = 1e-3


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

    @property
    def shape(self) -> None:
        """Rows of sound have any number of channels."""
        return None


@dataclass(frozen=True)
class Pictures:
    """The pictures of one input, at a fixed rate; each call of ``blocks`` goes through them anew.

    Attributes
    ----------
    rate : float
        A second.
    shape : (int, int, int)
        Height, width and 3 (RGB) of each.
    blocks : callable
        uint8 arrays in order, shape (n, *shape).
    """

    rate: float
    shape: tuple[int, int, int]
    blocks: Callable[[], Iterator[NDArray[np.uint8]]]


@dataclass(frozen=True)
class Film:
    """What a model sees of one input; None is what it does not look at."""

    sound: Sound | None = None
    pictures: Pictures | None = None

    def source(self, name: str) -> Sound | Pictures:
        """``sound`` or ``pictures``.

        Raises
        ------
        InputError
            The film has none.
        """
        found = self.sound if name == "sound" else self.pictures
        if found is None:
            raise InputError(f"the model needs {name}, and none were given")
        return found


def of_samples(samples: NDArray[Any], rate: int) -> Sound:
    """Samples at hand as a ``Sound``."""
    step = _BLOCK_SECONDS * max(rate, 1)

    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, len(samples), step):
            yield samples[start : start + step]

    return Sound(rate, blocks)


def of_frames(frames: NDArray[np.uint8], rate: float) -> Pictures:
    """Frames at hand, uint8 (n, height, width, 3), as ``Pictures``.

    Raises
    ------
    InputError
        Another shape or dtype.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise InputError(f"frames are {frames.dtype} {frames.shape}; give uint8, shape (n, height, width, 3)")
    height, width = frames.shape[1:3]
    return Pictures(rate, (height, width, 3), lambda: iter([frames]))


def open_pictures(path: str | os.PathLike[str], rate: float) -> Pictures:
    """The (first) video track of a file, as what is on the screen every 1 / ``rate`` s from its first picture on.

    Where the film's own rate is another one, pictures are left out or shown again; no picture is mixed from others.

    Raises
    ------
    InputError
        No such file, no pictures in it, or it cannot be decoded; the last also while blocks are read.
    ProviderUnavailable
        PyAV is not installed.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: cannot be read: no such file")
    av = _pyav(file)
    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise InputError(f"{file}: it has no pictures")
            context = container.streams.video[0].codec_context
            shape = (int(context.height), int(context.width), 3)
    except av.error.FFmpegError as error:
        raise InputError(f"{file}: cannot be decoded: {error.strerror}") from error
    several = min(max(_BLOCK_BYTES // (shape[0] * shape[1] * 3), 1), _BLOCK_FRAMES)

    def blocks() -> Iterator[NDArray[np.uint8]]:
        try:
            with av.open(str(file)) as container:
                held: list[NDArray[np.uint8]] = []
                for frame in _shown(container, rate):
                    made = frame.reformat(width=shape[1], height=shape[0], format="rgb24")
                    held.append(made.to_ndarray())
                    if len(held) == several:
                        yield np.stack(held)
                        held = []
                if held:
                    yield np.stack(held)
        except av.error.FFmpegError as error:
            raise InputError(f"{file}: its pictures cannot be decoded: {error.strerror}") from error

    return Pictures(rate, shape, blocks)


def _shown(container: Any, rate: float) -> Iterator[Any]:
    """The frame that is on the screen at each 1 / rate s."""
    stream = container.streams.video[0]
    own = 1 / float(stream.average_rate or rate)
    first = last = None
    shown, now = 0, 0.0
    for frame in container.decode(stream):
        time = frame.time if frame.time is not None else now + own
        first = time if first is None else first
        now = max(time - first, now)
        while last is not None and shown / rate < now - _SLACK:
            yield last
            shown += 1
        last = frame
    while last is not None and shown / rate < now + own - _SLACK:
        yield last
        shown += 1


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


def has_sound(path: str | os.PathLike[str]) -> bool:
    """Whether a file has a sound track; errors as of :func:`open_sound` but for that."""
    try:
        open_sound(path)
    except NoSound:
        return False
    return True


class NoSound(InputError):
    """A film without a sound track."""


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
                raise NoSound(f"{path}: it has no sound")
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
