# SPDX-License-Identifier: Apache-2.0
"""The preprocessing ops as functions: thin wrappers over the C++ kernels that every pipeline runs.

Each function has the parameter names of the op of the same name in :mod:`zoo.pipeline`. Built plans are kept for
reuse. Matrices have time first: [frames, columns].
"""

from zoo._native import isa, isas
from zoo.ops.audio import (
    AudioInfo,
    audio_info,
    dct,
    fit,
    log,
    mel,
    mfcc,
    power_to_db,
    read_audio,
    resample,
    standardize,
    stft,
)
from zoo.ops.speech import (
    cmvn,
    cmvn_sliding,
    context,
    deepspeech_mfcc,
    kaldi_fbank,
    kaldi_mfcc,
    wave_normalize,
)

__all__ = [
    "AudioInfo",
    "audio_info",
    "cmvn",
    "cmvn_sliding",
    "context",
    "dct",
    "deepspeech_mfcc",
    "fit",
    "isa",
    "isas",
    "kaldi_fbank",
    "kaldi_mfcc",
    "log",
    "mel",
    "mfcc",
    "power_to_db",
    "read_audio",
    "resample",
    "standardize",
    "stft",
    "wave_normalize",
]
