# SPDX-License-Identifier: Apache-2.0
"""A bundle's pipeline as a user would write it today: librosa and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
from numpy.typing import NDArray

from zoo.errors import ZooError
from zoo.pipeline import Fit, Mfcc, Op, Resample, Standardize

Step = Callable[[NDArray[np.float32], int], tuple[NDArray[np.float32], int]]


def front_end(pipeline: tuple[Op, ...]) -> Callable[[Any], NDArray[np.float32]]:
    """Samples and rate to features with a batch dimension.

    Raises
    ------
    ZooError
        An op that is not written here: a peer that leaves one out would do less work.
    """
    steps = [_step(op) for op in pipeline]

    def features(raw: Any) -> NDArray[np.float32]:
        data, rate = raw
        for step in steps:
            data, rate = step(data, rate)
        return np.ascontiguousarray(data, np.float32)[None]

    return features


def _step(op: Op) -> Step:
    if isinstance(op, Resample):
        return lambda y, rate: (_resample(y, rate, op.rate), op.rate)
    if isinstance(op, Fit):
        return lambda y, rate: (_fit(y, op), rate)
    if isinstance(op, Mfcc) and op.win_length is None and op.power == 2.0 and op.norm == "slaney":
        return lambda y, rate: (_mfcc(y, rate, op), rate)
    if isinstance(op, Standardize) and op.mean:
        mean, std = np.array(op.mean, np.float32), np.array(op.std, np.float32)
        return lambda x, rate: ((x - mean) / std, rate)
    raise ZooError(f"the librosa peers do not know {op}; write it in benchmarks/peers/_librosa.py")


def _resample(y: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    if rate == target:
        return y
    return librosa.resample(y, orig_sr=rate, target_sr=target, res_type="soxr_hq")


def _fit(y: NDArray[np.float32], op: Fit) -> NDArray[np.float32]:
    missing = op.length - len(y)
    side = op.pad if missing > 0 else op.crop
    before = {"start": abs(missing), "center": abs(missing) // 2, "end": 0}[side]
    if missing > 0:
        return np.pad(y, (before, missing - before))
    begin = {"start": 0, "center": before, "end": -missing}[side]
    return y[begin : begin + op.length]


def _mfcc(y: NDArray[np.float32], rate: int, op: Mfcc) -> NDArray[np.float32]:
    if op.ref == 1.0 and op.amin == 1e-10 and op.top_db == 80.0:
        # librosa's own call, which writes to decibels with these very defaults.
        return librosa.feature.mfcc(
            y=y,
            sr=op.rate or rate,
            n_mfcc=op.n_mfcc,
            n_fft=op.n_fft,
            hop_length=op.hop_length,
            window=op.window,
            center=op.center,
            pad_mode=op.pad_mode,
            n_mels=op.n_mels,
            fmin=op.fmin,
            fmax=op.fmax,
            htk=op.htk,
        ).T
    raise ZooError(f"the librosa peers do not know {op}; write it in benchmarks/peers/_librosa.py")
