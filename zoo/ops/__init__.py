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
    mel,
    mfcc,
    power_to_db,
    read_audio,
    resample,
    standardize,
    stft,
)
from zoo.ops.functionals import FUNCTIONAL_NAMES, functionals, sliding_functionals
from zoo.ops.lld import LLD_NAMES, lld

__all__ = [
    "FUNCTIONAL_NAMES",
    "LLD_NAMES",
    "AudioInfo",
    "audio_info",
    "dct",
    "fit",
    "functionals",
    "isa",
    "isas",
    "lld",
    "mel",
    "mfcc",
    "power_to_db",
    "read_audio",
    "resample",
    "sliding_functionals",
    "standardize",
    "stft",
]
