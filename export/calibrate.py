# SPDX-License-Identifier: Apache-2.0
"""Activation ranges on real inputs: one pass, streamed histograms, every method from the same recording."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args

import numpy as np
import onnx

from zoo.bundle import Calibration
from zoo.data import Dataset, Item
from zoo.errors import DataError, InputError, TargetError
from zoo.export.histogram import PERCENTILE as PERCENTILE
from zoo.export.histogram import Histogram as Histogram
from zoo.export.histogram import Method as Method
from zoo.export.inputs import Features, Preprocessor, Progress, stratified
from zoo.export.recordings import RecordingFile, recording_file
from zoo.export.session import Session
from zoo.export.sources import MIN_ITEMS as MIN_ITEMS
from zoo.export.sources import check_enough

#: Enough for stable ranges; more only takes longer.
ITEMS = 256
#: A long recording is saved about this often, in seconds.
_SAVE_EVERY = 5.0


@dataclass(frozen=True)
class CalibrationSet:
    """The items that ranges are measured on."""

    dataset: Dataset
    items: tuple[Item, ...]

    def features(self, preprocessor: Preprocessor) -> Sequence[Features]:
        """The items through the C++ pipeline, each made when it is asked for."""
        return _Stream(self.items, preprocessor.item)

    def record(self, preprocessor: Preprocessor, method: Method, options: Sequence[str] = ()) -> Calibration:
        """What goes into the manifest; the hash covers items, their content, the pipeline with its files, the method and the
        options.
        """
        ids = tuple(item.id for item in self.items)
        digest = hashlib.sha256()
        for part in (
            method,
            str(PERCENTILE),
            self.dataset.fingerprint(ids),
            preprocessor.description,
            *options,
        ):
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
        Fewer than 128 items, in the data set or asked for.
    """
    if count < MIN_ITEMS:
        raise DataError(f"{count} calibration items are too few: INT8 needs {MIN_ITEMS}; ask for more")
    items = [item for item in dataset.items if item.group not in without]
    check_enough(dataset, len(items))
    return CalibrationSet(dataset, tuple(stratified(dataset, items, count)))


#: Tensor name to its histogram.
Recording = Mapping[str, Histogram]


def record(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    inputs: Sequence[Features],
    progress: Progress | None = None,
    *,
    names: Sequence[str] | None = None,
    kept: RecordingFile | None = None,
) -> Recording:
    """Histograms of the named tensors (graph inputs included) over real inputs, one input at a time.

    Parameters
    ----------
    names : sequence of str or None
        What errors call the inputs; None: their numbers.
    kept : RecordingFile or None
        Where the recording goes on from, and is saved. The result is the same, bit for bit, as without it.

    Raises
    ------
    DataError
        No inputs, or one of them cannot be processed, or a tensor is not finite on it.
    """
    if not inputs:
        raise DataError("INT8 needs calibration data: give --data DIR")
    start, histograms = (
        kept.load(tensors, len(inputs)) if kept else (0, {name: Histogram() for name in tensors})
    )
    if start == len(inputs):
        if progress:
            progress("calibrating", start, start)
        return histograms
    session = Session(model, [name for name in tensors if name not in {i.name for i in model.graph.input}])
    saved = time.monotonic()
    for done in range(start, len(inputs)):
        which = names[done] if names else done
        try:
            features = inputs[done]
        except InputError as error:
            raise DataError(
                f"calibration input {which}: {error}; repair that input or take it out"
            ) from error
        values = session.run(features) | dict(zip(session.inputs, features, strict=True))
        for name, histogram in histograms.items():
            if not np.isfinite(values[name]).all():
                raise DataError(
                    f"calibration input {which}: tensor {name} is not finite; repair that input or take it out"
                )
            histogram.add(values[name])
        if kept and (done + 1 == len(inputs) or time.monotonic() - saved >= _SAVE_EVERY):
            kept.save(histograms, done + 1)
            saved = time.monotonic()
        if progress:
            progress("calibrating", done + 1, len(inputs))
    return histograms


def thresholds(recording: Recording, method: Method, unsigned: Collection[str] = ()) -> dict[str, float]:
    """Tensor name to the absolute value that becomes 127, or 255 for those in ``unsigned``."""
    return {
        name: histogram.threshold(method, 255 if name in unsigned else 127)
        for name, histogram in recording.items()
    }


class _Stream(Sequence[Features]):
    """Features made when they are asked for, so that memory does not grow with the number of items."""

    def __init__(self, items: Sequence[Item], make: Callable[[Item], Features]) -> None:
        self._items, self._make = items, make

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Features:  # type: ignore[override]
        return self._make(self._items[index])


def record_items(
    model: onnx.ModelProto,
    graph_sha256: str,
    tensors: Sequence[str],
    chosen: CalibrationSet,
    preprocessor: Preprocessor,
    progress: Progress | None = None,
) -> Recording:
    """:func:`record` over data set items through the C++ pipeline, kept in the user's cache folder.

    Raises
    ------
    DataError
        An item's file is missing or unreadable, fewer than 128 differ, or a tensor is not finite on one of them.
    """
    ids = tuple(item.id for item in chosen.items)
    try:
        content = chosen.dataset.fingerprint(ids)
        distinct = len({chosen.dataset.source_sha256(item) for item in chosen.items})
    except OSError as error:
        raise DataError(f"calibration item {error.filename} cannot be read: {error.strerror}") from error
    if distinct < MIN_ITEMS:
        raise DataError(
            f"{chosen.dataset.name}: only {distinct} of {len(ids)} calibration items differ, INT8 needs {MIN_ITEMS}; "
            "give real, distinct items"
        )
    kept = recording_file(graph_sha256, content, ids, preprocessor.description)
    return record(model, tensors, chosen.features(preprocessor), progress, names=ids, kept=kept)
