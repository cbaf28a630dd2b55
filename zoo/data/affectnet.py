# SPDX-License-Identifier: Apache-2.0
"""AffectNet (Mollahosseini et al. 2017): faces with eight expressions, valence and arousal, as two of its releases lay it out.

``AffectNet8``, the release of annotated faces as files::

    train_set/images/0.jpg ..        also val_set
    train_set/annotations/0_exp.npy  class, as text or a number; 0_val.npy and 0_aro.npy: valence and arousal, -1 to 1

The first release, with a list::

    Manually_Annotated_Images/.../name.jpg
    training.csv, validation.csv     subDirectory_filePath, face_x, face_y, face_width, face_height, facial_landmarks,
                                     expression, valence, arousal

The data are under a research agreement and not at hand here: the layouts are general knowledge, tested on files that the tests
write.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data import Dataset, Item
from zoo.errors import DataError

#: By number. 8 to 10 of the list are none, uncertain and no face; they are left out.
LABELS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
_NUMBERS = 11
_FOLDERS = {"train": "train_set", "valid": "val_set"}
_LISTS = {"train": "training.csv", "valid": "validation.csv"}
_COLUMNS = ("subDirectory_filePath", "expression", "valence", "arousal")


def read(
    root: Path, *, splits: Sequence[str] = ("train", "valid"), classes: int = 8, heads: bool = False
) -> Dataset:
    """The faces of AffectNet that have one of the expressions.

    Parameters
    ----------
    root : Path
        A folder as above, of either layout.
    splits : sequence of {"train", "valid"}
    classes : {7, 8}
        7: contempt is left out.
    heads : bool
        Give two truths: ``expression``, and ``affect`` with valence and arousal, where they are known (not -2).

    Returns
    -------
    Dataset
        ``group`` is the split, ``source`` the image's file.

    Raises
    ------
    DataError
        A file is missing or not laid out so, or an option has another value.
    """
    unknown = [split for split in splits if split not in _FOLDERS]
    if unknown or classes not in (7, 8):
        raise DataError(
            f"affectnet: splits are {', '.join(_FOLDERS)} and classes 7 or 8; got {', '.join(splits)}, {classes}"
        )
    labels = LABELS[:classes]
    items: list[Item] = []
    for split in splits:
        folder, table = root / _FOLDERS[split], root / _LISTS[split]
        if (folder / "annotations").is_dir():
            rows = _from_files(folder)
        elif table.is_file():
            rows = _from_list(root, table)
        else:
            raise DataError(
                f"affectnet: neither {folder}/annotations nor {table}; give the folder that holds one"
            )
        for name, source, number, valence, arousal in rows:
            if number >= classes:
                continue
            truth: dict[str, Any] = {"expression": number}
            if abs(valence) <= 1 and abs(arousal) <= 1:
                truth["affect"] = (valence, arousal)
            items.append(Item(f"{split}/{name}", source, truth if heads else number, split))
    if not items:
        raise DataError(f"affectnet: no face of {root} has one of the {classes} expressions")
    return Dataset(
        name=f"affectnet/{'+'.join(splits)}",
        labels=("expression", "affect") if heads else labels,
        items=tuple(items),
        license="restricted: research agreement",
        heads={"expression": labels, "affect": ("valence", "arousal")} if heads else {},
    )


_Row = tuple[str, Path, int, float, float]


def _from_files(folder: Path) -> Iterator[_Row]:
    for path in sorted((folder / "annotations").glob("*_exp.npy")):
        stem = path.name.removesuffix("_exp.npy")
        source = folder / "images" / f"{stem}.jpg"
        if not source.is_file():
            raise DataError(f"affectnet: {path} is there, {source} is not")
        values = [_value(path.with_name(f"{stem}_{kind}.npy")) for kind in ("exp", "val", "aro")]
        yield stem, source, _number(values[0], path), values[1], values[2]


def _value(path: Path) -> float:
    try:
        return float(np.load(path, allow_pickle=False).item())
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"affectnet: {path}: not one number in a .npy file: {error}") from error


def _from_list(root: Path, table: Path) -> Iterator[_Row]:
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"affectnet: {table}: no column {', '.join(missing)}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"affectnet: {table}: not a readable list: {error}") from error
    for line, row in enumerate(rows, 2):
        name = row["subDirectory_filePath"]
        try:
            number, valence, arousal = (float(row[column]) for column in _COLUMNS[1:])
        except (TypeError, ValueError) as error:
            raise DataError(f"affectnet: {table}, line {line}: {error}") from error
        source = root / "Manually_Annotated_Images" / name
        if not source.is_file():
            raise DataError(f"affectnet: {table}, line {line}: {source} is not there")
        yield name, source, _number(number, table), valence, arousal


def _number(value: float, where: Path) -> int:
    if value != int(value) or not 0 <= value < _NUMBERS:
        raise DataError(f"affectnet: {where}: expression {value} is no whole number from 0 to {_NUMBERS - 1}")
    return int(value)
