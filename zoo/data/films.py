# SPDX-License-Identifier: Apache-2.0
"""Films with arousal and valence over time: COGNIMUSE (extended) and LIRIS-ACCEDE as MediaEval gave it out.

Layouts read here, anywhere below the folder::

    intended3_<film>.csv                      frame name, valence, arousal; a row a frame, 25 a second (fact sheet 5)
    MEDIAEVAL<year>_<nn>_Valence-Arousal.txt  a header line; the last three columns are seconds, valence, arousal

and beside them, or anywhere below the folder, a film or its sound: ``<film>.<any of EXTENSIONS>``. The first layout is that of the
source's own script, the second that of published programs that read it: neither data set was at hand. Where there are no annotations at
all, :func:`read` takes what has sound in the folder, or in its folders ``films`` or ``video``, without a truth: enough to calibrate on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.curves import bins_of
from zoo.data import Dataset, Excerpt, Item
from zoo.errors import DataError, InputError

HEADS = ("arousal", "valence")
EXTENSIONS = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".wav", ".flac")
#: Where films lie, beside the folder itself, that nobody annotated.
FOLDERS = ("films", "video")
#: Frames a second of COGNIMUSE.
RATE = 25
#: Seconds between steps, and that a step covers (fact sheet 5).
PERIOD, WINDOW = 0.04, 0.4
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

    def bins(
        self, seconds: NDArray[np.float64], *, count: int, span: tuple[float, float] = (-1.0, 1.0)
    ) -> dict[str, NDArray[np.int64]]:
        """True bins by head of the steps that begin at ``seconds`` (growing), those after the last annotation left out."""
        kept = seconds[seconds <= self.seconds[-1]]
        return {head: bins_of(values, count=count, span=span) for head, values in self.at(kept).items()}


def moments_of(start: int, stop: int, period: float = PERIOD) -> NDArray[np.float64]:
    """Seconds at which the steps ``start`` to ``stop`` (not included) begin."""
    return np.arange(start, stop, dtype=np.float64) * np.float64(period)


def read(root: Path) -> Dataset:
    """The films in parts of one second, for calibration: an item is a second of steps of 40 ms, its group the film.

    The truth of a head is its value at each of the steps. Without annotations items have none.

    Raises
    ------
    DataError
        As of :func:`read_films`, a film cannot be decoded, or there is none.
    """
    from zoo.media import open_sound

    annotated = any(_annotation(path) for path in root.rglob("*"))
    films: list[tuple[str, Path, Annotated | None]] = (
        [(film.name, film.path, film) for film in read_films(root)]
        if annotated
        else [(path.name, path, None) for path in _media(root)]
    )
    if not films:
        raise DataError(
            f"films: nothing in {root} (nor its folders {' and '.join(FOLDERS)}) has sound and ends in {', '.join(EXTENSIONS)}"
        )
    items = []
    for name, path, film in films:
        try:
            sound = open_sound(path)
            samples = sum(len(block) for block in sound.blocks())
        except InputError as error:
            raise DataError(f"films: {error}; repair that film or take it out") from error
        # A step covers 400 ms.
        steps = int((samples / sound.rate - WINDOW) / PERIOD) + 1
        if film is not None:
            steps = min(steps, int(film.seconds[-1] / PERIOD) + 1)
        for start in range(0, steps - RATE + 1, RATE):
            values = {} if film is None else film.at(moments_of(start, start + RATE))
            label = {head: tuple(map(float, row)) for head, row in values.items()}
            items.append(Item(f"{name}@{start // RATE}", Excerpt(path, start, start + RATE), label, name))
    moments = tuple(f"{1000 * PERIOD * step:.0f} ms" for step in range(RATE))
    return Dataset(
        "films",
        HEADS,
        tuple(items),
        "that of the films; COGNIMUSE and LIRIS-ACCEDE: research use",
        heads=dict.fromkeys(HEADS, moments),
    )


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
        match = _annotation(path)
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


def _media(root: Path) -> list[Path]:
    """Files with sound; pictures alone teach nothing about it."""
    from zoo.media import has_sound

    found = [
        path
        for folder in (root, *(root / name for name in FOLDERS))
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in EXTENSIONS and path.is_file()
    ]
    try:
        return [path for path in found if has_sound(path)]
    except InputError as error:
        raise DataError(f"films: {error}; repair that file or take it out") from error


def _annotation(path: Path) -> re.Match[str] | None:
    return _COGNIMUSE.fullmatch(path.name) or _LIRIS.fullmatch(path.name)


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
