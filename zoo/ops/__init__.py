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
    min_max,
    power_to_db,
    read_audio,
    resample,
    standardize,
    stft,
)
from zoo.ops.eeg import bandpower, demean, filter, filter_coefficients, project_positions, topomap
from zoo.ops.flow import flow_dis, flow_farneback, flow_tvl1, optical_flow
from zoo.ops.functionals import FUNCTIONAL_NAMES, functionals, sliding_functionals
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
from zoo.ops.lld import LLD_NAMES, lld
from zoo.ops.speech import (
    cmvn,
    cmvn_sliding,
    context,
    deepspeech_mfcc,
    kaldi_fbank,
    kaldi_mfcc,
    wave_normalize,
)
from zoo.ops.text import social_tokenize, vocab
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
    "FUNCTIONAL_NAMES",
    "LLD_NAMES",
    "AudioInfo",
    "audio_info",
    "bandpower",
    "cmvn",
    "cmvn_sliding",
    "context",
    "crop",
    "dct",
    "deepspeech_mfcc",
    "demean",
    "face_align",
    "filter",
    "filter_coefficients",
    "fit",
    "flow_dis",
    "flow_encode",
    "flow_farneback",
    "flow_stack",
    "flow_tvl1",
    "frame_difference",
    "functionals",
    "grey_to_rgb",
    "isa",
    "isas",
    "kaldi_fbank",
    "kaldi_mfcc",
    "layout",
    "lld",
    "log",
    "mel",
    "mfcc",
    "min_max",
    "motion",
    "normalize",
    "optical_flow",
    "power_to_db",
    "project_positions",
    "read_audio",
    "resample",
    "resize",
    "resize_normalize",
    "sample_fps",
    "sample_times",
    "scene_offset",
    "sliding_functionals",
    "social_tokenize",
    "square_crop",
    "standardize",
    "stft",
    "to_grey",
    "topomap",
    "vocab",
    "wave_normalize",
]
