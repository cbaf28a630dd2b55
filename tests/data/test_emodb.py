# SPDX-License-Identifier: Apache-2.0
"""The reader on a tree that the test writes; counts of the real corpus where it is at hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from zoo.data import emodb
from zoo.errors import DataError

ROWS = ["03a01Fa,happy,03,a01", "03a01Nc,neutral,03,a01", "08b02Ea,disgust,08,b02"]


def write(folder: Path, rows: list[str] = ROWS, header: str = "utterance,emotion,speaker,text") -> Path:
    (folder / "first2s").mkdir(parents=True)
    (folder / "full4").mkdir()
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    for row in rows:
        name, emotion = row.split(",")[:2]
        (folder / "first2s" / f"{name}.flac").write_bytes(name.encode())
        if emotion in ("happy", "neutral"):
            (folder / "full4" / f"{name}.flac").write_bytes(name.encode())
    return folder


def test_reads_the_folder_or_its_parent(tmp_path: Path) -> None:
    folder = write(tmp_path / "emodb")
    direct, parent = emodb.read(folder), emodb.read(tmp_path)
    assert direct.items == parent.items
    assert [item.id for item in direct.items] == ["03a01Fa", "03a01Nc", "08b02Ea"]
    assert [direct.labels[item.label] for item in direct.items] == ["happy", "neutral", "disgust"]
    assert [item.group for item in direct.items] == ["03", "03", "08"]
    assert all(item.source.is_file() for item in direct.items)
    assert direct.name == "emodb/first2s"


def test_heads_add_the_speakers_sex_and_age(tmp_path: Path) -> None:
    folder = write(tmp_path / "emodb")
    dataset = emodb.read(folder, heads=True)
    assert dataset.labels == ("emotion", "sex", "age") == tuple(dataset.heads)
    assert [dataset.truth(item) for item in dataset.items] == [
        "emotion: happy; sex: male; age: age=31.0",
        "emotion: neutral; sex: male; age: age=31.0",
        "emotion: disgust; sex: female; age: age=34.0",
    ]
    one = emodb.read(folder)
    assert dataset.head("emotion").items == one.items
    assert dataset.fingerprint() != one.fingerprint()
    write(tmp_path / "more", [*ROWS, "99a01Fa,happy,99,a01"])
    assert len(emodb.read(tmp_path / "more").items) == 4
    with pytest.raises(DataError, match="sex and age of speaker 99 are not known; speakers are 03, 08"):
        emodb.read(tmp_path / "more", heads=True)


def test_the_corpus_has_five_speakers_of_each_sex() -> None:
    assert [sex for sex, _ in emodb.SPEAKERS.values()].count("female") == 5
    assert [age for _, age in emodb.SPEAKERS.values()] == [31, 34, 21, 32, 26, 30, 32, 35, 25, 31]


def test_full4_has_four_labels_and_its_own_files(tmp_path: Path) -> None:
    full = emodb.read(write(tmp_path / "emodb"), subset="full4")
    assert full.labels == ("angry", "happy", "neutral", "sad")
    assert [item.id for item in full.items] == ["03a01Fa", "03a01Nc"]
    assert {item.source.parent.name for item in full.items} == {"full4"}


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    folder = write(tmp_path / "emodb")
    before = emodb.read(folder).fingerprint()
    (folder / "first2s" / "03a01Fa.flac").write_bytes(b"other")
    assert emodb.read(folder).fingerprint() != before


@pytest.mark.parametrize(
    ("rows", "header", "match"),
    [
        (ROWS, "file,emotion,speaker,text", r"columns .*expected utterance,emotion,speaker,text"),
        ([*ROWS, ROWS[0]], None, r"line 5: utterance 03a01Fa occurs twice"),
        (["x,joyful,03,a01"], None, r"line 2: .*'joyful'.*emotions are angry"),
        (["../x,happy,03,a01"], None, r"line 2: utterance '\.\./x'"),
        (["x,happy"], None, r"line 2: "),
    ],
)
def test_odd_tables_are_refused(tmp_path: Path, rows: list[str], header: str | None, match: str) -> None:
    folder = write(tmp_path / "emodb")
    (folder / "labels.csv").write_text("\n".join([header or "utterance,emotion,speaker,text", *rows]) + "\n")
    with pytest.raises(DataError, match=match):
        emodb.read(folder)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no labels\.csv"):
        emodb.read(tmp_path)
    folder = write(tmp_path / "emodb")
    (folder / "first2s" / "03a01Nc.flac").unlink()
    with pytest.raises(DataError, match=r"1 clips .* missing .*03a01Nc\.flac"):
        emodb.read(folder)
    with pytest.raises(DataError, match="no subset 'half'"):
        emodb.read(folder, subset="half")
    for clip in (folder / "first2s").iterdir():
        clip.unlink()
    (folder / "first2s").rmdir()
    with pytest.raises(DataError, match="first2s is missing"):
        emodb.read(folder)
    (folder / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot read"):
        emodb.read(folder)


def test_real_corpus_has_the_published_counts(data_root: Path) -> None:
    short, full = emodb.read(data_root), emodb.read(data_root, subset="full4")
    counts = Counter(short.labels[item.label] for item in short.items)
    assert counts == {
        "angry": 127, "boredom": 81, "disgust": 46, "fear": 69, "happy": 71, "neutral": 79, "sad": 62,
    }  # fmt: skip
    assert len(full.items) == 339
    assert len({item.group for item in short.items}) == 10
