# SPDX-License-Identifier: Apache-2.0
"""What every modality answers."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Union

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.media import Film
from zoo.recording import Recording

if TYPE_CHECKING:
    from zoo.runtime.modality.front import Front
    from zoo.specs import RawInput

#: Audio: a path of a file, or (samples, rate in Hz). Text: the text, or the path (not str) of a UTF-8 file. Image: a path of a
#: file, or pixels. EEG: a path, (samples, rate) or a ``Recording``. Models that give curves also take a ``zoo.media.Film``,
#: whose sound and pictures come from anywhere.
Given = Union[str, "os.PathLike[str]", tuple[NDArray[Any], int], NDArray[np.uint8], Film, Recording]
#: What the engine takes for one raw input: one array for each engine input, without the batch dimension.
Features = tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Raw:
    """One raw input as golden cases keep it. Audio: int16 samples, shape (n,) or (n, channels), and their rate in Hz. EEG: float64
    (n, channels) in microvolts, in the model's order, and their rate. Text: its UTF-8 bytes, uint8 (n,), and rate 0. Image: its
    pixels, uint8 (h, w) or (h, w, 3), and rate 0. Film: frames, uint8 (n, height, width, 3), a rate a second, and perhaps its
    sound.
    """

    samples: NDArray[Any]
    rate: int
    sound: Raw | None = None

    @property
    def text(self) -> str:
        """The text of a text input."""
        return self.samples.tobytes().decode()

    @property
    def modality(self) -> str:
        """The only one whose inputs look so."""
        if not self.rate:
            return "text" if self.samples.ndim == 1 else "image"
        return {"u": "video", "f": "eeg"}.get(self.samples.dtype.kind, "audio")


@dataclass(frozen=True)
class Window:
    """A window of a stream: features, milliseconds spent on decoding and on preprocessing it, first and last second."""

    features: Features
    decode_ms: float
    preprocess_ms: float
    start: float
    end: float


class Modality(ABC):
    """A kind of raw input. The methods hold no state: models of the kind differ by their :class:`Front`.

    Attributes
    ----------
    takes, files : str
        What such a model takes, in messages: ``texts``, ``image files``.
    literal : bool
        On a command line the input itself is given, not a file's path.
    hops : bool
        A long input can be cut into sliding windows of any hop.
    windowed : bool
        The pipeline cuts windows of its own; a recording gets an answer for each, where it can stream (:meth:`by_windows`).
    """

    takes: ClassVar[str]
    files: ClassVar[str]
    literal: ClassVar[bool] = False
    hops: ClassVar[bool] = False
    windowed: ClassVar[bool] = False

    @abstractmethod
    def features(self, front: Front, given: Given) -> tuple[Features, float]:
        """Read an input and run the pipelines on it.

        Returns
        -------
        features : tuple of arrays
        decode_ms : float
            Milliseconds of reading and decoding.

        Raises
        ------
        InputError
            Nothing that the model takes, unreadable, empty or not finite.
        ProviderUnavailable
            The file needs a library that is not installed.
        """

    def unfit(self, front: Front, features: Features) -> str | None:
        """Why no answer can come from these features; None where one can."""
        return None

    def run(self, front: Front, given: Any) -> Features:
        """The pipelines alone, on an input at hand in the form that they take: :meth:`features` without reading and checking."""
        return (front.pipeline.run(given),)

    @abstractmethod
    def golden(self, path: Path, spec: RawInput, model: str) -> Raw:
        """Read a golden input of a model's folder.

        Raises
        ------
        DataError, InputError
            The file cannot be read.
        """

    @abstractmethod
    def given(self, raw: Raw) -> Given:
        """A golden input as the model is given it."""

    @abstractmethod
    def altered(self, raw: Raw, step: int) -> Raw:
        """Another input made from a golden one, the same in every run; steps differ as long as the input is large enough."""

    def by_windows(self, front: Front) -> bool:
        """Whether a recording gets an answer for each window that the pipeline cuts; else one for the whole."""
        return False

    def windows(
        self, front: Front, chunks: Iterable[Any], rate: int | None, hop: float | None
    ) -> Iterator[Window]:
        """Windows of a live signal as they are completed; see :meth:`zoo.runtime.Model.stream`.

        Raises
        ------
        InputError
            There are none, or a chunk is refused.
        """
        raise InputError(f"{front.model}: takes {self.takes}, which do not stream")

    def chunks(self, path: Path, spec: RawInput, rate: float | None) -> tuple[Iterator[Any], int | None]:
        """A file in parts of some seconds for :meth:`windows`, and their rate where the parts do not say it.

        ``rate`` is that of files that do not say theirs.

        Raises
        ------
        InputError
            It cannot be read, or such inputs do not stream.
        """
        raise InputError(f"{path}: {self.files} do not stream")
