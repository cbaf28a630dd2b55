# SPDX-License-Identifier: Apache-2.0
"""Real inputs for parity, calibration and scoring: raw input -> C++ pipeline -> engine arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.data import Dataset, Item
from zoo.errors import DataError, ZooError
from zoo.pipeline import Pipeline

if TYPE_CHECKING:
    from zoo.card import Card, Variant

#: What the engine takes for one raw input: one array for each engine input, without the batch dimension.
Features = tuple[NDArray[Any], ...]
#: Called with (stage, done, total).
Progress = Callable[[str, int, int], None]

#: Bytes of features that a preprocessor remembers; what comes after is computed again when it is asked for.
_REMEMBERED = 256 << 20


@dataclass(frozen=True)
class RawClip:
    """One audio input: int16 samples, shape (n,) or (n, channels), and their rate in Hz."""

    samples: NDArray[np.int16]
    rate: int


@dataclass(frozen=True)
class InputSet:
    """Engine inputs and a sentence on where they come from."""

    features: tuple[Features, ...]
    source: str


class Preprocessor:
    """A variant's pipeline, for raw clips and for data set items. Remembers the features of items, up to a limit."""

    def __init__(self, card: Card, variant: Variant) -> None:
        if len(card.file.engine_inputs) != 1:
            raise ZooError(
                f"{variant.name}: pipelines give one array, the card has {len(card.file.engine_inputs)} engine inputs"
            )
        self._pipeline = Pipeline(variant.pipeline)
        self._known: dict[Path, Features] = {}
        self._left = _REMEMBERED

    def clip(self, clip: RawClip) -> Features:
        """Features of raw samples."""
        return (self._pipeline.run(clip.samples, clip.rate),)

    def item(self, item: Item) -> Features:
        """Features of a data set item; computed once as long as they fit into the limit."""
        if item.source in self._known:
            return self._known[item.source]
        features: Features = (self._pipeline.run_file(item.source)[0],)
        size = sum(array.nbytes for array in features)
        if size <= self._left:
            self._left -= size
            self._known[item.source] = features
        return features

    def items(self, items: Sequence[Item], progress: Progress | None = None) -> tuple[Features, ...]:
        """Features of several items."""
        found = []
        for i, item in enumerate(items):
            found.append(self.item(item))
            if progress:
                progress("preprocessing", i + 1, len(items))
        return tuple(found)


def golden_clips(card: Card) -> list[RawClip]:
    """The card's golden inputs, as int16.

    Raises
    ------
    DataError
        A file is missing or unreadable.
    ZooError
        The card's modality has no golden reader yet.
    """
    if card.file.input.modality != "audio":
        raise ZooError(
            f"model {card.file.model}: golden inputs of modality {card.file.input.modality} cannot be read yet"
        )
    from zoo import ops

    clips = []
    for name in card.file.golden:
        samples, rate = ops.read_audio(card.path(name))
        clips.append(RawClip(to_int16(samples), int(rate)))
    return clips


def to_int16(samples: NDArray[Any]) -> NDArray[np.int16]:
    """Samples in [-1, 1] or int16 as int16; exact for what was decoded from 16 bits."""
    array = np.asarray(samples)
    if array.dtype == np.int16:
        return array
    return np.clip(np.rint(array.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)


def derived_clips(clips: Sequence[RawClip], count: int) -> list[RawClip]:
    """At least ``count`` distinct inputs made from a few: shifted, cut and scaled, the same in every run.

    The clips themselves come first; then, in turn for each clip, another start, length and level.
    """
    made = list(clips)
    seen = {_digest(clip) for clip in made}
    step = 0
    while len(made) < count:
        for clip in clips:
            n = len(clip.samples)
            start = (step * 7919) % max(1, n // 2)
            length = max(1, n - start - (step * 104729) % max(1, n // 3))
            level = 10 ** (-(step % 7) * 3 / 20)
            part = clip.samples[start : start + length].astype(np.float64) * level
            candidate = RawClip(np.rint(part).astype(np.int16), clip.rate)
            if _digest(candidate) not in seen:
                seen.add(_digest(candidate))
                made.append(candidate)
        step += 1
        if step > 100 * count:
            raise DataError(
                "the golden clips are too short to derive distinct inputs from; use clips of some seconds"
            )
    return made[:count]


def parity_inputs(card: Card, preprocessor: Preprocessor, dataset: Dataset | None, count: int) -> InputSet:
    """``count`` real inputs: from the data set where there is one, else derived from the golden clips."""
    if dataset is not None and len(dataset.items) >= count:
        chosen = stratified(dataset, dataset.items, count)
        return InputSet(preprocessor.items(chosen), f"{count} items of {dataset.name}, stratified by label")
    clips = golden_clips(card)
    derived = derived_clips(clips, count)
    source = f"{len(clips)} golden clips, cut, shifted and scaled to {count} distinct inputs"
    return InputSet(tuple(preprocessor.clip(clip) for clip in derived), source)


def stratified(dataset: Dataset, items: Sequence[Item], count: int) -> list[Item]:
    """``count`` items (or all, if fewer) with the label shares of ``items``, chosen by the hash of their ids.

    Every label that occurs gets at least one item where ``count`` allows. Order: as in ``items``.
    """
    if count >= len(items):
        return list(items)
    by_label: dict[int, list[Item]] = {}
    for item in items:
        by_label.setdefault(item.label, []).append(item)
    exact = {label: count * len(members) / len(items) for label, members in by_label.items()}
    share = {label: min(len(by_label[label]), max(1, int(value))) for label, value in exact.items()}
    # Largest remainders first; ties by label, so that the choice is the same everywhere.
    order = sorted(by_label, key=lambda label: (-(exact[label] - int(exact[label])), label))
    while sum(share.values()) != count:
        grow = sum(share.values()) < count
        for label in order if grow else sorted(by_label, key=lambda label: (-share[label], label)):
            if grow and share[label] < len(by_label[label]):
                share[label] += 1
            elif not grow and share[label] > 0:
                share[label] -= 1
            if sum(share.values()) == count:
                break
    chosen: set[str] = set()
    for label, members in by_label.items():
        ranked = sorted(members, key=lambda item: hashlib.sha256(item.id.encode()).hexdigest())
        chosen.update(item.id for item in ranked[: share[label]])
    return [item for item in items if item.id in chosen]


def _digest(clip: RawClip) -> bytes:
    return hashlib.sha256(clip.samples.tobytes()).digest()
