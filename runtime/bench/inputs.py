# SPDX-License-Identifier: Apache-2.0
"""Distinct raw inputs of like length, made once for all contestants of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.bundle import Bundle, load_golden
from zoo.errors import DataError, ZooError

COUNT = 64
#: Where a pipeline takes any length, one of this many seconds.
DEFAULT_SECONDS = 2.0
#: Words of a text: those of a usual tweet.
WORDS = 20
#: Pixels a side of an image: those of a usual crop of a face.
SIDE = 112
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Inputs:
    """Raw inputs of one run. Audio: ``items`` are float32 (n,) in [-1, 1] at ``rate`` Hz, all of one length. Text:
    they are str, and the rate is 0. Image: uint8 (h, w, 3), all of one size, and the rate is 0.
    """

    items: tuple[Any, ...]
    rate: int
    source: str

    def raws(self) -> list[Any]:
        """What a pipeline is called with: (samples, rate), the text, or the pixels."""
        return [(item, self.rate) if self.rate else item for item in self.items]

    def save(self, path: Path) -> None:
        """Write for the workers."""
        np.savez(path, rate=np.array(self.rate), items=np.array(self.items))

    @classmethod
    def open(cls, path: Path) -> Inputs:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            items, rate = arrays["items"], int(arrays["rate"])
            text = items.dtype.kind == "U"
            return cls(tuple(str(item) if text else np.array(item) for item in items), rate, "")


def make_inputs(
    bundle: Bundle,
    *,
    data: Path | None = None,
    rate: int | None = None,
    seconds: float | None = None,
    count: int = COUNT,
) -> Inputs:
    """Make ``count`` distinct inputs: audio of exactly the pipeline's window, texts of 20 words, RGB images of 112 x 112.

    Parameters
    ----------
    bundle : Bundle
        Its pipeline gives the window, its golden inputs the signals or words where ``data`` is None.
    data : Path or None
        Folder whose audio files (WAV, FLAC; searched through) are used, spread evenly over their sorted paths. For
        texts: a UTF-8 file whose lines are used. For images: a folder of PNG and JPEG files.
    rate : int or None
        Rate of the inputs in Hz; None means the model's own, so that nothing is resampled while measuring.
    seconds : float or None
        Length, where it is not the pipeline's window.
    count : int
        How many.

    Raises
    ------
    DataError
        ``data`` is not a folder (for texts: no file with words), or holds no audio or image file.
    ZooError
        The bundle's inputs are of another kind.
    """
    spec = bundle.manifest.input
    if spec.modality == "text":
        return _texts(bundle, data, count)
    if spec.modality == "image":
        return _images(bundle, data, count)
    if spec.modality != "audio":
        raise ZooError(
            f"bench: {bundle.path} takes {spec.modality}; inputs can be made for audio, image and text only so far"
        )
    rate = rate or spec.rate
    if rate is None:
        raise ZooError(f"bench: {bundle.path} names no rate; give --rate")
    seconds = seconds or bundle.pipeline().window_seconds(rate) or DEFAULT_SECONDS
    length = round(seconds * rate)
    if data is None:
        clips = [(_mono(case["input"]), case["rate"]) for case in load_golden(bundle)]
        source = f"{len(clips)} golden clips of the bundle, shifted and scaled"
    else:
        clips, source = _read_folder(data, count)
    from zoo import ops

    signals = [clip if have == rate else np.asarray(ops.resample(clip, have, rate)) for clip, have in clips]
    return Inputs(tuple(vary(signals, length, count)), rate, source)


def _texts(bundle: Bundle, data: Path | None, count: int) -> Inputs:
    if data is None:
        lines = [case["input"].tobytes().decode() for case in load_golden(bundle)]
        source = f"words of {len(lines)} golden texts of the bundle, {WORDS} each"
    else:
        try:
            lines = data.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"bench: {data} is not a readable UTF-8 file: {error}") from error
        source = f"words of the file {data.name}, {WORDS} each"
    words = [word for line in lines for word in line.split()]
    if len(words) < 2:
        raise DataError(f"bench: {data or bundle.path} holds fewer than two words")
    texts = []
    for i in range(count):
        # Another start and another stride each time, so that no two texts have the same words in the same order.
        start, stride = i * WORDS % len(words), 1 + i * WORDS // len(words)
        texts.append(" ".join(words[(start + k * stride) % len(words)] for k in range(WORDS)))
    return Inputs(tuple(texts), 0, source)


def _images(bundle: Bundle, data: Path | None, count: int) -> Inputs:
    from zoo import ops

    if data is None:
        found = [case["input"] for case in load_golden(bundle)]
        source = f"{len(found)} golden images of the bundle, shifted and darkened"
    else:
        files = _files(data, (".png", ".jpg", ".jpeg"), "PNG or JPEG")
        chosen = _spread(files, count)
        found = [ops.read_image(path) for path in chosen]
        source = f"{len(chosen)} of {len(files)} image files of the folder {data.resolve().name}"
    images = [ops.resize(ops.grey_to_rgb(image), SIDE, SIDE) for image in found]
    made = []
    for i in range(count):
        # Another place and another brightness once every image was used.
        turn = i // len(images)
        shift = int(SIDE * ((turn * _GOLDEN) % 1.0))
        gain = 1.0 - 0.5 * ((turn * _GOLDEN * _GOLDEN) % 1.0)
        made.append(np.rint(np.roll(images[i % len(images)], shift, axis=1) * gain).astype(np.uint8))
    return Inputs(tuple(made), 0, f"{source}, {SIDE} x {SIDE} pixels")


def vary(signals: Sequence[NDArray[np.float32]], length: int, count: int) -> list[NDArray[np.float32]]:
    """``count`` distinct pieces of ``length`` samples, deterministically.

    Each is a signal repeated to the length, begun at another sample, and, once every signal was used,
    scaled to another level between 0.5 and 1.
    """
    pieces = []
    for i in range(count):
        signal = signals[i % len(signals)]
        turn = i // len(signals)
        shift = int(len(signal) * ((turn * _GOLDEN) % 1.0))
        gain = np.float32(1.0 - 0.5 * ((turn * _GOLDEN * _GOLDEN) % 1.0))
        index = np.arange(shift, shift + length) % len(signal)
        pieces.append(np.ascontiguousarray(signal[index] * gain))
    return pieces


def _mono(samples: NDArray[Any]) -> NDArray[np.float32]:
    scale = -float(np.iinfo(samples.dtype).min) if samples.dtype.kind == "i" else 1.0
    data = samples.astype(np.float32) / np.float32(scale)
    return data.mean(axis=1, dtype=np.float32) if data.ndim == 2 else data


def _read_folder(data: Path, count: int) -> tuple[list[tuple[NDArray[np.float32], int]], str]:
    from zoo import ops

    found = _files(data, (".wav", ".flac"), "WAV or FLAC")
    chosen = _spread(found, count)
    read: Callable[[Path], tuple[NDArray[np.float32], int]] = ops.read_audio
    clips = [(_mono(samples), rate) for samples, rate in map(read, chosen)]
    usable = [(samples, rate) for samples, rate in clips if len(samples)]
    if not usable:
        raise DataError(f"bench: {data}: every file tried is empty")
    return usable, f"{len(usable)} of {len(found)} audio files of the folder {data.resolve().name}"


def _files(data: Path, endings: tuple[str, ...], kind: str) -> list[Path]:
    """The files below ``data`` with one of the endings, sorted."""
    if not data.is_dir():
        raise DataError(f"bench: {data} is not a folder")
    found = sorted(path for path in data.rglob("*") if path.suffix.lower() in endings and path.is_file())
    if not found:
        raise DataError(f"bench: {data} holds no {kind} file")
    return found


def _spread(found: list[Path], count: int) -> list[Path]:
    """``count`` of them (or all, if fewer), spread evenly."""
    wanted = min(count, len(found))
    return [found[i * len(found) // wanted] for i in range(wanted)]
