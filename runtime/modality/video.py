# SPDX-License-Identifier: Apache-2.0
"""Films: pictures and perhaps sound, gone through block by block."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import DataError, InputError
from zoo.media import Film, of_frames, of_samples, open_pictures, open_sound
from zoo.pipeline import op_files
from zoo.runtime.curves import Clock, Rows, timed
from zoo.runtime.modality.base import Features, Given, Modality, Raw

if TYPE_CHECKING:
    from zoo.runtime.modality.front import Front
    from zoo.specs import RawInput


class Video(Modality):
    """Frames at the model's rate, and the sound beside them where the model hears it too."""

    takes, files = "films", "audio and video files"

    def features(self, front: Front, given: Given) -> tuple[Features, float]:
        return rows_along(front, given)

    def run(self, front: Front, given: Any) -> Features:
        return rows_along(front, given)[0]

    def golden(self, path: Path, spec: RawInput, model: str) -> Raw:
        """An npz with ``frames``, uint8 (n, height, width, 3), and ``rate``, and where the film has sound ``sound``, int16, and
        ``sound_rate``.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                sound = None
                if "sound" in arrays:
                    sound = Raw(arrays["sound"], int(arrays["sound_rate"]))
                return Raw(arrays["frames"], int(arrays["rate"]), sound)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a readable golden film (npz): {error}") from error

    def given(self, raw: Raw) -> Given:
        sound = of_samples(raw.sound.samples, raw.sound.rate) if raw.sound is not None else None
        return Film(sound, of_frames(raw.samples, raw.rate))

    def altered(self, raw: Raw, step: int) -> Raw:
        """Two thirds of its length, from another moment on, darker, and quieter."""
        n = len(raw.samples)
        start, length = (step * 7919) % (n // 3 + 1), n - n // 3
        level = 1 - (step % 23) / 46
        frames = np.rint(raw.samples[start : start + length] * level).astype(np.uint8)
        sound = raw.sound
        if sound is not None:
            first, last = (at * sound.rate // raw.rate for at in (start, start + length))
            sound = Raw(np.rint(sound.samples[first:last] * level).astype(np.int16), sound.rate)
        return Raw(frames, raw.rate, sound)


def film_of(front: Front, given: Given) -> Film:
    """What the branches of a model look at, and nothing else of the file.

    Raises
    ------
    InputError
        Neither a path, a tuple (samples, rate), nor a film; no such file, or none with that.
    ProviderUnavailable
        The file needs PyAV.
    """
    if isinstance(given, Film):
        return given
    if isinstance(given, (str, os.PathLike)):
        sources = {branch.source for branch in front.branches}
        return Film(
            open_sound(given) if "sound" in sources else None,
            open_pictures(given, front.spec.rate or 1) if "pictures" in sources else None,
        )
    if isinstance(given, tuple) and len(given) == 2:
        return Film(of_samples(*given))
    raise InputError(
        f"{front.model}: input is {type(given).__name__}; give a file path, a tuple (samples, rate), or a Film"
    )


def rows_along(front: Front, given: Given) -> tuple[Features, float]:
    """Rows of each branch, as many as the shortest has, and the milliseconds of decoding; memory is that of the rows."""
    film, clock = film_of(front, given), Clock()
    arrays = []
    for branch in front.branches:
        files = {name: front.files[name] for name in op_files(branch.pipeline)}
        rows = Rows(branch.pipeline, files, source=branch.source)
        arrays.append(np.concatenate(list(rows.of(timed(film.source(branch.source), clock)))))
    steps = min(map(len, arrays))
    return tuple(array[:steps] for array in arrays), clock.seconds * 1e3
