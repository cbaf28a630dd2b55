# SPDX-License-Identifier: Apache-2.0
"""Audio ops of a pipeline: parameter names, defaults and ranges of the C++ table."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from zoo.pipeline.op import BaseOp, Count, Rate

Columns: TypeAlias = Annotated[int, Meta(ge=1, le=4096)]
Hz: TypeAlias = Annotated[float, Meta(ge=0, le=384000)]
FrameSize: TypeAlias = Annotated[int, Meta(ge=16, le=65536)]
WindowSize: TypeAlias = Annotated[int, Meta(ge=1, le=65536)]
Power: TypeAlias = Annotated[float, Meta(ge=1, le=2)]
Amin: TypeAlias = Annotated[float, Meta(ge=1e-37, le=1e37)]
TopDb: TypeAlias = Annotated[float, Meta(ge=0, le=1e6)]


class Resample(BaseOp, frozen=True, kw_only=True, tag="resample"):
    """Band-limited rate conversion to ``rate`` Hz. Signal to signal; see :func:`zoo.ops.resample`."""

    rate: Rate


class Fit(BaseOp, frozen=True, kw_only=True, tag="fit"):
    """Pad or crop to ``length`` samples. Signal to signal; see :func:`zoo.ops.fit`."""

    length: Annotated[int, Meta(ge=1, le=2147483648)]
    pad: Literal["center", "start", "end"] = "center"
    crop: Literal["center", "start", "end"] = "center"


class Stft(BaseOp, frozen=True, kw_only=True, tag="stft"):
    """Short-time Fourier transform, [frames, bins] or [frames, bins, 2]; see :func:`zoo.ops.stft`."""

    n_fft: FrameSize = 2048
    hop_length: Count = 512
    win_length: WindowSize | None = None
    window: Literal["hann", "hamming"] = "hann"
    center: bool = True
    pad_mode: Literal["constant", "reflect"] = "constant"
    output: Literal["complex", "power", "magnitude"] = "power"


class Mel(BaseOp, frozen=True, kw_only=True, tag="mel"):
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


class Mfcc(BaseOp, frozen=True, kw_only=True, tag="mfcc"):
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


class PowerToDb(BaseOp, frozen=True, kw_only=True, tag="power_to_db"):
    """Decibels of a power, same shape; see :func:`zoo.ops.power_to_db`."""

    ref: float = 1.0
    amin: Amin = 1e-10
    top_db: TopDb | None = 80.0


class Log(BaseOp, frozen=True, kw_only=True, tag="log"):
    """Logarithm of max(amin, x), same shape; see :func:`zoo.ops.log`."""

    base: Literal["e", "10", "2"] = "e"
    amin: Amin = 1e-10


class Dct(BaseOp, frozen=True, kw_only=True, tag="dct"):
    """Orthonormal DCT-II of each row, [rows, n_out]; see :func:`zoo.ops.dct`."""

    n_out: Columns


class Standardize(BaseOp, frozen=True, kw_only=True, tag="standardize"):
    """(x - mean) / std of each column, same shape; see :func:`zoo.ops.standardize`."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    epsilon: Annotated[float, Meta(ge=0, le=1)] = 1e-8


class MinMax(BaseOp, frozen=True, kw_only=True, tag="min_max"):
    """(x - low) / (high - low) of each column, clipped to [0, 1], same shape; see :func:`zoo.ops.min_max`."""

    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


AudioOp: TypeAlias = Resample | Fit | Stft | Mel | Mfcc | PowerToDb | Log | Dct | Standardize | MinMax
