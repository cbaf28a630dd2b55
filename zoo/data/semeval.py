# SPDX-License-Identifier: Apache-2.0
"""SemEval-2018 Task 1, Affect in Tweets (Mohammad et al. 2018), and SemEval-2017 Task 4A, sentiment.

Layout read here (sheet 01, section 5), UTF-8, tab-separated::

    task1/E-c/E-c-En-<split>.txt                       header; ID, Tweet, eleven times 0 or 1
    task1/EI-reg/EI-reg-En-<emotion>-<split>.txt       header; ID, Tweet, Affect Dimension, score in [0, 1]
    task1/EI-oc/EI-oc-En-<emotion>-<split>.txt         header; the fourth column starts with the class and a colon
    task1/V-reg/Valence-reg-En-<split>.txt             as EI-reg
    task1/V-oc/Valence-oc-En-<split>.txt               as EI-oc, classes -3..3
    semeval_2017_4A/**/*.{tsv,txt}                     no header; ID, sentiment, text, in some files a date
    task2/us_{trial,test}.{text,labels}                a tweet a line; the emoji that was cut out, 0..19

Rows of the bias test (``mystery`` in the ID) are dropped. Tweets are under their platform's terms.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from zoo.data import Dataset, Item, Truth
from zoo.errors import DataError

Subtask = Literal["E-c", "EI-reg", "EI-oc", "V-reg", "V-oc", "sentiment", "joint"]

EMOTIONS = (
    "anger", "anticipation", "disgust", "fear", "joy", "love", "optimism", "pessimism", "sadness", "surprise", "trust",
)  # fmt: skip
INTENSITY_EMOTIONS = ("anger", "fear", "joy", "sadness")
SENTIMENTS = ("negative", "neutral", "positive")
#: Emoji of Task 2.
EMOJI = 20
#: Ordinal classes of the two -oc subtasks, and what their files call them.
CLASSES: dict[str, tuple[int, ...]] = {"EI-oc": (0, 1, 2, 3), "V-oc": (-3, -2, -1, 0, 1, 2, 3)}
CLASS_NAMES = {
    "EI-oc": ("no", "low", "moderate", "high"),
    "V-oc": (
        "very negative",
        "moderately negative",
        "slightly negative",
        "neutral",
        "slightly positive",
        "moderately positive",
        "very positive",
    ),
}
#: The subtasks of Task 1, each with its emotion if it has one, by the names that ``joint`` gives them.
HEADS: dict[str, tuple[Subtask, str | None]] = {
    "e-c": ("E-c", None),
    "v-reg": ("V-reg", None),
    "v-oc": ("V-oc", None),
    **{f"ei-reg-{emotion}": ("EI-reg", emotion) for emotion in INTENSITY_EMOTIONS},
    **{f"ei-oc-{emotion}": ("EI-oc", emotion) for emotion in INTENSITY_EMOTIONS},
}
_LICENSE = "restricted: research, terms of the platform that the tweets come from"
#: Share of the sentiment tweets that is held out (sheet 01, section 3).
_HELD_OUT = 0.05


@dataclass(frozen=True)
class Tweet:
    """One row. ``label`` is the 0/1 tuple of E-c, the score of a regression, the ordinal class of an -oc
    subtask, or the index into ``SENTIMENTS``.
    """

    id: str
    text: str
    label: tuple[int, ...] | float | int


def read(root: Path, *, subtask: Subtask, emotion: str | None = None) -> Dataset:
    """One subtask as a data set.

    Parameters
    ----------
    root : Path
        The folder with ``task1`` and ``semeval_2017_4A``, or one that holds it as ``semeval2018``: the groups are
        ``train`` and ``dev``. Or one file of Task 1 in the official format: its only group is ``file``.
    subtask : str
        ``sentiment`` (SemEval-2017 4A) has no official parts: of each class a twentieth, chosen by the hash of the
        IDs, is ``dev``. ``joint`` is all of Task 1, each tweet once with its truth for those of ``HEADS`` that have it;
        of one file, whose header and dimension say which head it is, that head alone.
    emotion : str or None
        For EI-reg and EI-oc.

    Raises
    ------
    DataError
        As :func:`read_file` and :func:`read_sentiment`, or there is no such subtask or emotion.
    """
    if subtask not in get_args(Subtask):
        raise DataError(
            f"semeval: there is no subtask {subtask!r}; choose one of {', '.join(get_args(Subtask))}"
        )
    if subtask == "joint":
        return _joint(root)
    if subtask == "sentiment":
        groups = _hold_out(read_sentiment(root))
    elif root.is_file():
        groups = {"file": read_file(root, subtask, emotion)}
    else:
        groups = _splits(root, subtask, emotion)
    return Dataset(
        name="/".join(("semeval", subtask, *((emotion,) if emotion else ()))),
        labels=_names(subtask, emotion),
        items=tuple(
            Item(f"{group}/{tweet.id}", tweet.text, _truth(subtask, tweet), group)
            for group, tweets in groups.items()
            for tweet in tweets
        ),
        license=_LICENSE,
    )


def _joint(root: Path) -> Dataset:
    heads = dict(HEADS)
    if root.is_file():
        name = _head_of(root)
        heads = {name: HEADS[name]}
    truths: dict[str, dict[str, Truth]] = {}
    items: dict[str, tuple[str, str]] = {}
    for name, (subtask, emotion) in heads.items():
        groups = (
            {"file": read_file(root, subtask, emotion)} if root.is_file() else _splits(root, subtask, emotion)
        )
        for group, tweets in groups.items():
            for tweet in tweets:
                key = f"{group}/{tweet.id}"
                text, _ = items.setdefault(key, (tweet.text, group))
                if text != tweet.text:
                    raise DataError(f"semeval: {root}: tweet {key} has another text in {subtask}")
                truths.setdefault(key, {})[name] = _truth(subtask, tweet)
    return Dataset(
        name="semeval/joint",
        labels=tuple(heads),
        items=tuple(Item(key, text, truths[key], group) for key, (text, group) in items.items()),
        license=_LICENSE,
        heads={name: _names(subtask, emotion) for name, (subtask, emotion) in heads.items()},
    )


def _head_of(path: Path) -> str:
    """Which of ``HEADS`` an official file is, by its header and the dimension of its first row."""
    lines = _lines(path)
    header = lines[0].split("\t") if lines else []
    if header == ["ID", "Tweet", *EMOTIONS]:
        return "e-c"
    kinds = {"Intensity Score": "reg", "Intensity Class": "oc"}
    if header[:3] == ["ID", "Tweet", "Affect Dimension"] and len(header) == 4 and header[3] in kinds:
        dimension = [*lines[1].split("\t"), "", "", ""][2] if len(lines) > 1 else ""
        kind = kinds[header[3]]
        name = f"v-{kind}" if dimension == "valence" else f"ei-{kind}-{dimension}"
        if name in HEADS:
            return name
        raise DataError(
            f"semeval: {path}, line 2: no subtask has the dimension {dimension!r}; expected valence or one of "
            f"{', '.join(INTENSITY_EMOTIONS)}"
        )
    raise DataError(f"semeval: {path} has the header {header}, which is that of no subtask of Task 1")


def _splits(root: Path, subtask: Subtask, emotion: str | None) -> dict[str, list[Tweet]]:
    if not path_of(root, subtask, "train", emotion).is_file():
        raise DataError(
            f"semeval: no {path_of(root, subtask, 'train', emotion)}; give the folder that holds task1, or one file in "
            "the official format"
        )
    return {
        split: read_file(path_of(root, subtask, split, emotion), subtask, emotion)
        for split in ("train", "dev")
    }


def path_of(root: Path, subtask: Subtask, split: str, emotion: str | None = None) -> Path:
    """The official file of a subtask of Task 1 below ``root`` (or ``root/semeval2018``)."""
    base = root / "semeval2018" if (root / "semeval2018").is_dir() else root
    if subtask == "E-c":
        return base / "task1" / "E-c" / f"E-c-En-{split}.txt"
    if subtask in ("EI-reg", "EI-oc"):
        if emotion not in INTENSITY_EMOTIONS:
            raise DataError(
                f"semeval: {subtask} has the emotions {', '.join(INTENSITY_EMOTIONS)}, not {emotion}"
            )
        return base / "task1" / subtask / f"{subtask}-En-{emotion}-{split}.txt"
    if subtask in ("V-reg", "V-oc"):
        return base / "task1" / subtask / f"Valence-{subtask[2:]}-En-{split}.txt"
    raise DataError(f"semeval: there is no subtask {subtask!r} in Task 1")


def read_file(path: Path, subtask: Subtask, emotion: str | None = None) -> list[Tweet]:
    """Read one file of Task 1 in the official format.

    Raises
    ------
    DataError
        The file is missing, not UTF-8, has another header, or a row that does not fit (file, line, what): a label
        of another kind, ``NONE``, or another emotion than ``emotion``.
    """
    lines = _lines(path)
    header = ["ID", "Tweet", *EMOTIONS] if subtask == "E-c" else ["ID", "Tweet", "Affect Dimension"]
    found = lines[0].split("\t") if lines else []
    if found[: len(header)] != header or len(found) != max(len(header), 4):
        raise DataError(f"semeval: {path} has the header {found}; {subtask} needs {header}")
    tweets = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        if len(fields) != len(found):
            raise DataError(
                f"semeval: {path}, line {number}: {len(fields)} columns, the header has {len(found)}"
            )
        if "mystery" in fields[0]:
            continue
        dimension = None if subtask == "E-c" else emotion or "valence"
        if dimension is not None and fields[2] != dimension:
            raise DataError(
                f"semeval: {path}, line {number}: dimension {fields[2]!r}, expected {dimension!r}"
            )
        try:
            tweets.append(Tweet(fields[0], fields[1], _label(subtask, fields)))
        except ValueError as error:
            raise DataError(f"semeval: {path}, line {number}: {error}") from error
    if not tweets:
        raise DataError(f"semeval: {path} holds no tweet")
    return tweets


def read_task1(root: Path, split: str) -> list[Tweet]:
    """Every tweet of the five subtasks of Task 1 once; labels are those of the subtask that has it first."""
    found: dict[str, Tweet] = {}
    for subtask, emotion in HEADS.values():
        for tweet in read_file(path_of(root, subtask, split, emotion), subtask, emotion):
            found.setdefault(tweet.text, tweet)
    return list(found.values())


def read_sentiment(root: Path) -> list[Tweet]:
    """All tweets of SemEval-2017 Task 4A below ``root``, the first of those with one ID (61,854 tweets).

    Raises
    ------
    DataError
        The folder is missing or a row does not fit.
    """
    base = root / "semeval2018" if (root / "semeval2018").is_dir() else root
    folder = base / "semeval_2017_4A"
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".tsv", ".txt"))
    if not files:
        raise DataError(f"semeval: {folder} holds no .tsv or .txt file")
    tweets: dict[str, Tweet] = {}
    for path in files:
        for number, line in enumerate(_lines(path), start=1):
            fields = line.split("\t")
            if len(fields) not in (3, 4) or fields[1] not in SENTIMENTS:
                raise DataError(
                    f"semeval: {path}, line {number}: expected ID, sentiment, text and perhaps a date"
                )
            tweets[fields[0]] = Tweet(fields[0], fields[2], SENTIMENTS.index(fields[1]))
    return list(tweets.values())


def read_emoji(root: Path) -> list[Tweet]:
    """The tweets of SemEval-2018 Task 2 below ``root``; the label is the emoji that stood in each, 0..19.

    Raises
    ------
    DataError
        A file is missing, the two files of a part differ in length, or a label is not a number.
    """
    base = root / "semeval2018" if (root / "semeval2018").is_dir() else root
    tweets = []
    for part in ("us_trial", "us_test"):
        path = base / "task2" / f"{part}.text"
        texts, labels = _lines(path), _lines(path.with_suffix(".labels"))
        if len(texts) != len(labels):
            raise DataError(f"semeval: {path} has {len(texts)} tweets and {len(labels)} labels")
        for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
            if not label.isdigit() or int(label) >= EMOJI:
                raise DataError(f"semeval: {path.with_suffix('.labels')}, line {number + 1}: label {label!r}")
            tweets.append(Tweet(f"{part}/{number}", text, int(label)))
    return tweets


def _hold_out(tweets: list[Tweet]) -> dict[str, list[Tweet]]:
    held: set[str] = set()
    for label in range(len(SENTIMENTS)):
        ids = [tweet.id for tweet in tweets if tweet.label == label]
        ids.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        held.update(ids[: round(len(ids) * _HELD_OUT)])
    return {
        "train": [tweet for tweet in tweets if tweet.id not in held],
        "dev": [tweet for tweet in tweets if tweet.id in held],
    }


def _names(subtask: Subtask, emotion: str | None) -> tuple[str, ...]:
    if subtask == "E-c":
        return EMOTIONS
    if subtask == "sentiment":
        return SENTIMENTS
    if subtask in CLASS_NAMES:
        return CLASS_NAMES[subtask]
    return (emotion or "valence",)


def _truth(subtask: Subtask, tweet: Tweet) -> Truth:
    if isinstance(tweet.label, tuple):
        return tweet.label
    if isinstance(tweet.label, float):
        return (tweet.label,)
    return CLASSES[subtask].index(tweet.label) if subtask in CLASSES else tweet.label


def _label(subtask: Subtask, fields: list[str]) -> tuple[int, ...] | float | int:
    if subtask == "E-c":
        if any(field not in ("0", "1") for field in fields[2:]):
            raise ValueError(f"labels must be 0 or 1, found {' '.join(fields[2:])}")
        return tuple(int(field) for field in fields[2:])
    if subtask in CLASSES:
        value = int(fields[3].split(":", 1)[0])
        if value not in CLASSES[subtask]:
            raise ValueError(f"class {value} is not one of {CLASSES[subtask]}")
        return value
    score = float(fields[3])
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"score {score} is outside [0, 1]")
    return score


def _lines(path: Path) -> list[str]:
    # Only \n ends a row: tweets hold other characters that str.splitlines would cut at.
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"semeval: cannot read {path}: {error}") from error
    return [line.rstrip("\r") for line in text.split("\n") if line.strip("\r")]
