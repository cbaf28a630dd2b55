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
from zoo.errors import DataError, InputError, ZooError
from zoo.media import open_pictures, open_sound
from zoo.recording import SUFFIXES, read_recording
from zoo.runtime.modality import Raw, modality
from zoo.runtime.modality.audio import to_int16

COUNT = 64
#: Where a pipeline takes any length, one of this many seconds.
DEFAULT_SECONDS = 2.0
#: Words of a text: those of a usual tweet.
WORDS = 20
#: Pixels a side of an image: those of a usual crop of a face.
SIDE = 112
#: Frames of a film, and their height and width: so small that 64 of them fit beside the contestants.
FRAMES, FRAME = 18, (90, 160)
#: Of a film only so many frames are looked at.
_SCENES = 250
_VIDEO = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v")
_SOUND_RATE = 16000
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Inputs:
    """Raw inputs of one run. Audio: ``items`` are float32 (n,) in [-1, 1] at ``rate`` Hz, all of one length. EEG: float64
    (n, channels) in microvolts, the same. Text: they are str, and the rate is 0. Image: uint8 (h, w, 3), all of one size, and the
    rate is 0. Film: uint8 (n, height, width, 3), ``rate`` a second, with ``sounds`` beside them, int16 (n,) at ``sound_rate`` Hz,
    where the model hears them.
    """

    items: tuple[Any, ...]
    rate: int
    source: str
    sounds: tuple[NDArray[np.int16], ...] = ()
    sound_rate: int = 0

    def raws(self) -> list[Any]:
        """What a pipeline is called with: (samples, rate), the text, the pixels, or the film."""
        if self.rate and self.items[0].ndim == 4:
            sounds = [Raw(sound, self.sound_rate) for sound in self.sounds]
            films = [Raw(item, self.rate, sounds[i] if sounds else None) for i, item in enumerate(self.items)]
            return [modality(film.modality).given(film) for film in films]
        return [(item, self.rate) if self.rate else item for item in self.items]

    def save(self, path: Path) -> None:
        """Write for the workers."""
        np.savez(
            path,
            rate=np.array(self.rate),
            items=np.array(self.items),
            sounds=np.array(self.sounds),
            sound_rate=np.array(self.sound_rate),
        )

    @classmethod
    def open(cls, path: Path) -> Inputs:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            items, sounds = arrays["items"], arrays["sounds"]
            text = items.dtype.kind == "U"
            return cls(
                tuple(str(item) if text else np.array(item) for item in items),
                int(arrays["rate"]),
                "",
                tuple(np.array(sound) for sound in sounds),
                int(arrays["sound_rate"]),
            )


@dataclass(frozen=True)
class _Wish:
    """What :func:`make_inputs` is asked for."""

    bundle: Bundle
    data: Path | None
    rate: int | None
    seconds: float | None
    count: int


def make_inputs(
    bundle: Bundle,
    *,
    data: Path | None = None,
    rate: int | None = None,
    seconds: float | None = None,
    count: int = COUNT,
) -> Inputs:
    """Make ``count`` distinct inputs: audio of exactly the pipeline's window, EEG of 2 s, texts of 20 words, RGB images of
    112 x 112, films of 18 frames of 160 x 90.

    Parameters
    ----------
    bundle : Bundle
        Its pipeline gives the window, its golden inputs the signals or words where ``data`` is None.
    data : Path or None
        Folder whose audio files (WAV, FLAC; searched through) are used, spread evenly over their sorted paths. For
        texts: a UTF-8 file whose lines are used. For images: a folder of PNG and JPEG files. For EEG: a folder of files that
        :func:`zoo.recording.read_recording` reads. For films: a folder of video files.
    rate : int or None
        Rate of the inputs in Hz; None means the model's own, so that nothing is resampled while measuring. Of EEG that of
        files that do not say theirs. Films have the model's.
    seconds : float or None
        Length, where it is not the pipeline's window.
    count : int
        How many.

    Raises
    ------
    DataError
        ``data`` is not a folder (for texts: no file with words), or holds no file of the kind.
    InputError, ProviderUnavailable
        A file cannot be read.
    ZooError
        The bundle names no rate.
    """
    wish = _Wish(bundle, data, rate, seconds, count)
    return _MAKERS[bundle.manifest.input.modality](wish)


def _clips(wish: _Wish) -> Inputs:
    bundle, data = wish.bundle, wish.data
    rate = wish.rate or bundle.manifest.input.rate
    if rate is None:
        raise ZooError(f"bench: {bundle.path} names no rate; give --rate")
    seconds = wish.seconds or bundle.pipeline().window_seconds(rate) or DEFAULT_SECONDS
    length = round(seconds * rate)
    if data is None:
        clips = [(_mono(case["input"]), case["rate"]) for case in load_golden(bundle)]
        source = f"{len(clips)} golden clips of the bundle, shifted and scaled"
    else:
        clips, source = _read_folder(data, wish.count)
    from zoo import ops

    signals = [clip if have == rate else np.asarray(ops.resample(clip, have, rate)) for clip, have in clips]
    return Inputs(tuple(vary(signals, length, wish.count)), rate, source)


def _recordings(wish: _Wish) -> Inputs:
    spec, data = wish.bundle.manifest.input, wish.data
    rate = spec.rate
    if rate is None:
        raise ZooError(f"bench: {wish.bundle.path} names no rate")
    if data is None:
        signals = [case["input"] for case in load_golden(wish.bundle)]
        source = f"{len(signals)} golden recordings of the bundle, shifted and scaled"
    else:
        found = _files(data, SUFFIXES, "EEG")
        chosen = _spread(found, wish.count)
        signals = [
            read_recording(path, channels=spec.names, rate=wish.rate).in_order(
                spec.names, rate, wish.bundle.manifest.name
            )
            for path in chosen
        ]
        source = f"{len(chosen)} of {len(found)} EEG files of the folder {data.resolve().name}"
    seconds = wish.seconds or max(wish.bundle.pipeline().window_seconds(rate) or 0.0, DEFAULT_SECONDS)
    return Inputs(tuple(vary(signals, round(seconds * rate), wish.count)), rate, source)


def _films(wish: _Wish) -> Inputs:
    manifest, kind = wish.bundle.manifest, modality("video")
    if wish.data is None:
        cases = load_golden(wish.bundle)
        golden = [
            Raw(
                case["input"],
                case["rate"],
                Raw(case["sound"], case["sound_rate"]) if "sound" in case else None,
            )
            for case in cases
        ]
        made = [kind.altered(golden[i % len(golden)], i // len(golden)) for i in range(wish.count)]
        source = f"{len(cases)} golden films of the bundle, cut and darkened"
    else:
        found = _files(wish.data, _VIDEO, "video")
        heard = any(branch.source == "sound" for branch in manifest.all_branches())
        frames = round(wish.seconds * (manifest.input.rate or 1)) if wish.seconds else FRAMES
        scenes = [_scene(path, manifest.input.rate or 1, heard) for path in found]
        usable = [scene for scene in scenes if scene is not None and len(scene.samples) >= frames]
        if not usable:
            what = "pictures and sound" if heard else "pictures"
            raise DataError(f"bench: {wish.data}: no film has {frames} frames of {what}")
        made = [_moment(usable[i % len(usable)], frames, i // len(usable)) for i in range(wish.count)]
        source = (
            f"{len(usable)} of {len(found)} video files of the folder {wish.data.resolve().name}, "
            f"{frames} frames of {FRAME[1]} x {FRAME[0]} pixels"
        )
    sounds = [film.sound for film in made if film.sound is not None]
    return Inputs(
        tuple(film.samples for film in made),
        made[0].rate,
        source,
        tuple(sound.samples for sound in sounds),
        sounds[0].rate if sounds else 0,
    )


def _scene(path: Path, rate: int, heard: bool) -> Raw | None:
    """The first seconds of a film, scaled down; None where it has no sound, and the model hears it. At 16 kHz, mono."""
    from zoo import ops

    frames: list[NDArray[np.uint8]] = []
    for block in open_pictures(path, rate).blocks():
        frames += [ops.resize(frame, *FRAME) for frame in block]
        if len(frames) >= _SCENES:
            break
    film = np.stack(frames[:_SCENES])
    if not heard:
        return Raw(film, rate)
    try:
        track = open_sound(path)
    except InputError:
        return None
    samples = np.concatenate([_mono(block) for block in track.blocks()])
    needed = -(-len(film) * _SOUND_RATE // rate)
    sound = np.asarray(ops.resample(samples, track.rate, _SOUND_RATE))[:needed]
    return Raw(film[: len(sound) * rate // _SOUND_RATE], rate, Raw(to_int16(sound), _SOUND_RATE))


def _moment(scene: Raw, frames: int, turn: int) -> Raw:
    """So many frames of a scene, from another one on at each turn, and their sound."""
    start = int((len(scene.samples) - frames) * ((turn * _GOLDEN) % 1.0))
    sound = None
    if scene.sound is not None:
        first = start * scene.sound.rate // scene.rate
        length = frames * scene.sound.rate // scene.rate
        sound = Raw(scene.sound.samples[first : first + length], scene.sound.rate)
    return Raw(scene.samples[start : start + frames], scene.rate, sound)


def _texts(wish: _Wish) -> Inputs:
    bundle, data, count = wish.bundle, wish.data, wish.count
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


def _images(wish: _Wish) -> Inputs:
    from zoo import ops

    bundle, data, count = wish.bundle, wish.data, wish.count
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


_MAKERS: dict[str, Callable[[_Wish], Inputs]] = {
    "audio": _clips,
    "eeg": _recordings,
    "image": _images,
    "text": _texts,
    "video": _films,
}


def vary(signals: Sequence[NDArray[Any]], length: int, count: int) -> list[NDArray[Any]]:
    """``count`` distinct pieces of ``length`` samples, deterministically.

    Each is a signal repeated to the length, begun at another sample, and, once every signal was used,
    scaled to another level between 0.5 and 1.
    """
    pieces = []
    for i in range(count):
        signal = signals[i % len(signals)]
        turn = i // len(signals)
        shift = int(len(signal) * ((turn * _GOLDEN) % 1.0))
        gain = signal.dtype.type(1.0 - 0.5 * ((turn * _GOLDEN * _GOLDEN) % 1.0))
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
