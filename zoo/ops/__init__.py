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
from zoo.ops.eeg import bandpower, demean, filter, filter_coefficients, project_positions, topomap

__all__ = [
    "AudioInfo",
    "audio_info",
    "bandpower",
    "dct",
    "demean",
    "filter",
    "filter_coefficients",
    "fit",
    "isa",
    "isas",
    "mel",
    "mfcc",
    "power_to_db",
    "project_positions",
    "read_audio",
    "resample",
    "standardize",
    "stft",
    "topomap",
]
