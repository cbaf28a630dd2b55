# SPDX-License-Identifier: Apache-2.0
"""Berlin Database of Emotional Speech (Burkhardt et al. 2005): 10 actors, German sentences, 7 emotions.

Layout read here::

    labels.csv            utterance,emotion,speaker,text   (speaker: two digits)
    first2s/<utt>.flac    all clips, 22,050 Hz, cut or zero-padded at the end to 2 s
    full4/<utt>.flac      the angry, happy, neutral and sad clips, 16 kHz, full length

The two folders differ in rate and length, which gives the class away: one experiment uses one of them.
"""

from __future__ import annotations

import csv
from pathlib import Path

from zoo.data import Dataset, Item
from zoo.errors import DataError

LABELS = ("angry", "boredom", "disgust", "fear", "happy", "neutral", "sad")
SUBSETS = {"first2s": LABELS, "full4": ("angry", "happy", "neutral", "sad")}
COLUMNS = ["utterance", "emotion", "speaker", "text"]


def read(root: Path, *, subset: str = "first2s") -> Dataset:
    """Read one of the two subsets.

    Parameters
    ----------
    root : Path
        The folder with ``labels.csv``, or a folder that holds it as ``emodb``.
    subset : {"first2s", "full4"}
        Which clips.

    Returns
    -------
    Dataset
        Items in the order of ``labels.csv``; ``group`` is the speaker.

    Raises
    ------
    DataError
        A file or folder is missing, the table has other columns or unknown labels, or an utterance occurs twice.
    """
    if subset not in SUBSETS:
        raise DataError(f"emodb: there is no subset {subset!r}; choose one of {', '.join(SUBSETS)}")
    folder = next((path for path in (root, root / "emodb") if (path / "labels.csv").is_file()), None)
    if folder is None:
        raise DataError(f"emodb: no labels.csv in {root} or {root / 'emodb'}; give the folder that holds it")
    labels = SUBSETS[subset]
    rows = _table(folder / "labels.csv")
    clips = folder / subset
    if not clips.is_dir():
        raise DataError(
            f"emodb: {clips} is missing; it must hold <utterance>.flac for every row of labels.csv"
        )
    items: list[Item] = []
    missing: list[str] = []
    for utterance, emotion, speaker in rows:
        if emotion not in labels:
            continue
        path = clips / f"{utterance}.flac"
        if not path.is_file():
            missing.append(path.name)
            continue
        items.append(Item(id=utterance, source=path, label=labels.index(emotion), group=speaker))
    if missing:
        raise DataError(
            f"emodb: {len(missing)} clips of labels.csv are missing in {clips}, the first is {missing[0]}"
        )
    if not items:
        raise DataError(
            f"emodb: labels.csv in {folder} lists no clip with one of the labels {', '.join(labels)}"
        )
    return Dataset(
        name=f"emodb/{subset}",
        labels=labels,
        items=tuple(items),
        license="CC0-1.0",
        notes="first 2 s at 22,050 Hz" if subset == "first2s" else "full clips of 4 emotions at 16 kHz",
    )


def _table(path: Path) -> list[tuple[str, str, str]]:
    """Checked rows (utterance, emotion, speaker)."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames is None or list(reader.fieldnames) != COLUMNS:
                raise DataError(
                    f"emodb: {path} has columns {reader.fieldnames}; expected {','.join(COLUMNS)}"
                )
            rows = [(row["utterance"], row["emotion"], row["speaker"]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"emodb: cannot read {path}: {error}") from error
    seen: set[str] = set()
    for line, (utterance, emotion, speaker) in enumerate(rows, start=2):
        if not utterance or Path(utterance).name != utterance or not speaker or emotion not in LABELS:
            raise DataError(
                f"emodb: {path}, line {line}: utterance {utterance!r}, emotion {emotion!r}, speaker {speaker!r}; "
                f"emotions are {', '.join(LABELS)}"
            )
        if utterance in seen:
            raise DataError(f"emodb: {path}, line {line}: utterance {utterance} occurs twice")
        seen.add(utterance)
    return rows
