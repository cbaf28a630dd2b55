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
from zoo.ops.flow import flow_dis, flow_farneback, flow_tvl1, optical_flow

__all__ = [
    "AudioInfo",
    "audio_info",
    "dct",
    "fit",
    "flow_dis",
    "flow_farneback",
    "flow_tvl1",
    "isa",
    "isas",
    "mel",
    "mfcc",
    "optical_flow",
    "power_to_db",
    "read_audio",
    "resample",
    "standardize",
    "stft",
]
