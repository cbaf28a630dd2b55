# SPDX-License-Identifier: Apache-2.0
"""What a model returns, and how engine outputs become it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zoo.specs import Decode, Embedding, Heads, Regression, Sigmoid, Softmax


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
class Answer:
    """What one head says; the fields are those of :class:`Prediction`."""

    label: str | None
    labels: tuple[str, ...]
    scores: dict[str, float]
    values: dict[str, float] | NDArray[np.float32]


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
    heads : dict of str to Answer
        What each head says, for models with several; ``label``, ``labels``, ``scores`` and ``values`` are then empty.
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
    heads: Mapping[str, Answer] = field(default_factory=dict)


def decode_outputs(
    decode: Decode, labels: tuple[str, ...], outputs: Mapping[str, NDArray[np.generic]]
) -> tuple[Answer, dict[str, Answer]]:
    """The answer in one item's engine outputs, and those of its heads (the first is then empty)."""
    if isinstance(decode, Heads):
        heads = {head.name: _answer(head.decode, head.labels, outputs) for head in decode.heads}
        return Answer(None, (), {}, {}), heads
    return _answer(decode, labels, outputs), {}


def numbers(answer: Answer | Prediction, heads: Mapping[str, Answer]) -> dict[str, float]:
    """Scores, or values where there are none, by name; those of ``heads`` as ``<head>/<name>``."""
    named: dict[str, float] = {}
    for prefix, one in (("", answer), *((f"{name}/", head) for name, head in heads.items())):
        found = one.scores or one.values
        pairs = found.items() if isinstance(found, Mapping) else ((str(i), v) for i, v in enumerate(found))
        named |= {f"{prefix}{name}": float(value) for name, value in pairs}
    return named


def _answer(
    decode: Softmax | Sigmoid | Regression | Embedding,
    labels: tuple[str, ...],
    outputs: Mapping[str, NDArray[np.generic]],
) -> Answer:
    data = outputs[decode.output]
    if isinstance(decode, Embedding):
        vector = np.asarray(data, np.float32).ravel()
        if decode.normalize:
            vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
        return Answer(None, (), {}, vector)
    flat: list[float] = data.ravel().tolist()
    named = dict(zip(labels, flat, strict=True))
    if isinstance(decode, Softmax):
        best = labels[flat.index(max(flat))]
        return Answer(best, (best,), named, {})
    if isinstance(decode, Sigmoid):
        given = tuple(
            label for label, p, limit in zip(labels, flat, decode.thresholds, strict=True) if p >= limit
        )
        return Answer(None, given, named, {})
    low, high = decode.range
    return Answer(None, (), {}, {label: min(max(value, low), high) for label, value in named.items()})
