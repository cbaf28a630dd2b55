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
from zoo.ops.image import (
    crop,
    face_align,
    grey_to_rgb,
    layout,
    normalize,
    resize,
    resize_normalize,
    square_crop,
    to_grey,
)
from zoo.ops.video import (
    flow_encode,
    flow_stack,
    frame_difference,
    motion,
    sample_fps,
    sample_times,
    scene_offset,
)

__all__ = [
    "AudioInfo",
    "audio_info",
    "crop",
    "dct",
    "face_align",
    "fit",
    "flow_encode",
    "flow_stack",
    "frame_difference",
    "grey_to_rgb",
    "isa",
    "isas",
    "layout",
    "mel",
    "mfcc",
    "motion",
    "normalize",
    "power_to_db",
    "read_audio",
    "resample",
    "resize",
    "resize_normalize",
    "sample_fps",
    "sample_times",
    "scene_offset",
    "square_crop",
    "standardize",
    "stft",
    "to_grey",
]
