# SPDX-License-Identifier: Apache-2.0
"""Activation ranges on real inputs: one pass, streamed histograms, every method from the same recording."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from zoo.bundle import Calibration
from zoo.data import Dataset, Item
from zoo.errors import DataError, TargetError
from zoo.export.inputs import Features, Preprocessor, Progress, stratified
from zoo.export.session import Session

if TYPE_CHECKING:
    from zoo.card import Variant

Method = Literal["minmax", "percentile", "entropy", "mse"]

MIN_ITEMS = 128
#: Enough for stable ranges; more only takes longer.
ITEMS = 256
#: Share of the absolute values that ``percentile`` keeps.
PERCENTILE = 0.9999
_BINS = 2048
_LEVELS = 127


@dataclass(frozen=True)
class CalibrationSet:
    """The items that ranges are measured on."""

    dataset: Dataset
    items: tuple[Item, ...]

    def record(self, variant: Variant, method: Method, options: Sequence[str] = ()) -> Calibration:
        """What goes into the manifest; the hash covers items, their content, the pipeline, the method and the options."""
        ids = tuple(item.id for item in self.items)
        digest = hashlib.sha256()
        for part in (method, str(PERCENTILE), self.dataset.fingerprint(ids), repr(variant.pipeline), *options):
            digest.update(part.encode() + b"\n")
        return Calibration(data=self.dataset.name, items=ids, method=method, sha256=digest.hexdigest())


def check_method(method: str) -> Method:
    """The method's name; TargetError where it is not one."""
    if method not in get_args(Method):
        raise TargetError(
            f"no calibration method is called {method!r}; there are {', '.join(get_args(Method))}"
        )
    return cast("Method", method)


def choose(dataset: Dataset, *, without: Collection[str] = (), count: int = ITEMS) -> CalibrationSet:
    """Items stratified by label, none of the groups in ``without``.

    Raises
    ------
    DataError
        Fewer than 128 items.
    """
    items = [item for item in dataset.items if item.group not in without]
    if len(items) < MIN_ITEMS:
        raise DataError(
            f"{dataset.name} has {len(items)} items for calibration, INT8 needs {MIN_ITEMS}; give a larger --data"
        )
    return CalibrationSet(dataset, tuple(stratified(dataset, items, count)))


class Histogram:
    """Absolute values of one tensor, streamed: the range doubles where a larger value comes."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(_BINS, np.int64)
        self.width = 0.0
        self.largest = 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Count values; DataError-free: the caller has checked that they are finite."""
        magnitude = np.abs(values.astype(np.float32, copy=False)).ravel()
        top = float(magnitude.max(initial=0.0))
        self.largest = max(self.largest, top)
        if top == 0.0 and self.width == 0.0:
            self.counts[0] += magnitude.size
            return
        if self.width == 0.0:
            self.width = top / _BINS
        while top > self.width * _BINS:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(_BINS // 2, np.int64)])
            self.width *= 2
        index = np.minimum((magnitude * np.float32(1 / self.width)).astype(np.int64), _BINS - 1)
        self.counts += np.bincount(index, minlength=_BINS)

    def threshold(self, method: Method) -> float:
        """The absolute value that becomes 127."""
        if self.largest == 0.0:
            return 1e-6
        if method == "minmax":
            return self.largest
        if method == "percentile":
            cumulative = np.cumsum(self.counts)
            bin_index = int(np.searchsorted(cumulative, PERCENTILE * cumulative[-1]))
            return min((bin_index + 1) * self.width, self.largest)
        return self._mse() if method == "mse" else self._entropy()

    def _mse(self) -> float:
        """Least squared error of rounding and clipping, values taken at the middle of their bins."""
        centres = (np.arange(_BINS) + 0.5) * self.width
        best, chosen = np.inf, self.largest
        for share in np.linspace(0.2, 1.0, 81):
            limit = share * self.largest
            scale = limit / _LEVELS
            rounded = np.minimum(np.rint(centres / scale), _LEVELS) * scale
            # Inside a step the bin's own width hides the rounding error of fine bins: s²/12 stands for it.
            inside = centres <= limit
            error = np.where(inside, scale**2 / 12, (centres - rounded) ** 2)
            total = float(np.dot(self.counts, error))
            if total < best:
                best, chosen = total, limit
        return float(chosen)

    def _entropy(self) -> float:
        """Least Kullback-Leibler divergence between the clipped and the quantised distribution."""
        counts = self.counts.astype(np.float64)
        counts[0] = counts[1]  # exact zeros (ReLU, padding) are free and would swamp the rest
        last = int(np.max(np.nonzero(self.counts)[0])) + 1
        best, chosen = np.inf, last
        for stop in range(min(_LEVELS + 1, last), last + 1, 8):
            clipped = counts[:stop].copy()
            clipped[-1] += counts[stop:].sum()
            edges = np.linspace(0, stop, _LEVELS + 2).astype(np.int64)[:-1]
            sums = np.add.reduceat(counts[:stop], edges)
            filled = np.add.reduceat((clipped > 0).astype(np.float64), edges)
            spread = np.repeat(
                np.divide(sums, filled, out=np.zeros_like(sums), where=filled > 0), np.diff([*edges, stop])
            )
            quantised = np.where(clipped > 0, spread, 0.0)
            p, q = clipped / max(clipped.sum(), 1e-12), quantised / max(quantised.sum(), 1e-12)
            mask = p > 0
            divergence = float(np.sum(p[mask] * np.log(p[mask] / np.maximum(q[mask], 1e-12))))
            if divergence < best:
                best, chosen = divergence, stop
        return min(chosen * self.width, self.largest)


#: Tensor name to its histogram.
Recording = Mapping[str, Histogram]


def record(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    inputs: Sequence[Features],
    progress: Progress | None = None,
) -> Recording:
    """Histograms of the named tensors (graph inputs included) over real inputs, one input at a time.

    Raises
    ------
    DataError
        No inputs, or a tensor is not finite on one of them.
    """
    if not inputs:
        raise DataError("INT8 needs calibration data: give --data DIR")
    session = Session(model, [name for name in tensors if name not in {i.name for i in model.graph.input}])
    histograms = {name: Histogram() for name in tensors}
    for done, features in enumerate(inputs):
        values = session.run(features) | dict(zip(session.inputs, features, strict=True))
        for name, histogram in histograms.items():
            if not np.isfinite(values[name]).all():
                raise DataError(f"calibration input {done}: tensor {name} is not finite")
            histogram.add(values[name])
        if progress:
            progress("calibrating", done + 1, len(inputs))
    return histograms


def thresholds(recording: Recording, method: Method) -> dict[str, float]:
    """Tensor name to the absolute value that becomes 127."""
    return {name: histogram.threshold(method) for name, histogram in recording.items()}


def calibration_features(
    chosen: CalibrationSet, preprocessor: Preprocessor, progress: Progress | None = None
) -> tuple[Features, ...]:
    """The chosen items through the C++ pipeline."""
    return preprocessor.items(chosen.items, progress)
