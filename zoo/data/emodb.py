# SPDX-License-Identifier: Apache-2.0
"""Berlin Database of Emotional Speech (Burkhardt et al. 2005): 10 actors, German sentences, 7 emotions.

Layout read here::

    labels.csv            utterance,emotion,speaker,text   (speaker: two digits)
    first2s/<utt>.flac    all clips, 22,050 Hz, cut or zero-padded at the end to 2 s
    full4/<utt>.flac      the angry, happy, neutral and sad clips, 16 kHz, full length

The two folders differ in rate and length, which gives the class away: one experiment uses one of them.

Sex and age of the ten speakers are facts of the corpus, from its documentation (the list of speakers on its site).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from zoo.data import Dataset, Item, Label
from zoo.errors import DataError

LABELS = ("angry", "boredom", "disgust", "fear", "happy", "neutral", "sad")
SUBSETS = {"first2s": LABELS, "full4": ("angry", "happy", "neutral", "sad")}
COLUMNS = ["utterance", "emotion", "speaker", "text"]
SEXES = ("female", "male")
#: Sex and age in years of each speaker.
SPEAKERS: Mapping[str, tuple[str, int]] = {
    "03": ("male", 31),
    "08": ("female", 34),
    "09": ("female", 21),
    "10": ("male", 32),
    "11": ("male", 26),
    "12": ("male", 30),
    "13": ("female", 32),
    "14": ("female", 35),
    "15": ("male", 25),
    "16": ("female", 31),
}


def read(root: Path, *, subset: str = "first2s", heads: bool = False) -> Dataset:
    """Read one of the two subsets.

    Parameters
    ----------
    root : Path
        The folder with ``labels.csv``, or a folder that holds it as ``emodb``.
    subset : {"first2s", "full4"}
        Which clips.
    heads : bool
        Three truths of each clip instead of one: ``emotion``, and the speaker's ``sex`` and ``age`` (years).

    Returns
    -------
    Dataset
        Items in the order of ``labels.csv``; ``group`` is the speaker.

    Raises
    ------
    DataError
        A file or folder is missing, the table has other columns or unknown labels, an utterance occurs twice, or
        nothing is known of a speaker whose sex and age are asked for.
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
        label: Label = labels.index(emotion)
        if heads:
            label = {"emotion": labels.index(emotion), **_facts(speaker)}
        items.append(Item(id=utterance, source=path, label=label, group=speaker))
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
        labels=("emotion", "sex", "age") if heads else labels,
        items=tuple(items),
        license="CC0-1.0",
        notes="first 2 s at 22,050 Hz" if subset == "first2s" else "full clips of 4 emotions at 16 kHz",
        heads={"emotion": labels, "sex": SEXES, "age": ("age",)} if heads else {},
    )


def _facts(speaker: str) -> dict[str, int | tuple[float, ...]]:
    if speaker not in SPEAKERS:
        raise DataError(
            f"emodb: sex and age of speaker {speaker} are not known; speakers are {', '.join(SPEAKERS)}"
        )
    sex, age = SPEAKERS[speaker]
    return {"sex": SEXES.index(sex), "age": (float(age),)}


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
