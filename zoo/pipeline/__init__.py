# SPDX-License-Identifier: Apache-2.0
"""Pipelines: the typed description of preprocessing, and its executor.

A pipeline is an ordered list of ops. The modules of this package hold one frozen struct an op, with the parameter names,
defaults and ranges of the C++ table (``zoo._native.op_specs()``; a test compares the two); :class:`Pipeline` runs the
list in C++. Training, calibration, evaluation and the runtimes all run this one executor.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from zoo import _native
from zoo.errors import InputError
from zoo.pipeline.audio import (
    AudioOp,
    Dct,
    Fit,
    Log,
    Mel,
    Mfcc,
    MinMax,
    PowerToDb,
    Resample,
    Standardize,
    Stft,
)
from zoo.pipeline.eeg import Bandpower, Demean, Despike, EegOp, Filter, Topomap
from zoo.pipeline.flow import FlowDis, FlowFarneback, FlowOp, FlowTvl1
from zoo.pipeline.functionals import Functionals, FunctionalsOp, SlidingFunctionals
from zoo.pipeline.image import (
    Crop,
    FaceAlign,
    GreyToRgb,
    ImageOp,
    MoveChannels,
    Normalize,
    Resize,
    ResizeNormalize,
    SquareCrop,
    ToGrey,
)
from zoo.pipeline.lld import Lld, LldOp
from zoo.pipeline.speech import (
    Cmvn,
    CmvnSliding,
    Context,
    DeepspeechMfcc,
    KaldiFbank,
    KaldiMfcc,
    SpeechOp,
    WaveNormalize,
)
from zoo.pipeline.text import SocialTokenize, TextOp, Vocab
from zoo.pipeline.video import FlowEncode, FlowStack, FrameDifference, Motion, SampleFps, SceneOffset, VideoOp

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from zoo._native import PipelineStream

#: Every op; a family of ops is a module with one struct an op and their union.
Op: TypeAlias = AudioOp | EegOp | FlowOp | FunctionalsOp | ImageOp | LldOp | SpeechOp | TextOp | VideoOp


def _described(op: Op) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = msgspec.to_builtins(op)
    except TypeError as error:
        name = op.__struct_config__.tag
        raise InputError(
            f"op {name}: {error}; give plain numbers, strings, and flat tuples of numbers"
        ) from error
    return fields


@cache
def _file_params() -> dict[str, tuple[str, ...]]:
    """Parameters that name files, by op."""
    return {
        spec["op"]: tuple(param["name"] for param in spec["params"] if param["type"] == "file")
        for spec in _native.op_specs()
    }


def op_files(ops: Sequence[Op | Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of the files that ops refer to, without repetition, in order."""
    names = []
    for op in ops:
        described = op if isinstance(op, Mapping) else _described(op)
        params = _file_params().get(described.get("op", ""), ())
        names += [described[param] for param in params if described.get(param) is not None]
    return tuple(dict.fromkeys(names))


def _read_files(ops: Sequence[Op | Mapping[str, Any]], folder: Path) -> dict[str, bytes]:
    files = {}
    for name in op_files(ops):
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise InputError(f"{folder / name} cannot be read: {error.strerror}") from error
    return files


#: What a pipeline of a film starts with.
Source = Literal["sound", "pictures"]


def pipeline_of(
    source: Source | None,
    ops: Sequence[Op | Mapping[str, Any]],
    *,
    files: Mapping[str, bytes] | str | os.PathLike[str] | None = None,
    electrodes: int = 0,
) -> Pipeline:
    """The executor of ``ops`` for what they start with: frames (n, height, width, 3) of pictures, EEG (n, ``electrodes``) where
    that is given, else what the first op takes.

    Raises
    ------
    InputError
        See :class:`Pipeline`.
    """
    shape = (-1, -1, -1, 3) if source == "pictures" else (-1, electrodes) if electrodes else None
    return Pipeline(ops, files=files, shape=shape)


class Pipeline:
    """A validated list of ops, ready to run. Thread-safe; the GIL is released while it runs.

    Parameters
    ----------
    ops : sequence of Op or of mappings
        The ops in order. A mapping holds ``op`` and its parameters, as in a manifest. The first op says what the
        pipeline takes: audio, an image, frames of a video, EEG, a text, tokens, or a tensor.
    isa : str
        Instruction set of the kernels; ``""`` means ``ZOO_ISA`` or the fastest that the CPU has.
    shape : sequence of int or None
        Shape of the input, -1 for what varies. A pipeline that starts with a tensor op needs it; with four dimensions,
        (frames, height, width, channels), one that starts with an image op takes the frames of a video.
    files : mapping of str to bytes, path of a folder, or None
        Content of the files that ops name, or the folder that they lie in. A pipeline that is only looked at does without;
        to run is an error then.

    Raises
    ------
    InputError
        Unknown op or parameter, a value of the wrong type or outside its range, ops that do not fit together, a file
        that is missing or damaged. The message names the op's index, the op and the parameter.
    ProviderUnavailable
        The CPU cannot run ``isa``.
    """

    __slots__ = ("_native", "ops", "run")

    def __init__(
        self,
        ops: Sequence[Op | Mapping[str, Any]],
        *,
        isa: str = "",
        shape: Sequence[int] | None = None,
        files: Mapping[str, bytes] | str | os.PathLike[str] | None = None,
    ) -> None:
        described = [dict(op) if isinstance(op, Mapping) else _described(op) for op in ops]
        if files is not None:
            files = dict(files) if isinstance(files, Mapping) else _read_files(ops, Path(files))
        self._native = _native.Pipeline(described, isa, shape, files)
        #: The ops as they were given.
        self.ops: tuple[Op | Mapping[str, Any], ...] = tuple(ops)
        #: ``run(samples, rate, ...)``, see :meth:`__call__`. Bound once: a call costs no lookup.
        self.run = self._native.run

    def __call__(
        self,
        samples: ArrayLike | str | bytes,
        rate: float = 0.0,
        *,
        start: int = 0,
        total: int | None = None,
        threads: int = 1,
    ) -> Any:
        """Run the pipeline on one input; the same as :attr:`run`.

        Parameters
        ----------
        samples : array
            Audio: float32, float64, int16 or int32, shape (n,) or (n, channels); channels are averaged, integers are
            scaled to [-1, 1). Image: uint8, (height, width) or (height, width, channels). Frames: the same with
            time first. EEG: float64, float32, int16 or int32, (n, channels), not scaled. Tensor: float32. Text: str, or
            bytes of UTF-8. Tokens: a list of str.
        rate : float
            Hz of audio (a whole number) and EEG; frames a second; not used for images and tensors.
        start, total : int
            With only a part of an input of ``total`` rows (samples, frames) at hand, the index of its first one. The
            part must cover :meth:`input_range`; the result is the same, bit for bit, as that of the whole.
        threads : int
            At most so many threads share out the rows of the output, where every op can compute rows by themselves;
            the result is the same, bit for bit.

        Returns
        -------
        array of shape ``output_shape(...)``; it owns its memory. A list of str where the last op makes tokens; of a text,
        how many there are is known only then.

        Raises
        ------
        InputError
            No samples, a NaN or Inf (its index is named; only rows that the output depends on are looked at), a
            rate or shape that an op cannot take, an unsupported dtype.
        """
        return self.run(samples, rate, start=start, total=total, threads=threads)

    def tokens(self, text: str | bytes) -> list[str]:
        """The tokens of a text, before ``vocab`` makes numbers of them: one for each number, up to its ``max_length``.

        Raises
        ------
        InputError
            The pipeline makes no tokens, or as :meth:`__call__`.
        """
        return self._native.tokens(text)

    def batch(
        self, inputs: Iterable[ArrayLike | str | bytes], rate: float = 0.0, *, threads: int = 0
    ) -> list[Any]:
        """Run the pipeline on each input, on ``threads`` threads (0: one a CPU); results as of :meth:`__call__`.

        Raises
        ------
        InputError
            As :meth:`__call__`; the message names the index of the input. No result is returned then.
        """
        return self._native.batch(inputs, rate, threads=threads)

    def stream(self, rate: float = 0.0, *, shape: Sequence[int] | None = None) -> PipelineStream:
        """A run over an input that arrives in chunks of any size.

        ``push(chunk)`` returns the output rows that the chunk completes, ``finish()`` the last ones. Together they are
        the rows of :meth:`__call__` on the whole input, bit for bit.

        Parameters
        ----------
        rate : float
            As :meth:`__call__`.
        shape : sequence of int or None
            Shape of one row of the input: (channels,) of EEG, (height, width, channels) of frames.

        Raises
        ------
        InputError
            An op that needs the whole input (it is named), a chunk that a call would refuse or whose rows have another
            shape, a NaN or Inf, a push after ``finish``.
        """
        return _native.PipelineStream(self._native, rate, shape)

    def run_file(self, path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], dict[str, float]]:
        """Decode the part of a WAV or FLAC file that the output depends on, and run the pipeline on it.

        Returns
        -------
        features : float32 array
        timing : dict
            ``decode`` and ``preprocess``, in ms.

        Raises
        ------
        InputError
            As :meth:`__call__` and :func:`zoo.ops.read_audio`.
        """
        return self._native.run_file(path)

    def output_shape(
        self, total: int | Sequence[int] | None = None, rate: float | None = None
    ) -> tuple[int, ...] | None:
        """Shape of the output for an input of ``total`` rows, or of the shape ``total``, at ``rate`` Hz.

        Without arguments: the shape for every input, or None when it depends on the input.
        """
        return self._native.output_shape(total, rate)

    def input_range(self, total: int | Sequence[int], rate: float | None = None) -> tuple[int, int]:
        """Rows [start, stop) of an input that the output depends on."""
        return self._native.input_range(total, rate)

    def window_seconds(self, rate: int | None = None) -> float | None:
        """Seconds of signal that one output covers: length of the first ``fit``, or of the windows of ``bandpower``, over
        its rate; None without one.

        ``rate`` is the raw input's in Hz, for pipelines that do not resample before.
        """
        for op in self.describe():
            if op["op"] == "resample":
                rate = op["rate"]
            elif op["op"] == "fit":
                return op["length"] / rate if rate else None
            elif op["op"] == "bandpower":
                return op["window_length"] / rate if rate else None
        return None

    def hop_seconds(self, rate: int) -> float | None:
        """Seconds between the windows of ``bandpower``, of a signal at ``rate`` Hz; None without that op."""
        hops = [op["hop_length"] / rate for op in self.describe() if op["op"] == "bandpower"]
        return hops[0] if hops else None

    @property
    def isa(self) -> str:
        """Instruction set of the kernels."""
        return self._native.isa

    def describe(self) -> list[dict[str, Any]]:
        """The ops as plain dicts with every parameter, as in a manifest."""
        typed = [msgspec.convert(op, Op) if isinstance(op, Mapping) else op for op in self.ops]
        return [msgspec.to_builtins(op) for op in typed]

    def __repr__(self) -> str:
        names = " -> ".join(op["op"] for op in self.describe())
        return f"Pipeline({names}, isa={self.isa!r})"


__all__ = [
    "Bandpower",
    "Cmvn",
    "CmvnSliding",
    "Context",
    "Crop",
    "Dct",
    "DeepspeechMfcc",
    "Demean",
    "Despike",
    "FaceAlign",
    "Filter",
    "Fit",
    "FlowDis",
    "FlowEncode",
    "FlowFarneback",
    "FlowStack",
    "FlowTvl1",
    "FrameDifference",
    "Functionals",
    "GreyToRgb",
    "KaldiFbank",
    "KaldiMfcc",
    "Lld",
    "Log",
    "Mel",
    "Mfcc",
    "MinMax",
    "Motion",
    "MoveChannels",
    "Normalize",
    "Op",
    "Pipeline",
    "PowerToDb",
    "Resample",
    "Resize",
    "ResizeNormalize",
    "SampleFps",
    "SceneOffset",
    "SlidingFunctionals",
    "SocialTokenize",
    "Source",
    "SquareCrop",
    "Standardize",
    "Stft",
    "ToGrey",
    "Topomap",
    "Vocab",
    "WaveNormalize",
    "op_files",
    "pipeline_of",
]
