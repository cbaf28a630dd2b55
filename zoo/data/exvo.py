# SPDX-License-Identifier: Apache-2.0
"""HUME-VB as given out for ExVo 2022 (Baird et al. 2022): vocal bursts with emotion intensities, country and age.

Layout read here::

    data_info.csv    File_ID,Split,Subject_ID,Country,Age,Awe,...,Surprise   (in any order; others are left alone)
    wav/<id>.wav     File_ID is <id> in square brackets: [58712] is wav/58712.wav

``Split`` is Train, Val or Test. Intensities are 0 to 1, ages in years, countries by name, or by number in the order of
the alphabet, as predictions were handed in. The truth of the test clips was never given out: theirs may be empty, and a
clip whose subject is not said is a group of its own.

The data are given out under an agreement and cannot be passed on. Facts: fact sheet 7, sections 3 and 7, and the
organisers' and the authors' public descriptions; the order of the countries is another team's. Not tried on the real
files.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from zoo.data import Dataset, Item, Truth
from zoo.errors import DataError

Split = Literal["Train", "Val", "Test"]

EMOTIONS = (
    "Awe", "Excitement", "Amusement", "Awkwardness", "Fear", "Horror", "Distress", "Triumph", "Sadness", "Surprise",
)  # fmt: skip
COUNTRIES = ("China", "South Africa", "United States", "Venezuela")
HEADS: Mapping[str, tuple[str, ...]] = {"emotion": EMOTIONS, "country": COUNTRIES, "age": ("age",)}
SPLITS = ("Train", "Val", "Test")
TABLE = "data_info.csv"
COLUMNS = ("File_ID", "Split", "Subject_ID", "Country", "Age", *EMOTIONS)
_OLDEST = 120.0


def read(root: Path, *, split: Split | None = None) -> Dataset:
    """Read one of the official parts, or all three.

    Parameters
    ----------
    root : Path
        The folder with ``data_info.csv``, or a folder that holds it as ``exvo``.
    split : {"Train", "Val", "Test"} or None
        Which part; None: all.

    Returns
    -------
    Dataset
        Heads emotion (ten values), country (a class) and age (one value); items in the order of the table, ``group`` is
        the subject. Of a test clip, the heads that the table says.

    Raises
    ------
    DataError
        A file or column is missing, a row's value is not what the column holds, or a file or clip occurs twice; or the
        part has no clip.
    """
    if split is not None and split not in SPLITS:
        raise DataError(f"exvo: there is no split {split!r}; choose one of {', '.join(SPLITS)}")
    folder = next((path for path in (root, root / "exvo") if (path / TABLE).is_file()), None)
    if folder is None:
        raise DataError(f"exvo: no {TABLE} in {root} or {root / 'exvo'}; give the folder that holds it")
    table = folder / TABLE
    items: list[Item] = []
    missing: list[str] = []
    seen: set[str] = set()
    for line, row in _rows(table):
        name = row["File_ID"].removeprefix("[").removesuffix("]")
        part = row["Split"]
        if not name or Path(name).name != name:
            raise DataError(f"exvo: {table}, line {line}: File_ID is {row['File_ID']!r}, not an id in [ ]")
        if name in seen:
            raise DataError(f"exvo: {table}, line {line}: File_ID {name} occurs twice")
        seen.add(name)
        if part not in SPLITS:
            raise DataError(f"exvo: {table}, line {line}: Split is {part!r}; splits are {', '.join(SPLITS)}")
        label = _truth(row, f"{table}, line {line}", withheld=part == "Test")
        if split is not None and part != split:
            continue
        if not row["Subject_ID"] and part != "Test":
            raise DataError(f"exvo: {table}, line {line}: Subject_ID is empty; only those of Test may be")
        path = folder / "wav" / f"{name}.wav"
        if not path.is_file():
            missing.append(path.name)
        # a group of its own: no subject is called like that
        items.append(Item(id=name, source=path, label=label, group=row["Subject_ID"] or f"[{name}]"))
    if missing:
        raise DataError(
            f"exvo: {len(missing)} clips of {TABLE} are missing in {folder / 'wav'}, the first is {missing[0]}"
        )
    if not items:
        raise DataError(f"exvo: {table} lists no clip{f' of split {split}' if split else ''}")
    return Dataset(
        name="exvo" if split is None else f"exvo/{split}",
        labels=tuple(HEADS),
        items=tuple(items),
        license="restricted: data agreement with the owner",
        notes="vocal bursts, emotion intensities rated by others",
        heads=HEADS,
    )


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and wanted columns of each row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            given = list(reader.fieldnames or ())
            absent = [column for column in COLUMNS if column not in given]
            if absent or len(set(given)) != len(given):
                raise DataError(
                    f"exvo: {path} has columns {', '.join(given)}; "
                    f"{'missing: ' + ', '.join(absent) if absent else 'one occurs twice'}"
                )
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"exvo: {path}, line {reader.line_num}: the number of columns is not the header's"
                    )
                rows.append((reader.line_num, {column: row[column].strip() for column in COLUMNS}))
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"exvo: cannot read {path}: {error}") from error


def _truth(row: Mapping[str, str], where: str, *, withheld: bool) -> dict[str, Truth]:
    """The heads of a row; one that is wholly empty is left out where it may be."""
    label: dict[str, Truth] = {}
    if not withheld or any(row[name] for name in EMOTIONS):
        label["emotion"] = tuple(_number(row, name, 1.0, where) for name in EMOTIONS)
    country = row["Country"]
    if not withheld or country:
        codes = {name: i for i, name in enumerate(COUNTRIES)} | {str(i): i for i in range(len(COUNTRIES))}
        if country not in codes:
            raise DataError(
                f"exvo: {where}: Country is {country!r}; countries are {', '.join(COUNTRIES)}, or 0 to 3"
            )
        label["country"] = codes[country]
    if not withheld or row["Age"]:
        label["age"] = (_number(row, "Age", _OLDEST, where),)
    return label


def _number(row: Mapping[str, str], column: str, top: float, where: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not 0 <= value <= top:  # false for NaN
        raise DataError(f"exvo: {where}: {column} is {row[column]!r}, not a number from 0 to {top:g}")
    return value
