# SPDX-License-Identifier: Apache-2.0
"""Real inputs for parity, calibration and scoring: raw input -> C++ pipeline -> engine arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.data import Dataset, Excerpt, Item, Source
from zoo.errors import DataError, ZooError
from zoo.runtime.modality import Features as Features
from zoo.runtime.modality import Front, golden_file, modality
from zoo.runtime.modality import Raw as Raw
from zoo.runtime.modality.audio import to_int16 as to_int16
from zoo.specs import curves

if TYPE_CHECKING:
    from zoo.card import Card, Variant

#: Called with (stage, done, total).
Progress = Callable[[str, int, int], None]

#: Bytes of features that a preprocessor remembers; what comes after is computed again when it is asked for.
_REMEMBERED = 256 << 20


@dataclass(frozen=True)
class InputSet:
    """Engine inputs and a sentence on where they come from."""

    features: tuple[Features, ...]
    source: str


class Preprocessor:
    """A variant's pipeline, for raw inputs and for data set items. Remembers the features of items, up to a limit.

    Attributes
    ----------
    description : str
        What decides the features of an input: the ops with their parameters, and the content (SHA-256) of the files that they
        name.
    """

    def __init__(self, card: Card, variant: Variant) -> None:
        self._front = front_of(card, variant)
        several = self._front.branches
        if len(card.file.engine_inputs) != len(several):
            raise ZooError(
                f"{variant.name}: the card has {len(card.file.engine_inputs)} engine inputs, pipeline and branches fill "
                f"{len(several)}"
            )
        files = self._front.files.items()
        contents = [f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in files]
        branches = [repr(branch) for branch in several[1:]]
        self.description = "\n".join([repr(variant.pipeline), *branches, *contents])
        self._known: dict[Hashable, Features] = {}
        self._left = _REMEMBERED
        self._film: tuple[Path, Features] | None = None

    def raw(self, raw: Raw) -> Features:
        """Features of a raw input; of several branches as many rows as the shortest has."""
        return self._front.raw(raw)

    def item(self, item: Item) -> Features:
        """Features of a data set item; computed once as long as they fit into the limit."""
        # Pixels have no hash; their items are told apart by their ids.
        known = item.source if isinstance(item.source, Hashable) else item.id
        if known in self._known:
            return self._known[known]
        features = self._features(item.source)
        size = sum(array.nbytes for array in features)
        if size <= self._left:
            self._left -= size
            self._known[known] = features
        return features

    def _features(self, source: Source) -> Features:
        if not isinstance(source, Excerpt):
            return self._front.features(source)[0]
        # Items of one film follow each other: the last one is kept.
        if self._film is None or self._film[0] != source.path:
            self._film = source.path, self._front.features(source.path)[0]
        whole = self._film[1]
        if len(whole[0]) < source.stop:
            raise DataError(
                f"{source.path} has {len(whole[0])} steps, the data set counts {source.stop}; its sound may be damaged"
            )
        return tuple(np.ascontiguousarray(array[source.start : source.stop]) for array in whole)

    def items(self, items: Sequence[Item], progress: Progress | None = None) -> tuple[Features, ...]:
        """Features of several items."""
        found = []
        for i, item in enumerate(items):
            found.append(self.item(item))
            if progress:
                progress("preprocessing", i + 1, len(items))
        return tuple(found)


def front_of(card: Card, variant: Variant) -> Front:
    """The way of a variant's inputs to its engine, as the bundle will have it."""
    return Front(
        variant.name,
        card.file.input,
        card.branches(variant),
        card.pipeline_files(variant),
        along=bool(curves(card.decode(variant))),
    )


def golden_inputs(card: Card) -> list[Raw]:
    """The card's golden inputs: audio files as int16, EEG files in the model's channels, text files (UTF-8) without the line
    end, image files as pixels, films (npz) as they are.

    Raises
    ------
    DataError
        A file is missing or unreadable.
    """
    spec = card.file.input
    return [golden_file(card.path(name), spec, card.file.model) for name in card.file.golden]


def derived_inputs(raws: Sequence[Raw], count: int) -> list[Raw]:
    """At least ``count`` distinct inputs made from a few, the same in every run: clips shifted, cut and scaled, texts
    with other words in front and fewer of them, images mirrored, cut and darkened, EEG begun later and scaled.

    The inputs themselves come first; then, in turn for each, one made from it.
    """
    made = list(raws)
    seen = {_digest(raw) for raw in made}
    step = 0
    while len(made) < count:
        for raw in raws:
            candidate = modality(raw.modality).altered(raw, step)
            if _digest(candidate) not in seen:
                seen.add(_digest(candidate))
                made.append(candidate)
        step += 1
        if step > 100 * count:
            raise DataError(
                "the golden inputs are too short to derive distinct inputs from; use clips of some seconds, longer texts, or "
                "larger images"
            )
    return made[:count]


def parity_inputs(card: Card, preprocessor: Preprocessor, dataset: Dataset | None, count: int) -> InputSet:
    """``count`` real inputs: from the data set where there is one, else derived from the golden inputs."""
    if dataset is not None and len(dataset.items) >= count:
        chosen = stratified(dataset, dataset.items, count)
        return InputSet(preprocessor.items(chosen), f"{count} items of {dataset.name}, stratified by label")
    golden = golden_inputs(card)
    derived = derived_inputs(golden, count)
    source = f"{len(golden)} golden inputs, altered to {count} distinct inputs"
    return InputSet(tuple(preprocessor.raw(raw) for raw in derived), source)


def stratified(dataset: Dataset, items: Sequence[Item], count: int) -> list[Item]:
    """``count`` items (or all, if fewer) with the label shares of ``items``, chosen by the hash of their ids.

    An item with several labels counts for the rarest of them; values fall into fifths of their number. Every label that occurs gets at least one item where ``count`` allows. Order: as in ``items``.
    """
    if count >= len(items):
        return list(items)
    by_label: dict[int, list[Item]] = {}
    for item, stratum in zip(items, _strata(items), strict=True):
        by_label.setdefault(stratum, []).append(item)
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


def _strata(items: Sequence[Item]) -> list[int]:
    """A small whole number for each item, equal where they should be spread alike."""
    if any(isinstance(item.label, Mapping) for item in items):
        return _strata_of_heads(items)
    labels = [item.label for item in items]
    if all(isinstance(label, int) for label in labels):
        return [label for label in labels if isinstance(label, int)]
    table = np.array(labels)
    if table.dtype.kind == "i":
        rarity = np.where(table > 0, table.sum(axis=0), len(table) + 1)
        return [
            int(row.argmin()) if given else -1
            for row, given in zip(rarity, table.sum(axis=1).tolist(), strict=True)
        ]
    ranks = np.argsort(np.argsort(table[:, 0], kind="stable"), kind="stable")
    return [int(rank) for rank in ranks * 5 // len(items)]


def _strata_of_heads(items: Sequence[Item]) -> list[int]:
    """Those of the first head that an item has a truth for, apart from the other heads' strata."""
    by_head: dict[str, list[tuple[int, Item]]] = {}
    for place, item in enumerate(items):
        assert isinstance(item.label, Mapping)
        first = next(iter(sorted(item.label)), "")
        own = replace(item, label=item.label[first]) if first else replace(item, label=0)
        by_head.setdefault(first, []).append((place, own))
    strata = [0] * len(items)
    base = 0
    for head in sorted(by_head):
        found = _strata([item for _, item in by_head[head]])
        least = min(found)
        for (place, _), stratum in zip(by_head[head], found, strict=True):
            strata[place] = base + stratum - least
        base += max(found) - least + 1
    return strata


def _digest(raw: Raw) -> bytes:
    return hashlib.sha256(raw.samples.tobytes()).digest()
