# SPDX-License-Identifier: Apache-2.0
"""What is measured: a bundle, or a peer, behind one protocol, so that the same code times both."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Union, cast

import numpy as np

from zoo.errors import ZooError
from zoo.runtime.curves import Clock

if TYPE_CHECKING:
    from zoo.runtime.engines import NodePlacement
    from zoo.runtime.prediction import Timing

#: Label (or None), and the named numbers beside it.
Result = tuple[str | None, dict[str, float]]
#: What one call returns: several where it took a batch.
Answer = Union["Scored", Sequence["Scored"]]


class Scored(Protocol):
    """What a pipeline returns. :class:`zoo.runtime.Prediction` is one, :class:`Outcome` another."""

    @property
    def label(self) -> str | None: ...

    @property
    def scores(self) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class Outcome:
    """A peer's answer: the best label, and each label's probability."""

    label: str | None
    scores: Mapping[str, float]


class Subject(Protocol):
    """One contestant, opened.

    The scopes are ``engine(features)``, ``decode(engine(features))`` (called model) and ``pipeline(raw)``.
    ``raw`` is what the inputs hold: for audio ``(samples, rate)``, float32 (n,) in [-1, 1] and Hz.

    A subject may also have ``placement() -> list[NodePlacement]`` and ``requested`` (the provider that every
    node should run on, or None): a row with a node elsewhere is void.
    """

    def features(self, raw: Any, /) -> Any: ...

    def engine(self, features: Any, /) -> Any: ...

    def decode(self, outputs: Any, /) -> Scored: ...

    def pipeline(self, raw: Any, /) -> Scored: ...

    def versions(self) -> Mapping[str, str]: ...


class PeerFactory(Protocol):
    """The ``factory`` of ``FILE.py:factory``. ``bundle`` is the reference bundle whose work the peer redoes."""

    def __call__(self, bundle: Path | None, *, threads: int) -> Subject: ...


class BundleSubject:
    """A bundle through :class:`zoo.runtime.Model`, as ``zoo.load`` opens it.

    A partial fallback is not refused here but reported (``placement``), so that it voids one row only.
    """

    def __init__(self, path: Path, threads: int | None, batch: int | None = None) -> None:
        from zoo.bundle import open_bundle
        from zoo.runtime.model import Model

        model = Model(open_bundle(path), threads=threads, batch=batch, strict=False)
        self.model = model
        self.pipeline = model.__call__
        self._names = [tensor.name for tensor in model.engine.outputs]
        self.requested = model.engine.requested

        self._front, self._preprocess = model.front, model.front.modality.run
        self.engine = self._along if model.steps else model.engine.run

    def features(self, raw: Any) -> list[Any]:
        """The bare C++ pipelines, without the model's own checks: these count as overhead."""
        return [array[None] for array in self._preprocess(self._front, raw)]

    def _along(self, features: Sequence[Any]) -> list[Any]:
        """The engine over all steps, block by block as the model runs it."""
        assert self.model.steps is not None
        rows = tuple(array[0] for array in features)
        return [array[None] for array in self.model.steps.over(iter([rows]), Clock())]

    def decode(self, outputs: Any) -> Outcome:
        """Engine outputs to label and numbers."""
        return self._row(outputs, 0)

    def _row(self, outputs: Any, row: int) -> Outcome:
        from zoo.runtime.prediction import decode_outputs, numbers

        one = {name: array[row] for name, array in zip(self._names, outputs, strict=True)}
        answer, heads = decode_outputs(self.model.manifest.decode, self.model.labels, one)
        return Outcome(answer.label, numbers(answer, heads))

    def versions(self) -> Mapping[str, str]:
        """Version of the engine."""
        from zoo.runtime.engines import engine_status

        kind = self.model.manifest.engines[0].kind
        return {kind: str(engine_status(kind).version)}

    def placement(self) -> list[NodePlacement]:
        """Where each node runs."""
        return self.model.placement()


class BatchSubject:
    """A bundle that takes ``size`` inputs a call, through :meth:`zoo.runtime.Model.batch`.

    A raw input is a list of them; what comes back is a list too.
    """

    def __init__(self, path: Path, threads: int | None, size: int) -> None:
        self._one = BundleSubject(path, threads, batch=size)
        self.engine = self._one.engine
        self.pipeline = self._one.model.batch
        self.versions = self._one.versions

    def features(self, raw: Sequence[Any]) -> Any:
        """The bare C++ pipeline on each input."""
        several = [self._one.features(each) for each in raw]
        return [np.concatenate(arrays) for arrays in zip(*several, strict=True)]

    def decode(self, outputs: Any) -> list[Outcome]:
        """Engine outputs to a label and numbers for each input."""
        return [self._one._row(outputs, row) for row in range(len(outputs[0]))]


def result_of(answer: Answer) -> Result:
    """Copy out what is compared: label, and scores or, where there are none, values, of each head.

    Those of a batch are joined, each name with the place of its input in front.
    """
    if isinstance(answer, Sequence):
        parts = [result_of(each) for each in answer]
        joined = {f"{i}/{name}": value for i, (_, named) in enumerate(parts) for name, value in named.items()}
        return "|".join(str(label) for label, _ in parts), joined
    if isinstance(answer, Outcome):
        return answer.label, dict(answer.scores)
    from zoo.runtime.prediction import Prediction, numbers

    if isinstance(answer, Prediction):
        return answer.label, numbers(answer, answer.heads)
    return answer.label, {str(name): float(value) for name, value in answer.scores.items()}


def timing_of(answer: Answer) -> Timing | None:
    """The runtime's own breakdown, where the subject has one."""
    return getattr(answer, "timing", None)


def difference(found: Result, expected: Result) -> float:
    """Largest absolute difference of two results; infinite where label or names differ or a number is not finite."""
    if found[0] != expected[0] or found[1].keys() != expected[1].keys():
        return float("inf")
    worst = 0.0
    for name, value in expected[1].items():
        delta = abs(found[1][name] - value)
        if not delta < float("inf"):  # NaN too
            return float("inf")
        worst = max(worst, delta)
    return worst


def agreement(found: Sequence[Result], expected: Sequence[Result], tie: float = 0.0) -> tuple[int, float]:
    """How many labels are equal, and the largest difference of any score, whatever the labels.

    A label whose expected score is within ``tie`` of the expected label's counts as equal.
    """

    def same(a: Result, b: Result) -> bool:
        if a[0] == b[0] or a[0] is None or b[0] is None:
            return a[0] == b[0]
        return tie > 0 and b[1].get(a[0], -1.0) >= b[1].get(b[0], 0.0) - tie

    equal = sum(same(a, b) for a, b in zip(found, expected, strict=True))
    worst = max(
        (difference((None, a[1]), (None, b[1])) for a, b in zip(found, expected, strict=True)), default=0.0
    )
    return equal, worst


def split_peer(spec: str) -> tuple[Path, str] | None:
    """``FILE.py:factory`` as path and name; None where ``spec`` is not of that form."""
    file, colon, factory = spec.rpartition(":")
    if colon and file.endswith(".py") and factory.isidentifier():
        return Path(file), factory
    return None


def open_subject(spec: str, bundle: Path | None, threads: int | None) -> Subject:
    """Open a contestant.

    Parameters
    ----------
    spec : str
        A bundle's path, or ``FILE.py:factory``.
    bundle : Path or None
        Given to a peer's factory.
    threads : int or None
        None takes the bundle's own choice, and 1 for peers.

    Raises
    ------
    ZooError
        The file or the factory is not there; else whatever opening raises.
    """
    peer = split_peer(spec)
    if peer is None:
        return cast("Subject", BundleSubject(Path(spec), threads))
    file, name = peer
    if not file.is_file():
        raise ZooError(f"peer {spec}: there is no file {file}")
    found = importlib.util.spec_from_file_location(f"_zoo_peer_{file.stem}", file)
    if found is None or found.loader is None:
        raise ZooError(f"peer {spec}: {file} cannot be imported")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    factory: PeerFactory | None = getattr(module, name, None)
    if factory is None:
        raise ZooError(f"peer {spec}: {file.name} has no {name}")
    return factory(bundle, threads=threads or 1)
