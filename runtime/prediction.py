# SPDX-License-Identifier: Apache-2.0
"""What a model returns, and how engine outputs become it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from zoo import _native
from zoo.curves import chain
from zoo.errors import InputError
from zoo.specs import Curve, Decode, Embedding, Heads, Regression, Sigmoid, Smooth, Softmax


@dataclass(frozen=True)
class Timing:
    """Wall time of one prediction, in milliseconds.

    ``decode_input`` reads and decodes a file (0 for arrays), ``preprocess`` is the C++ pipeline, ``engine``
    the engine's own run, ``decode`` turns its outputs into labels. ``total`` is from the call to the return.
    In a batch each prediction carries its share of the engine's time. ``stages``: of models that go along a film, the time
    of each engine input's decoding and preprocessing, and of the engine.
    """

    decode_input: float
    preprocess: float
    engine: float
    decode: float
    total: float
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """A value over time.

    Attributes
    ----------
    seconds : float64, shape (n,)
        When each step starts, from the start of the input.
    window : float
        Seconds that a step covers from its start on.
    bins : int64, shape (n,)
        The bin that each step was found in, from 0, the lowest, to ``count`` - 1.
    count : int
    values : float32, shape (n,)
        The curve: the bins smoothed, in the units of the model's range.
    """

    seconds: NDArray[np.float64]
    window: float
    bins: NDArray[np.int64]
    count: int
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Answer:
    """What one head says; the fields are those of :class:`Prediction`."""

    label: str | None
    labels: tuple[str, ...]
    scores: dict[str, float]
    values: dict[str, float] | NDArray[np.float32]
    series: Series | None = None


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
    series : Series or None
        The curve, for models that judge an input step by step; ``label``, ``labels``, ``scores`` and ``values`` are then
        empty, and each output has one row a step.
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
    series: Series | None = None


def decode_outputs(
    decode: Decode, labels: tuple[str, ...], outputs: Mapping[str, NDArray[np.generic]]
) -> tuple[Answer, dict[str, Answer]]:
    """The answer in one item's engine outputs, and those of its heads (the first is then empty)."""
    if isinstance(decode, Heads):
        heads = {head.name: _answer(head.decode, head.labels, outputs) for head in decode.heads}
        return Answer(None, (), {}, {}), heads
    return _answer(decode, labels, outputs), {}


def stepwise(decode: Decode) -> Decode:
    """The same decoding of curves without smoothing, for one step: it needs the steps around."""
    if isinstance(decode, Heads):
        heads = tuple(
            replace(head, decode=replace(head.decode, smooth=None))
            if isinstance(head.decode, Curve)
            else head
            for head in decode.heads
        )
        return replace(decode, heads=heads)
    return replace(decode, smooth=None) if isinstance(decode, Curve) else decode


def smoothed(prediction: Prediction, decode: Decode, seconds: float) -> Prediction:
    """The same prediction with its curves smoothed by a moving mean of about ``seconds`` in place of the model's own.

    Raises
    ------
    InputError
        ``seconds`` is not a positive number.
    """
    if not seconds > 0 or not np.isfinite(seconds):
        raise InputError(f"the mean's length is {seconds} s; give a positive number")

    def again(one: Curve) -> Curve:
        steps = 2 * round((seconds / one.period - 1) / 2) + 1
        return replace(one, smooth=replace(one.smooth or Smooth(), mean=max(steps, 1)))

    outputs = prediction.outputs
    if isinstance(decode, Curve):
        return dataclasses.replace(prediction, series=_answer(again(decode), (), outputs).series)
    heads = dict(prediction.heads)
    for head in decode.heads if isinstance(decode, Heads) else ():
        if isinstance(head.decode, Curve):
            heads[head.name] = _answer(again(head.decode), (), outputs)
    return dataclasses.replace(prediction, heads=heads)


def numbers(answer: Answer | Prediction, heads: Mapping[str, Answer]) -> dict[str, float]:
    """Scores, or values where there are none, by name, or those of a curve by step; those of ``heads`` as ``<head>/<name>``."""
    named: dict[str, float] = {}
    for prefix, one in (("", answer), *((f"{name}/", head) for name, head in heads.items())):
        found = one.series.values if one.series is not None else one.scores or one.values
        pairs = found.items() if isinstance(found, Mapping) else ((str(i), v) for i, v in enumerate(found))
        named |= {f"{prefix}{name}": float(value) for name, value in pairs}
    return named


#: In the order that the decoder numbers them.
_KINDS = (Softmax, Sigmoid, Regression, Embedding)


def _answer(
    decode: Softmax | Sigmoid | Regression | Embedding | Curve,
    labels: tuple[str, ...],
    outputs: Mapping[str, NDArray[np.generic]],
) -> Answer:
    data = np.ascontiguousarray(outputs[decode.output], np.float32)
    if isinstance(decode, Curve):
        bins, curve = _native.decode_curve(data, *decode.range, **chain(decode.smooth))
        seconds = np.arange(len(bins), dtype=np.float64) * np.float64(decode.period)
        return Answer(None, (), {}, {}, Series(seconds, decode.window, bins, data.shape[1], curve))
    values, given, best = _native.decode(
        data.ravel(),
        _KINDS.index(type(decode)),
        len(labels),
        decode.thresholds if isinstance(decode, Sigmoid) else (),
        *(decode.range if isinstance(decode, Regression) else (0.0, 0.0)),
        isinstance(decode, Embedding) and decode.normalize,
    )
    if isinstance(decode, Embedding):
        return Answer(None, (), {}, values)
    named = dict(zip(labels, values.tolist(), strict=True))
    if isinstance(decode, Regression):
        return Answer(None, (), {}, named)
    said = tuple(label for label, is_given in zip(labels, given, strict=True) if is_given)
    return Answer(labels[best] if best >= 0 else None, said, named, {})
