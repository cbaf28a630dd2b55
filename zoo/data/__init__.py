# SPDX-License-Identifier: Apache-2.0
"""Data sets as lists of labelled raw inputs. One module a reader, with ``read(root, **options) -> Dataset``."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.recording import Recording

if TYPE_CHECKING:
    from zoo.card import Card, DataSpec


@dataclass(frozen=True)
class Excerpt:
    """Steps ``start`` to ``stop`` (not included) of a film that a model judges step by step: their features are cut out of
    those of the whole film, for some are scaled by its extremes.
    """

    path: Path
    start: int
    stop: int


#: A file of the raw input or a part of a film, the text itself, the pixels of an image: uint8 (h, w) or (h, w, 3), or the EEG itself.
Source = Path | Excerpt | str | NDArray[np.uint8] | Recording
#: The truth of an item: index of its class, one 0 or 1 for each label, or one number for each label.
Truth = int | tuple[int, ...] | tuple[float, ...]
#: That of a data set with several heads: by the head's name; a head may be missing.
Label = Truth | Mapping[str, Truth]


@dataclass(frozen=True)
class Item:
    """One raw input with its truth. ``group`` is what must not be split between training and test."""

    id: str
    source: Source
    label: Label
    group: str


@dataclass(frozen=True)
class Dataset:
    """Items in a fixed order, and the names that ``Item.label`` indexes (class) or goes along (labels, values).

    ``heads``: where each item has several truths, the labels of each; ``labels`` are then the heads' names.
    """

    name: str
    labels: tuple[str, ...]
    items: tuple[Item, ...]
    license: str
    notes: str = ""
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _fingerprints: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def only(self, groups: Collection[str]) -> Dataset:
        """The items of some groups."""
        return replace(self, items=tuple(item for item in self.items if item.group in groups))

    def fingerprint(self, ids: tuple[str, ...] | None = None) -> str:
        """SHA-256 over ids, labels and file contents, of all items or of those with the given ids."""
        wanted = None if ids is None else frozenset(ids)
        digest = hashlib.sha256()
        for item in sorted(self.items, key=lambda item: item.id):
            if wanted is None or item.id in wanted:
                digest.update(f"{item.id}\t{self.truth(item)}\t{self.source_sha256(item)}\n".encode())
        return digest.hexdigest()

    def head(self, name: str) -> Dataset:
        """The items that have a truth for the head ``name``, as a data set of that head alone."""
        items = tuple(
            replace(item, label=item.label[name])
            for item in self.items
            if isinstance(item.label, Mapping) and name in item.label
        )
        return Dataset(self.name, self.heads[name], items, self.license, self.notes)

    def under(self, head: str) -> Dataset:
        """The same items, their truth being that of one head: the opposite of :meth:`head`."""
        items = tuple(replace(item, label={head: item.label}) for item in self.items)  # type: ignore[dict-item]
        return replace(self, labels=(head,), items=items, heads={head: self.labels}, _fingerprints={})

    def truth(self, item: Item) -> str:
        """The truth of an item in words: its class, its labels, or its values; of several heads, each of them."""
        if isinstance(item.label, Mapping):
            return "; ".join(
                f"{head}: {_in_words(self.heads[head], item.label[head])}"
                for head in self.heads
                if head in item.label
            )
        return _in_words(self.labels, item.label)

    def source_sha256(self, item: Item) -> str:
        """SHA-256 of an item's file (read once; of a part of a film with its steps), text, shape and pixels, or EEG."""
        if isinstance(item.source, str):
            return hashlib.sha256(item.source.encode()).hexdigest()
        if isinstance(item.source, np.ndarray):
            return hashlib.sha256(f"{item.source.shape}".encode() + item.source.tobytes()).hexdigest()
        if isinstance(item.source, Recording):
            return item.source.sha256()
        if isinstance(item.source, Excerpt):
            return f"{self._file_sha256(item.source.path)} {item.source.start}:{item.source.stop}"
        return self._file_sha256(item.source)

    def _file_sha256(self, path: Path) -> str:
        name = str(path)
        if name not in self._fingerprints:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            self._fingerprints[name] = digest.hexdigest()
        return self._fingerprints[name]


def _in_words(labels: tuple[str, ...], truth: Truth) -> str:
    if isinstance(truth, int):
        return labels[truth]
    pairs = zip(labels, truth, strict=True)
    if all(isinstance(value, int) for value in truth):
        return "+".join(name for name, value in pairs if value)
    return " ".join(f"{name}={value!r}" for name, value in pairs)


def default_root() -> Path | None:
    """The folder named by ``ZOO_DATA``, or None."""
    root = os.environ.get("ZOO_DATA")
    return Path(root) if root else None


def open_dataset(card: Card, spec: DataSpec | None, root: Path | None) -> Dataset:
    """Read the data set of a variant.

    Raises
    ------
    DataError
        No reader is declared, no folder is given, or the folder's content is not what the reader expects.
    """
    if spec is None:
        raise DataError(
            f"model {card.file.model}: this variant declares no data set, so it cannot be scored or calibrated"
        )
    root = root or default_root()
    if root is None:
        raise DataError(f"reader {spec.reader} needs its data set: give --data DIR or set ZOO_DATA")
    if not root.exists():
        raise DataError(f"{root}: no such file or folder (reader {spec.reader})")
    module: Any
    if spec.reader == "local":
        module = card.module("data")
    else:
        try:
            module = importlib.import_module(f"zoo.data.{spec.reader}")
        except ModuleNotFoundError as error:
            raise DataError(f"model {card.file.model}: no data reader is called {spec.reader}") from error
    dataset: Dataset = module.read(root, **spec.options)
    return dataset
