# SPDX-License-Identifier: Apache-2.0
"""What a model returns, and how engine outputs become it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.specs import Decode, Embedding, Regression, Sigmoid, Softmax


@dataclass(frozen=True)
class Timing:
    """Wall time of one prediction, in milliseconds.

    ``decode_input`` reads and decodes a file (0 for arrays), ``preprocess`` is the C++ pipeline, ``engine``
    the engine's own run, ``decode`` turns its outputs into labels. ``total`` is from the call to the return.
    In a batch each prediction carries its share of the engine's time.
    """

    decode_input: float
    preprocess: float
    engine: float
    decode: float
    total: float


@dataclass(frozen=True)
class Prediction:
    """One result.

    Attributes
    ----------
    label : str or None
        The best label (softmax), or None.
    labels : tuple of str
        Every label given (sigmoid: those over their threshold; softmax: the best one).
    scores : dict of str to float
        Label to probability.
    values : dict of str to float, or float32 array
        Regression values by name, or the embedding.
    outputs : dict of str to float32 array
        The engine's raw outputs without the batch dimension.
    start, end : float
        Seconds of the stream that this prediction covers; 0 and NaN outside streams.
    attention : tuple of (str, float)
        Each token of a text and its weight in the result (they add up to one), for models that give it.
    """

    label: str | None
    labels: tuple[str, ...]
    scores: dict[str, float]
    values: dict[str, float] | NDArray[np.float32]
    outputs: Mapping[str, NDArray[np.generic]]
    timing: Timing
    start: float = 0.0
    end: float = float("nan")
    attention: tuple[tuple[str, float], ...] = ()


def decode_outputs(
    decode: Decode, labels: tuple[str, ...], outputs: Mapping[str, NDArray[np.generic]]
) -> tuple[str | None, tuple[str, ...], dict[str, float], dict[str, float] | NDArray[np.float32]]:
    """Label, labels, scores and values from one item's engine outputs."""
    data = outputs[decode.output]
    if isinstance(decode, Embedding):
        vector = np.asarray(data, np.float32).ravel()
        if decode.normalize:
            vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
        return None, (), {}, vector
    numbers: list[float] = data.ravel().tolist()
    named = dict(zip(labels, numbers, strict=True))
    if isinstance(decode, Softmax):
        best = labels[numbers.index(max(numbers))]
        return best, (best,), named, {}
    if isinstance(decode, Sigmoid):
        given = tuple(
            label for label, p, limit in zip(labels, numbers, decode.thresholds, strict=True) if p >= limit
        )
        return None, given, named, {}
    assert isinstance(decode, Regression)
    low, high = decode.range
    return None, (), {}, {label: min(max(value, low), high) for label, value in named.items()}
