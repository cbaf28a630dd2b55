# SPDX-License-Identifier: Apache-2.0
"""Types shared by model cards and bundle manifests: tensors, raw inputs, decoding, licences, quality.

They are msgspec structs: frozen, validated when read, unknown keys refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Dim = Annotated[int, Meta(ge=1, le=1 << 30)] | Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$")]
DType = Literal["float32", "float16", "int64", "int32", "int8", "uint8", "bool"]
#: ``int8`` computes in integers; the ``-weights`` ones only store them so: activations and arithmetic stay float.
Precision = Literal["fp32", "fp16", "bf16", "int8", "int8-weights", "int4-weights"]
#: Switches of the int8 quantiser, in the order in which they act: two ways to rescale, biases corrected for the mean
#: shift, one scale for a whole weight in place of one for each channel.
QuantizeOption = Literal["equalize", "smooth", "bias-correct", "per-tensor"]
WeightsStatus = Literal["trained", "official", "random"]
#: Headline metrics. UAR, WAR, macro-F1: one class of several. Jaccard, micro-F1, macro-F1: several labels. Pearson:
#: values, and classes in an order. Pearson-some: over the items whose true value is at least 0.5. CCC, inverse-MAE:
#: values. heads-mean, heads-harmonic-mean: several heads, each by its own metric.
Metric = Literal[
    "UAR",
    "WAR",
    "macro-F1",
    "Jaccard",
    "micro-F1",
    "Pearson",
    "Pearson-some",
    "CCC",
    "inverse-MAE",
    "heads-mean",
    "heads-harmonic-mean",
]
#: Least, usual and greatest size of a dynamic dimension.
Range3 = tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1)]]


class Spec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Base of every struct that is read from a card or a manifest."""


class TensorSpec(Spec, frozen=True):
    """One engine tensor. A string in ``shape`` names a dynamic dimension."""

    name: str
    dtype: DType
    shape: tuple[Dim, ...]


class RawInput(Spec, frozen=True):
    """What the user hands in, before the pipeline.

    ``rate`` is the rate (Hz) that the model was made for; other rates are resampled by the pipeline.
    ``range`` is that of float samples or pixels. ``names``: of EEG, the electrodes in the order of the columns.
    """

    modality: Literal["audio", "image", "video", "eeg", "text"]
    name: str = "input"
    rate: Annotated[int, Meta(ge=1)] | None = None
    channels: Annotated[int, Meta(ge=1)] | None = None
    shape: tuple[Dim, ...] = ()
    dtype: DType = "float32"
    range: tuple[float, float] = (-1.0, 1.0)
    names: tuple[str, ...] = ()

    @property
    def electrodes(self) -> int:
        """Columns of EEG; 0 for other inputs."""
        return len(self.names) if self.modality == "eeg" else 0


class Softmax(Spec, frozen=True, tag_field="type", tag="softmax"):
    """One label of several: ``output`` holds probabilities that add up to one (already softmaxed).

    ``attention``, here and below, names the engine output with one weight for each token of a text.
    """

    output: str
    attention: str | None = None


class Sigmoid(Spec, frozen=True, tag_field="type", tag="sigmoid"):
    """Any number of labels: ``output`` holds probabilities, a label is given where one reaches its threshold."""

    output: str
    thresholds: tuple[float, ...]
    attention: str | None = None


class Regression(Spec, frozen=True, tag_field="type", tag="regression"):
    """Named values: one number for each label, clipped to ``range``."""

    output: str
    range: tuple[float, float]
    attention: str | None = None


class Embedding(Spec, frozen=True, tag_field="type", tag="embedding"):
    """A vector; ``normalize`` scales it to unit length."""

    output: str
    normalize: bool = False


class Smooth(Spec, frozen=True):
    """How the curve of :class:`Curve` is smoothed, see :func:`zoo.curves.curve`: a causal Butterworth low-pass, a moving
    mean, a median. ``cutoff`` and ``rate`` are Hz; the latter is the rate that the filter was designed for, whatever the
    steps' own. ``mean`` and ``median`` are odd numbers of steps. No ``cutoff``: no low-pass.
    """

    cutoff: Annotated[float, Meta(gt=0)] | None = None
    rate: Annotated[float, Meta(gt=0)] = 1.0
    order: Annotated[int, Meta(ge=1, le=32)] = 6
    mean: Annotated[int, Meta(ge=1, le=1 << 20)] = 1
    median: Annotated[int, Meta(ge=1, le=1 << 10)] = 1


class Curve(Spec, frozen=True, tag_field="type", tag="curve"):
    """A value over time. ``output`` holds, for each step, the logits or probabilities of equal bins of ``range``, the
    lowest first.

    A step covers ``window`` seconds from its start on, and a new one starts every ``period`` seconds. ``context`` is how
    many of the steps before it the engine looks at to judge a step.
    """

    output: str
    period: Annotated[float, Meta(gt=0)]
    window: Annotated[float, Meta(gt=0)]
    range: tuple[float, float] = (-1.0, 1.0)
    context: Annotated[int, Meta(ge=0, le=1 << 16)] = 0
    smooth: Smooth | None = None


class Head(Spec, frozen=True):
    """One of several answers: its own labels, way of decoding, and metric (none where it is not scored)."""

    name: Name
    decode: Softmax | Sigmoid | Regression | Embedding | Curve
    labels: tuple[str, ...] = ()
    metric: Metric | None = None


class Heads(Spec, frozen=True, tag_field="type", tag="heads"):
    """Several answers to one input. The model's ``labels`` are the heads' names, in this order."""

    heads: Annotated[tuple[Head, ...], Meta(min_length=1)]
    attention: str | None = None


Decode = Softmax | Sigmoid | Regression | Embedding | Curve | Heads


def read_outputs(decode: Decode) -> tuple[str, ...]:
    """The engine outputs that ``decode`` reads, attention left out; one for each head."""
    if isinstance(decode, Heads):
        return tuple(head.decode.output for head in decode.heads)
    return (decode.output,)


def embedding_outputs(decode: Decode) -> tuple[str, ...]:
    """The engine outputs that are embeddings."""
    parts = [head.decode for head in decode.heads] if isinstance(decode, Heads) else [decode]
    return tuple(part.output for part in parts if isinstance(part, Embedding))


def attention_output(decode: Decode) -> str | None:
    """The engine output with one weight for each token, or None."""
    return None if isinstance(decode, (Embedding, Curve)) else decode.attention


def curves(decode: Decode) -> tuple[Curve, ...]:
    """The curves that ``decode`` makes; empty for models that judge an input as a whole."""
    every = tuple(head.decode for head in decode.heads) if isinstance(decode, Heads) else (decode,)
    return tuple(one for one in every if isinstance(one, Curve))


def decode_problem(decode: Decode, labels: tuple[str, ...]) -> str | None:
    """Why ``decode`` and ``labels`` do not go together, in words; None where they do."""
    if isinstance(decode, Heads):
        names = tuple(head.name for head in decode.heads)
        if len(set(names)) != len(names):
            return f"heads of one name twice: {', '.join(names)}"
        if labels != names:
            return f"labels are {', '.join(labels)}; of a model with heads they are the heads' names, {', '.join(names)}"
        for head in decode.heads:
            problem = decode_problem(head.decode, head.labels)
            if problem:
                return f"head {head.name}: {problem}"
            if getattr(head.decode, "attention", None) is not None:
                return f"head {head.name}: attention belongs to all heads; give it beside them"
        found = curves(decode)
        if found and len(found) < len(names):
            return "curves beside other answers; a model judges steps or the whole input"
        if len({(curve.period, curve.window) for curve in found}) > 1:
            return "curves with steps of their own; those of a model share period and window"
        return None
    if len(set(labels)) != len(labels):
        return f"a label twice: {', '.join(labels)}"
    if isinstance(decode, Sigmoid) and len(decode.thresholds) != len(labels):
        return f"{len(decode.thresholds)} thresholds for {len(labels)} labels"
    if isinstance(decode, Regression) and not decode.range[0] < decode.range[1]:
        return f"range {decode.range} is empty"
    if isinstance(decode, Curve):
        if not decode.range[0] < decode.range[1]:
            return f"range {decode.range} is empty"
        smooth = decode.smooth
        if smooth is not None and not (smooth.mean % 2 and smooth.median % 2):
            return f"smooth: mean {smooth.mean} and median {smooth.median} must be odd"
        if smooth is not None and smooth.cutoff is not None and not smooth.cutoff < smooth.rate / 2:
            return f"smooth: cutoff {smooth.cutoff} Hz is not below half of the rate {smooth.rate} Hz"
    return None


class License(Spec, frozen=True):
    """Licence chain. Each is an SPDX id, or ``restricted: why``."""

    code: str
    weights: str
    data: str

    @property
    def commercial_ok(self) -> bool:
        """Whether no link of the chain is restricted or non-commercial."""
        return not any(
            "restricted" in link.lower() or "-NC" in link.upper() or "unknown" in link.lower()
            for link in (self.code, self.weights, self.data)
        )


class Quality(Spec, frozen=True):
    """One figure. ``source``: claimed (paper), corrected (its authors later), reproduced (here, by
    ``command``), or artifact (this very engine file). ``value``, ``low`` and ``high`` are fractions of
    one for UAR, WAR, accuracy and F1; the interval is the 95 % bootstrap interval.
    """

    metric: str
    value: float
    source: Literal["claimed", "corrected", "reproduced", "artifact"]
    protocol: str
    n: int | None = None
    low: float | None = None
    high: float | None = None
    command: str | None = None
    note: str | None = None
