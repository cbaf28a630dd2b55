# SPDX-License-Identifier: Apache-2.0
"""Pipelines: the typed description of preprocessing, and its executor.

A pipeline is an ordered list of ops. This module holds one frozen struct an op, with the parameter names, defaults
and ranges of the C++ table (``zoo._native.op_specs()``; a test compares the two), and :class:`Pipeline`, which
runs the list in C++. Training, calibration, evaluation and the runtimes all run this one executor.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from zoo import _native

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

Rate: TypeAlias = Annotated[int, Meta(ge=1, le=768000)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=2147483647)]
Columns: TypeAlias = Annotated[int, Meta(ge=1, le=4096)]
Hz: TypeAlias = Annotated[float, Meta(ge=0, le=384000)]
FrameSize: TypeAlias = Annotated[int, Meta(ge=16, le=65536)]
WindowSize: TypeAlias = Annotated[int, Meta(ge=1, le=65536)]
Power: TypeAlias = Annotated[float, Meta(ge=1, le=2)]
Amin: TypeAlias = Annotated[float, Meta(ge=1e-37, le=1e37)]
TopDb: TypeAlias = Annotated[float, Meta(ge=0, le=1e6)]


class _Op(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op"):
    """Base of all ops; the tag in the field ``op`` tells them apart."""


class Resample(_Op, frozen=True, kw_only=True, tag="resample"):
    """Band-limited rate conversion to ``rate`` Hz. Signal to signal; see :func:`zoo.ops.resample`."""

    rate: Rate


class Fit(_Op, frozen=True, kw_only=True, tag="fit"):
    """Pad or crop to ``length`` samples. Signal to signal; see :func:`zoo.ops.fit`."""

    length: Annotated[int, Meta(ge=1, le=2147483648)]
    pad: Literal["center", "start", "end"] = "center"
    crop: Literal["center", "start", "end"] = "center"


class Stft(_Op, frozen=True, kw_only=True, tag="stft"):
    """Short-time Fourier transform, [frames, bins] or [frames, bins, 2]; see :func:`zoo.ops.stft`."""

    n_fft: FrameSize = 2048
    hop_length: Count = 512
    win_length: WindowSize | None = None
    window: Literal["hann", "hamming"] = "hann"
    center: bool = True
    pad_mode: Literal["constant", "reflect"] = "constant"
    output: Literal["complex", "power", "magnitude"] = "power"


class Mel(_Op, frozen=True, kw_only=True, tag="mel"):
    """Mel spectrogram, [frames, n_mels]; see :func:`zoo.ops.mel`."""

    rate: Rate | None = None
    n_fft: FrameSize = 2048
    hop_length: Count = 512
    win_length: WindowSize | None = None
    window: Literal["hann", "hamming"] = "hann"
    center: bool = True
    pad_mode: Literal["constant", "reflect"] = "constant"
    power: Power = 2.0
    n_mels: Columns = 128
    fmin: Hz = 0.0
    fmax: Hz | None = None
    htk: bool = False
    norm: Literal["slaney", "none"] = "slaney"


class Mfcc(_Op, frozen=True, kw_only=True, tag="mfcc"):
    """Mel-frequency cepstral coefficients, [frames, n_mfcc]; see :func:`zoo.ops.mfcc`."""

    n_mfcc: Columns = 39
    rate: Rate | None = None
    n_fft: FrameSize = 2048
    hop_length: Count = 512
    win_length: WindowSize | None = None
    window: Literal["hann", "hamming"] = "hann"
    center: bool = True
    pad_mode: Literal["constant", "reflect"] = "constant"
    power: Power = 2.0
    n_mels: Columns = 128
    fmin: Hz = 0.0
    fmax: Hz | None = None
    htk: bool = False
    norm: Literal["slaney", "none"] = "slaney"
    ref: float = 1.0
    amin: Amin = 1e-10
    top_db: TopDb | None = 80.0


class PowerToDb(_Op, frozen=True, kw_only=True, tag="power_to_db"):
    """Decibels of a power, same shape; see :func:`zoo.ops.power_to_db`."""

    ref: float = 1.0
    amin: Amin = 1e-10
    top_db: TopDb | None = 80.0


class Dct(_Op, frozen=True, kw_only=True, tag="dct"):
    """Orthonormal DCT-II of each row, [rows, n_out]; see :func:`zoo.ops.dct`."""

    n_out: Columns


class Standardize(_Op, frozen=True, kw_only=True, tag="standardize"):
    """(x - mean) / std of each column, same shape; see :func:`zoo.ops.standardize`."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    epsilon: Annotated[float, Meta(ge=0, le=1)] = 1e-8


Op: TypeAlias = Resample | Fit | Stft | Mel | Mfcc | PowerToDb | Dct | Standardize


class Pipeline:
    """A validated list of ops, ready to run. Thread-safe; the GIL is released while it runs.

    Parameters
    ----------
    ops : sequence of Op or of mappings
        The ops in order. A mapping holds ``op`` and its parameters, as in a manifest.
    isa : str
        Instruction set of the kernels; ``""`` means ``ZOO_ISA`` or the fastest that the CPU has.

    Raises
    ------
    InputError
        Unknown op or parameter, a value of the wrong type or outside its range, ops that do not fit together. The
        message names the op's index, the op and the parameter.
    ProviderUnavailable
        The CPU cannot run ``isa``.
    """

    __slots__ = ("_native", "ops", "run")

    def __init__(self, ops: Sequence[Op | Mapping[str, Any]], *, isa: str = "") -> None:
        described = [dict(op) if isinstance(op, Mapping) else msgspec.to_builtins(op) for op in ops]
        self._native = _native.Pipeline(described, isa)
        #: The ops as they were given.
        self.ops: tuple[Op | Mapping[str, Any], ...] = tuple(ops)
        #: ``run(samples, rate, *, start=0, total=None)``, see :meth:`__call__`. Bound once: a call costs no lookup.
        self.run = self._native.run

    def __call__(
        self, samples: ArrayLike, rate: int, *, start: int = 0, total: int | None = None
    ) -> NDArray[np.float32]:
        """Run the pipeline on one signal; the same as :attr:`run`.

        Parameters
        ----------
        samples : float32, float64, int16 or int32, shape (n,) or (n, channels)
            Channels are averaged; integers are scaled to [-1, 1).
        rate : int
            Rate of the samples, Hz.
        start, total : int
            With only a part of a signal of ``total`` samples at hand, the index of its first sample. The part must
            cover :meth:`input_range`; the result is the same, bit for bit, as that of the whole signal.

        Returns
        -------
        float32 array of shape ``output_shape(total, rate)``; it owns its memory.

        Raises
        ------
        InputError
            No samples, a NaN or Inf (its index is named; only samples that the output depends on are looked at), a
            rate or length that an op cannot take, an unsupported dtype.
        """
        return self.run(samples, rate, start=start, total=total)

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

    def output_shape(self, total: int | None = None, rate: int | None = None) -> tuple[int, ...] | None:
        """Shape of the output for a signal of ``total`` samples at ``rate`` Hz.

        Without arguments: the shape for every signal, or None when it depends on the signal.
        """
        return self._native.output_shape(total, rate)

    def input_range(self, total: int, rate: int) -> tuple[int, int]:
        """Samples [start, stop) of a signal that the output depends on."""
        return self._native.input_range(total, rate)

    def window_seconds(self, rate: int | None = None) -> float | None:
        """Seconds of signal that one output covers: length of the first ``fit`` over its rate; None without one.

        ``rate`` is the raw input's in Hz, for pipelines that do not resample before ``fit``.
        """
        for op in self.describe():
            if op["op"] == "resample":
                rate = op["rate"]
            elif op["op"] == "fit":
                return op["length"] / rate if rate else None
        return None

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


__all__ = ["Dct", "Fit", "Mel", "Mfcc", "Op", "Pipeline", "PowerToDb", "Resample", "Standardize", "Stft"]
