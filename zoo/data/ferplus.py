# SPDX-License-Identifier: Apache-2.0
"""FERPlus: FER2013's faces with the votes of ten people each (Barsoum et al. 2016).

Layout read here::

    ferplus_train/sheet_00.png ..   faces side by side: 25 rows x 40 columns of 48 x 48 grey pixels a sheet, row by row
    ferplus_train/votes.npz         votes, fer_index, columns
    ferplus_valid.npz               images, votes, fer_index, columns

A single ``.npz`` laid out as the last one may be given instead, for a split that is not distributed with the others.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data import Dataset, Item
from zoo.errors import DataError, InputError
from zoo.ops import read_image

LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
COLUMNS = (*LABELS, "unknown", "NF")
SIDE = 48
SHEET_ROWS, SHEET_COLUMNS = 25, 40


@dataclass(frozen=True)
class Faces:
    """One split: ``images`` uint8 (n, 48, 48), ``votes`` uint8 (n, 10) in the order of ``COLUMNS``, ``index`` int (n,)."""

    images: NDArray[np.uint8]
    votes: NDArray[np.uint8]
    index: NDArray[np.int64]


def majority(votes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The class that more than half of the votes of each face agree on, or -1.

    Parameters
    ----------
    votes : uint8, shape (n, 10)
        In the order of ``COLUMNS``.

    Returns
    -------
    int64, shape (n,)
        Index into ``LABELS``; -1 where there is no majority, or it says unknown or not a face.

    Notes
    -----
    Source: fact sheet 09, "Student": classes with a single vote count as none before.
    """
    counted = np.where(votes <= 1, 0, votes).astype(np.int64)
    found = counted.argmax(axis=1)
    clear = (2 * counted.max(axis=1) > counted.sum(axis=1)) & (found < len(LABELS))
    return np.where(clear, found, -1).astype(np.int64)


def soft_targets(votes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shares of the votes that name one of the 8 classes, float32 (n, 8); a row of zeros where none does.

    Single votes count as none, as in :func:`majority`, unless nothing else is left.
    """
    named = votes[:, : len(LABELS)].astype(np.float32)
    agreed = np.where(named <= 1, 0, named)
    kept = np.where(agreed.sum(axis=1, keepdims=True) > 0, agreed, named)
    return np.asarray(kept / np.maximum(kept.sum(axis=1, keepdims=True), 1), np.float32)


def read(root: Path, *, splits: Sequence[str] = ("train", "valid")) -> Dataset:
    """The faces that have a majority.

    Parameters
    ----------
    root : Path
        A folder as above, one that holds it as ``faces``, or one ``.npz``.
    splits : sequence of {"train", "valid"}
        What to read of a folder.

    Returns
    -------
    Dataset
        ``group`` is the split; of a single file its name, less ``ferplus_`` and ``.npz``. ``source`` is the image.

    Raises
    ------
    DataError
        A file is missing or not laid out so.
    """
    parts = (
        {root.stem.removeprefix("ferplus_"): _npz(root)}
        if root.is_file()
        else {split: faces(root, split) for split in splits}
    )
    items = []
    for split, part in parts.items():
        labels = majority(part.votes)
        items += [
            Item(id=f"{split}/{part.index[i]}", source=part.images[i], label=int(labels[i]), group=split)
            for i in np.flatnonzero(labels >= 0)
        ]
    if not items:
        raise DataError(f"ferplus: no face of {root} has a majority")
    return Dataset(
        name=f"ferplus/{'+'.join(parts)}",
        labels=LABELS,
        items=tuple(items),
        license="MIT (votes); restricted: research use (FER2013's images)",
        notes="majority of ten votes, single votes left out",
    )


def faces(root: Path, split: str) -> Faces:
    """All faces of a split, those without a majority too.

    Raises
    ------
    DataError
        As :func:`read`, or there is no such split.
    """
    folder = next(
        (path for path in (root, root / "faces") if (path / "ferplus_train" / "votes.npz").is_file()), None
    )
    if folder is None:
        raise DataError(
            f"ferplus: no ferplus_train/votes.npz in {root} or {root / 'faces'}; give the folder that holds it"
        )
    if split == "valid":
        return _npz(folder / "ferplus_valid.npz")
    if split != "train":
        raise DataError(f"ferplus: there is no split {split!r}; choose train or valid, or give a .npz file")
    arrays = _arrays(folder / "ferplus_train" / "votes.npz", ("votes", "fer_index", "columns"))
    votes, index = _votes(folder / "ferplus_train" / "votes.npz", arrays)
    size = SHEET_ROWS * SHEET_COLUMNS
    images = np.empty((-(-len(votes) // size) * size, SIDE, SIDE), np.uint8)
    for sheet in range(len(images) // size):
        images[sheet * size : (sheet + 1) * size] = _sheet(
            folder / "ferplus_train" / f"sheet_{sheet:02d}.png"
        )
    return Faces(images[: len(votes)], votes, index)


def _sheet(path: Path) -> NDArray[np.uint8]:
    try:
        image = read_image(path)
    except InputError as error:
        raise DataError(f"ferplus: {error}") from error
    shape = (SHEET_ROWS * SIDE, SHEET_COLUMNS * SIDE)
    if image.shape != shape:
        raise DataError(f"ferplus: {path} is an image of shape {image.shape}; expected grey, {shape}")
    tiles = image.reshape(SHEET_ROWS, SIDE, SHEET_COLUMNS, SIDE).transpose(0, 2, 1, 3)
    return tiles.reshape(-1, SIDE, SIDE)


def _npz(path: Path) -> Faces:
    arrays = _arrays(path, ("images", "votes", "fer_index", "columns"))
    votes, index = _votes(path, arrays)
    images = arrays["images"]
    if images.dtype != np.uint8 or images.shape != (len(votes), SIDE, SIDE):
        raise DataError(
            f"ferplus: {path}: images are {images.dtype} {images.shape}; expected uint8 {(len(votes), SIDE, SIDE)}"
        )
    return Faces(images, votes, index)


def _votes(path: Path, arrays: dict[str, NDArray[Any]]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    votes, index = arrays["votes"], arrays["fer_index"]
    if tuple(arrays["columns"].tolist()) != COLUMNS:
        raise DataError(
            f"ferplus: {path}: columns are {arrays['columns'].tolist()}; expected {', '.join(COLUMNS)}"
        )
    if votes.dtype != np.uint8 or votes.ndim != 2 or votes.shape[1] != len(COLUMNS) or not len(votes):
        raise DataError(f"ferplus: {path}: votes are {votes.dtype} {votes.shape}; expected uint8 (n, 10)")
    if index.shape != (len(votes),) or index.dtype.kind not in "iu" or len(set(index.tolist())) != len(index):
        raise DataError(f"ferplus: {path}: fer_index must hold {len(votes)} different whole numbers")
    return votes, index.astype(np.int64)


def _arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive.files]
            if missing:
                raise DataError(f"ferplus: {path} holds no array {', '.join(missing)}")
            return {name: archive[name] for name in names}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"ferplus: cannot read {path}: {error}") from error
