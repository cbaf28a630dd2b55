# SPDX-License-Identifier: Apache-2.0
"""Speech ops of a pipeline: parameter names, defaults and ranges of the C++ table."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from zoo.pipeline.audio import Columns, Hz
from zoo.pipeline.op import BaseOp, Count, Rate

Scale: TypeAlias = Annotated[float, Meta(ge=1e-30, le=1e30)]
Milliseconds: TypeAlias = Annotated[float, Meta(ge=0.001, le=1e6)]
Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Bands: TypeAlias = Annotated[int, Meta(ge=3, le=4096)]
Edge: TypeAlias = Annotated[float, Meta(ge=-384000, le=384000)]
EnergyFloor: TypeAlias = Annotated[float, Meta(ge=0, le=1e38)]
Around: TypeAlias = Annotated[int, Meta(ge=0, le=10000)]
Rows: TypeAlias = Annotated[int, Meta(ge=1, le=1000000)]
KaldiWindow: TypeAlias = Literal["povey", "hamming", "hanning", "rectangular", "blackman"]


class KaldiFbank(BaseOp, frozen=True, kw_only=True, tag="kaldi_fbank"):
    """Kaldi's mel filter bank, [frames, num_bins (+ 1)]; see :func:`zoo.ops.kaldi_fbank`."""

    rate: Rate | None = None
    scale: Scale = 32768.0
    frame_length_ms: Milliseconds = 25.0
    frame_shift_ms: Milliseconds = 10.0
    preemph_coeff: Fraction = 0.97
    remove_dc_offset: bool = True
    window_type: KaldiWindow = "povey"
    blackman_coeff: Fraction = 0.42
    round_to_power_of_two: bool = True
    snip_edges: bool = True
    num_bins: Bands = 23
    low_freq: Hz = 20.0
    high_freq: Edge = 0.0
    use_energy: bool = False
    raw_energy: bool = True
    energy_floor: EnergyFloor = 0.0
    use_log_fbank: bool = True
    use_power: bool = True


class KaldiMfcc(BaseOp, frozen=True, kw_only=True, tag="kaldi_mfcc"):
    """Kaldi's cepstral coefficients, [frames, num_ceps]; see :func:`zoo.ops.kaldi_mfcc`."""

    rate: Rate | None = None
    scale: Scale = 32768.0
    frame_length_ms: Milliseconds = 25.0
    frame_shift_ms: Milliseconds = 10.0
    preemph_coeff: Fraction = 0.97
    remove_dc_offset: bool = True
    window_type: KaldiWindow = "povey"
    blackman_coeff: Fraction = 0.42
    round_to_power_of_two: bool = True
    snip_edges: bool = True
    num_bins: Bands = 23
    low_freq: Hz = 20.0
    high_freq: Edge = 0.0
    use_energy: bool = True
    raw_energy: bool = True
    energy_floor: EnergyFloor = 0.0
    num_ceps: Columns = 13
    cepstral_lifter: Annotated[float, Meta(ge=0, le=1e6)] = 22.0


class DeepspeechMfcc(BaseOp, frozen=True, kw_only=True, tag="deepspeech_mfcc"):
    """Cepstral coefficients of DeepSpeech, [frames, n_mfcc]; see :func:`zoo.ops.deepspeech_mfcc`."""

    rate: Rate | None = None
    win_length: Annotated[int, Meta(ge=2, le=65536)] = 512
    hop_length: Count = 320
    n_mels: Columns = 40
    n_mfcc: Columns = 26
    fmin: Hz = 20.0
    fmax: Hz | None = None


class Context(BaseOp, frozen=True, kw_only=True, tag="context"):
    """Each row with the rows around it, [rows, (before + 1 + after) * columns]; see :func:`zoo.ops.context`."""

    before: Around = 9
    after: Around = 9


class Cmvn(BaseOp, frozen=True, kw_only=True, tag="cmvn"):
    """Mean and variance normalisation of each column over all rows, same shape; see :func:`zoo.ops.cmvn`."""

    norm_means: bool = True
    norm_vars: bool = False


class CmvnSliding(BaseOp, frozen=True, kw_only=True, tag="cmvn_sliding"):
    """The same over the rows around each one, same shape; see :func:`zoo.ops.cmvn_sliding`."""

    window: Rows = 600
    min_window: Rows = 100
    center: bool = False
    norm_vars: bool = False


class WaveNormalize(BaseOp, frozen=True, kw_only=True, tag="wave_normalize"):
    """(x - mean) / sqrt(variance + epsilon) of a signal. Signal to signal; see :func:`zoo.ops.wave_normalize`."""

    epsilon: Annotated[float, Meta(ge=1e-30, le=1)] = 1e-7


SpeechOp: TypeAlias = KaldiFbank | KaldiMfcc | DeepspeechMfcc | Context | Cmvn | CmvnSliding | WaveNormalize
