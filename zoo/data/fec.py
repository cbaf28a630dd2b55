# SPDX-License-Identifier: Apache-2.0
"""Google's Facial Expression Comparison list (Vemulapalli and Agarwala 2019): triplets of faces, judged by people.

One row a triplet, no header: for each of three faces its image's address and box (``x_left, x_right, y_top, y_bottom``, shares of the
image), then the triplet's type (``ONE_CLASS_TRIPLET``, ``TWO_CLASS_TRIPLET``, ``THREE_CLASS_TRIPLET``), then six pairs of an
annotator and an answer: which of the three, 1 to 3, is the odd one out. The images are not part of the list; many are gone.

The list was not at hand: its layout is the one of fact sheet 08, tested on files that the tests write.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import DataError

TYPES = ("ONE_CLASS_TRIPLET", "TWO_CLASS_TRIPLET", "THREE_CLASS_TRIPLET")
_FACE_COLUMNS, _FACES = 5, 3
_TYPE = _FACE_COLUMNS * _FACES
#: Columns of the answers; the annotators stand before each.
_ANSWERS = tuple(range(_TYPE + 2, _TYPE + 13, 2))


@dataclass(frozen=True)
class FaceBox:
    """A face: its image's address, and the box in shares of the image's width and height."""

    url: str
    left: float
    right: float
    top: float
    bottom: float

    def pixels(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in an image of that size, as :func:`zoo.ops.square_crop` takes them."""
        return self.left * width, self.top * height, self.right * width, self.bottom * height


@dataclass(frozen=True)
class Triplet:
    """Two faces that look alike and the odd one.

    Attributes
    ----------
    alike, odd
        The faces, in the list's order.
    classes : int
        How many expression classes the three were drawn from, 1 to 3.
    answers : tuple of int
        What each annotator called the odd one, 1 to 3.
    """

    alike: tuple[FaceBox, FaceBox]
    odd: FaceBox
    classes: int
    answers: tuple[int, ...]

    @property
    def agreement(self) -> float:
        """Share of the annotators who named ``odd``."""
        most: int = max(Counter(self.answers).values())
        return most / len(self.answers)


def read(path: Path, *, least: float = 0.0) -> list[Triplet]:
    """Read a list.

    Parameters
    ----------
    path : Path
        The csv file.
    least : float
        Triplets with less agreement are left out (2/3 keeps those with a strong majority).

    Returns
    -------
    list of Triplet
        Those whose annotators do not tie; the odd face is the one that most of them named.

    Raises
    ------
    DataError
        The file cannot be read, or a row is not laid out so.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"fec: {path}: not a readable list: {error}") from error
    if not rows:
        raise DataError(f"fec: {path} has no triplet")
    found = (_triplet(row, f"fec: {path}, row {number}") for number, row in enumerate(rows, 1))
    return [triplet for triplet in found if triplet is not None and triplet.agreement >= least]


def _triplet(row: list[str], where: str) -> Triplet | None:
    cells = [cell.strip() for cell in row]
    if len(cells) <= _ANSWERS[0]:
        raise DataError(f"{where}: {len(cells)} columns; a triplet with one answer has {_ANSWERS[0] + 1}")
    faces = [_face(cells[start : start + _FACE_COLUMNS], where) for start in range(0, _TYPE, _FACE_COLUMNS)]
    if cells[_TYPE] not in TYPES:
        raise DataError(f"{where}: type {cells[_TYPE]!r}; expected one of {', '.join(TYPES)}")
    given = [cells[column] for column in _ANSWERS if column < len(cells) and cells[column]]
    if not given or not set(given) <= {"1", "2", "3"}:
        raise DataError(f"{where}: answers are {', '.join(given) or 'missing'}; each must be 1, 2 or 3")
    answers = tuple(int(answer) for answer in given)
    ranked = Counter(answers).most_common()
    if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
        return None
    odd = ranked[0][0] - 1
    first, second = (face for place, face in enumerate(faces) if place != odd)
    return Triplet((first, second), faces[odd], 1 + TYPES.index(cells[_TYPE]), answers)


def _face(cells: list[str], where: str) -> FaceBox:
    try:
        left, right, top, bottom = (float(cell) for cell in cells[1:])
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise DataError(
            f"{where}: box {left}, {right}, {top}, {bottom}; expected x_left < x_right, y_top < y_bottom in 0 to 1"
        )
    return FaceBox(cells[0], left, right, top, bottom)
