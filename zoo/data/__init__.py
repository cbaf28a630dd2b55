# SPDX-License-Identifier: Apache-2.0
"""Data sets as lists of labelled raw inputs. One module a reader, with ``read(root, **options) -> Dataset``."""

from __future__ import annotations

import hashlib
import importlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError

if TYPE_CHECKING:
    from zoo.card import Card, DataSpec


@dataclass(frozen=True)
class Item:
    """One raw input with its truth. ``group`` is what must not be split between training and test."""

    id: str
    source: Path
    label: int
    group: str


@dataclass(frozen=True)
class Dataset:
    """Items in a fixed order, and the label names that ``Item.label`` indexes."""

    name: str
    labels: tuple[str, ...]
    items: tuple[Item, ...]
    license: str
    notes: str = ""
    _fingerprints: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def fingerprint(self, ids: tuple[str, ...] | None = None) -> str:
        """SHA-256 over ids, labels and file contents, of all items or of those with the given ids."""
        wanted = None if ids is None else frozenset(ids)
        digest = hashlib.sha256()
        for item in sorted(self.items, key=lambda item: item.id):
            if wanted is None or item.id in wanted:
                digest.update(f"{item.id}\t{self.labels[item.label]}\t{self.file_sha256(item)}\n".encode())
        return digest.hexdigest()

    def file_sha256(self, item: Item) -> str:
        """SHA-256 of an item's file; read once."""
        if item.id not in self._fingerprints:
            self._fingerprints[item.id] = hashlib.sha256(item.source.read_bytes()).hexdigest()
        return self._fingerprints[item.id]


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
