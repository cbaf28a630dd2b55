# SPDX-License-Identifier: Apache-2.0
"""EEG ops of a pipeline: parameter names, defaults and ranges of the C++ table."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from zoo.pipeline.op import BaseOp, Count

Smoothing: TypeAlias = Annotated[float, Meta(ge=0, le=1e3)]
Spacing: TypeAlias = Annotated[float, Meta(ge=1e-3, le=10)]


class Filter(BaseOp, frozen=True, kw_only=True, tag="filter"):
    """Low-pass, high-pass, band-pass, band-stop or notch of every channel; see :func:`zoo.ops.filter`."""

    kind: Literal["lowpass", "highpass", "bandpass", "bandstop", "notch"] = "bandpass"
    freqs: tuple[float, ...]
    design: Literal["butterworth", "fir"] = "butterworth"
    order: Annotated[int, Meta(ge=1, le=32)] = 4
    q: Annotated[float, Meta(ge=1e-3, le=1e6)] = 30.0
    taps: Annotated[int, Meta(ge=1, le=1000001)] | None = None
    window: Literal["hamming", "hann", "blackman"] = "hamming"
    phase: Literal["causal", "zero"] = "causal"
    initial: Literal["zero", "steady"] = "zero"
    pad: Literal["odd", "even", "constant", "none"] = "odd"


class Demean(BaseOp, frozen=True, kw_only=True, tag="demean"):
    """Subtract each channel's mean over the recording; see :func:`zoo.ops.demean`."""


class Despike(BaseOp, frozen=True, kw_only=True, tag="despike"):
    """A single sample far from its neighbours takes the median of the three; see :func:`zoo.ops.despike`."""

    limit: Annotated[float, Meta(ge=1e-9, le=1e12)] = 200.0


class Bandpower(BaseOp, frozen=True, kw_only=True, tag="bandpower"):
    """Power of frequency bands, [windows, bands, channels]; see :func:`zoo.ops.bandpower`."""

    bands: tuple[float, ...] = (4.0, 8.0, 8.0, 14.0, 14.0, 31.0, 31.0, 45.0)
    window_length: Annotated[int, Meta(ge=2, le=2147483647)] = 128
    hop_length: Count = 64
    segment_length: Annotated[int, Meta(ge=2, le=65536)] | None = None
    overlap: Annotated[int, Meta(ge=0, le=65535)] | None = None
    taper: Literal["hann", "hamming", "boxcar"] = "hann"
    detrend: bool = True
    scaling: Literal["density", "spectrum"] = "density"
    integrate: Literal["sum", "mean", "trapezoid"] = "sum"
    output: Literal["power", "log", "entropy"] = "entropy"
    epsilon: Annotated[float, Meta(ge=0, le=1)] = 1e-12


class Topomap(BaseOp, frozen=True, kw_only=True, tag="topomap"):
    """Maps of the head, [rows, (bands,) size, size]; see :func:`zoo.ops.topomap`."""

    positions: tuple[float, ...]
    size: Annotated[int, Meta(ge=1, le=1024)] = 32
    method: Literal["spline", "clough_tocher"] = "spline"
    smoothing: Smoothing = 1e-5
    spacing: Spacing | None = None


EegOp: TypeAlias = Filter | Demean | Despike | Bandpower | Topomap
