# SPDX-License-Identifier: Apache-2.0
"""Films with arousal and valence over time: COGNIMUSE (extended) and LIRIS-ACCEDE as MediaEval gave it out.

Layouts read here, anywhere below the folder::

    intended3_<film>.csv                      frame name, valence, arousal; a row a frame, 25 a second (fact sheet 5)
    MEDIAEVAL<year>_<nn>_Valence-Arousal.txt  a header line; the last three columns are seconds, valence, arousal

and beside them, or anywhere below the folder, a film or its sound: ``<film>.<any of EXTENSIONS>``. The first layout is that of the
source's own script, the second that of published programs that read it: neither data set was at hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError

HEADS = ("arousal", "valence")
EXTENSIONS = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".wav", ".flac")
#: Frames a second of COGNIMUSE.
RATE = 25
_COGNIMUSE = re.compile(r"intended3_(?P<film>[A-Za-z0-9-]+)\.csv")
_LIRIS = re.compile(r"(?P<film>MEDIAEVAL\d\d_\d\d)_Valence-Arousal\.txt")


@dataclass(frozen=True)
class Annotated:
    """One film. ``seconds`` are float64 (n,), growing from 0 or later; ``values`` float64 (n,) in [-1, 1] by head."""

    name: str
    path: Path
    seconds: NDArray[np.float64]
    values: dict[str, NDArray[np.float64]]

    def at(self, seconds: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Values at other moments, straight between two annotations; before the first and after the last these go on."""
        return {head: np.interp(seconds, self.seconds, values) for head, values in self.values.items()}


def read_films(root: Path) -> tuple[Annotated, ...]:
    """All annotated films below ``root``, by name.

    Raises
    ------
    DataError
        There are no annotations, one has no film or two, is not of its layout (the line is named), or holds values outside
        [-1, 1].
    """
    files = sorted(path for path in root.rglob("*") if path.is_file())
    found: dict[str, Path] = {}
    for path in files:
        match = _COGNIMUSE.fullmatch(path.name) or _LIRIS.fullmatch(path.name)
        if match is None:
            continue
        name = match["film"]
        if name in found:
            raise DataError(f"films: {found[name]} and {path} are both of {name}; leave one")
        found[name] = path
    if not found:
        raise DataError(
            f"films: no intended3_<film>.csv (COGNIMUSE) and no MEDIAEVALyy_nn_Valence-Arousal.txt (LIRIS-ACCEDE) below {root}"
        )
    films = []
    for name, annotation in sorted(found.items()):
        media = [path for path in files if path.stem == name and path.suffix.lower() in EXTENSIONS]
        if len(media) != 1:
            what = "no film of it" if not media else f"{len(media)} films of it, {media[0]} and {media[1]}"
            raise DataError(
                f"films: {annotation} has {what} below {root}; put one there as {name} with one of {', '.join(EXTENSIONS)}"
            )
        table = _cognimuse(annotation) if annotation.suffix == ".csv" else _liris(annotation)
        seconds, valence, arousal = table.T
        films.append(Annotated(name, media[0], seconds, {"arousal": arousal, "valence": valence}))
    return tuple(films)


def _cognimuse(path: Path) -> NDArray[np.float64]:
    """Rows of seconds, valence, arousal."""
    rows: list[list[float]] = []
    for line, text in _lines(path):
        cells = [cell.strip() for cell in text.split(",")]
        if line == 1 and len(cells) == 3 and not _number(cells[1]):
            continue  # a header
        if len(cells) != 3 or not cells[0]:
            raise DataError(f"films: {path}, line {line}: {text!r}; expected frame name, valence, arousal")
        rows.append([len(rows) / RATE, *_values(path, line, cells[1:])])
    return _checked(path, rows)


def _liris(path: Path) -> NDArray[np.float64]:
    """Rows of seconds, valence, arousal."""
    rows = []
    for line, text in _lines(path):
        if line == 1:
            continue  # the header
        cells = text.split()
        if len(cells) < 3 or not _number(cells[-3]):
            raise DataError(f"films: {path}, line {line}: {text!r}; expected seconds, valence, arousal")
        rows.append([float(cells[-3]), *_values(path, line, cells[-2:])])
    return _checked(path, rows)


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"films: cannot read {path}: {error}") from error
    return [(i, line) for i, line in enumerate(lines, start=1) if line.strip()]


def _values(path: Path, line: int, cells: list[str]) -> list[float]:
    if not all(_number(cell) and -1 <= float(cell) <= 1 for cell in cells):
        raise DataError(
            f"films: {path}, line {line}: valence {cells[0]}, arousal {cells[1]}; both must lie in -1 to 1"
        )
    return [float(cell) for cell in cells]


def _number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _checked(path: Path, rows: list[list[float]]) -> NDArray[np.float64]:
    table = np.array(rows, np.float64).reshape(-1, 3)
    if len(table) < 2 or not (np.diff(table[:, 0]) > 0).all() or table[0, 0] < 0:
        raise DataError(
            f"films: {path} has {len(table)} rows; at least two are needed, their seconds growing from 0"
        )
    return table
