# SPDX-License-Identifier: Apache-2.0
"""The readers on files that the test writes; the official counts where the corpus is at hand."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data import semeval
from zoo.errors import DataError

ENOTHING = "\t".join("0" * 11)
TAB = "\t"


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def regression(path: Path, *rows: str) -> Path:
    return write(path, "ID\tTweet\tAffect Dimension\tIntensity Score", *rows)


def labels(path: Path, *rows: str) -> Path:
    return write(path, "ID\tTweet\t" + "\t".join(semeval.EMOTIONS), *rows)


def test_one_file_of_each_kind(tmp_path: Path) -> None:
    several = semeval.read(
        labels(tmp_path / "e.txt", "1\tso glad\t0\t0\t0\t0\t1\t1\t0\t0\t0\t0\t0", f"2\thm\t{ENOTHING}"),
        subtask="E-c",
    )
    assert [several.truth(item) for item in several.items] == ["joy+love", ""]
    assert {item.group for item in several.items} == {"file"}
    values = semeval.read(
        regression(tmp_path / "r.txt", "1\tx\tjoy\t0.250", "2-mystery-3\ty\tjoy\t0.5"),
        subtask="EI-reg",
        emotion="joy",
    )
    assert [(item.source, item.label) for item in values.items] == [("x", (0.25,))]
    classes = semeval.read(
        regression(tmp_path / "o.txt", "1\tx\tvalence\t-3: very negative", "2\ty\tvalence\t0: neutral"),
        subtask="V-oc",
    )
    assert [classes.truth(item) for item in classes.items] == ["very negative", "neutral"]


def test_only_line_feeds_end_a_row(tmp_path: Path) -> None:
    path = regression(tmp_path / "r.txt", "1\ta\u2028b\x85c\vd\tvalence\t0.5")
    assert [tweet.text for tweet in semeval.read_file(path, "V-reg")] == ["a\u2028b\x85c\vd"]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("1\tx\tjoy\t1.5", r"line 2: score 1\.5 is outside \[0, 1\]"),
        ("1\tx\tjoy\tNONE", r"line 2: could not convert"),
        ("1\tx\tjoy\tnan", r"line 2: score nan is outside"),
        ("1\tx\tanger\t0.5", r"line 2: dimension 'anger', expected 'joy'"),
        ("1\tx\t0.5", r"line 2: 3 columns, the header has 4"),
    ],
)
def test_rows_that_do_not_fit_are_named(tmp_path: Path, row: str, match: str) -> None:
    path = regression(tmp_path / "r.txt", row)
    with pytest.raises(DataError, match=match):
        semeval.read(path, subtask="EI-reg", emotion="joy")


def test_wrong_files_and_names(tmp_path: Path) -> None:
    path = regression(tmp_path / "r.txt", "1\tx\tjoy\t0.5")
    with pytest.raises(DataError, match="has the header"):
        semeval.read(path, subtask="E-c")
    with pytest.raises(DataError, match="give the folder that holds task1, or one file"):
        semeval.read(tmp_path, subtask="V-reg")
    with pytest.raises(DataError, match="no subtask 'E-d'"):
        semeval.read(tmp_path, subtask="E-d")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="has the emotions"):
        semeval.read(tmp_path, subtask="EI-oc", emotion="trust")
    with pytest.raises(DataError, match="holds no tweet"):
        semeval.read(regression(tmp_path / "empty.txt"), subtask="V-reg")
    (tmp_path / "latin.txt").write_bytes(b"ID\tTweet\xff\n")
    with pytest.raises(DataError, match="cannot read"):
        semeval.read(tmp_path / "latin.txt", subtask="V-reg")


def test_sentiment_holds_out_a_twentieth_of_each_class(tmp_path: Path) -> None:
    rows = [f"{i}\t{semeval.SENTIMENTS[i % 3]}\ttweet {i}" for i in range(300)]
    write(tmp_path / "semeval_2017_4A" / "train" / "a.tsv", *rows, "5\tneutral\tagain")
    found = semeval.read(tmp_path, subtask="sentiment")
    assert len(found.items) == 300
    assert Counter(found.truth(item) for item in found.items if item.group == "dev") == dict.fromkeys(
        semeval.SENTIMENTS, 5
    )


def test_emoji_files_must_go_together(tmp_path: Path) -> None:
    for part in ("us_trial", "us_test"):
        write(tmp_path / "task2" / f"{part}.text", "one", "two")
        write(tmp_path / "task2" / f"{part}.labels", "0", "19")
    assert [tweet.label for tweet in semeval.read_emoji(tmp_path)] == [0, 19, 0, 19]
    write(tmp_path / "task2" / "us_test.labels", "0", "20")
    with pytest.raises(DataError, match="line 2: label '20'"):
        semeval.read_emoji(tmp_path)
    write(tmp_path / "task2" / "us_test.labels", "0")
    with pytest.raises(DataError, match="2 tweets and 1 labels"):
        semeval.read_emoji(tmp_path)


@given(st.binary(max_size=200))
def test_any_bytes_give_tweets_or_one_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.txt"
    path.write_bytes(b"ID\tTweet\tAffect Dimension\tIntensity Score\n" + data)
    with contextlib.suppress(DataError):
        assert semeval.read(path, subtask="V-reg").items


def test_the_official_counts(data_root: Path) -> None:
    assert [len(semeval.read_task1(data_root, split)) for split in ("train", "dev")] == [6908, 919]
    counts = Counter(item.label for item in semeval.read(data_root, subtask="sentiment").items)
    assert counts == {0: 11695, 1: 28132, 2: 22027}
    emotions = semeval.read(data_root, subtask="E-c").only(["train"])
    assert len(emotions.items) == 6838
    positives = [sum(item.label[i] for item in emotions.items) for i in range(11)]  # type: ignore[index]
    assert dict(zip(semeval.EMOTIONS, positives, strict=True)) == {
        "disgust": 2602, "anger": 2544, "joy": 2477, "sadness": 2008, "optimism": 1984, "fear": 1242,
        "anticipation": 978, "pessimism": 795, "love": 700, "surprise": 361, "trust": 357,
    }  # fmt: skip
    sizes = {
        emotion: Counter(
            item.group for item in semeval.read(data_root, subtask="EI-reg", emotion=emotion).items
        )
        for emotion in semeval.INTENSITY_EMOTIONS
    }
    assert {emotion: (size["train"], size["dev"]) for emotion, size in sizes.items()} == {
        "anger": (1701, 388), "fear": (2252, 389), "joy": (1616, 290), "sadness": (1533, 397),
    }  # fmt: skip


def test_all_subtasks_together(tmp_path: Path) -> None:
    both = "1\tso glad"
    for split in ("train", "dev"):
        for subtask, emotion in semeval.HEADS.values():
            path = semeval.path_of(tmp_path, subtask, split, emotion)
            dimension = emotion or "valence"
            if subtask == "E-c":
                labels(path, f"{both}\t0\t0\t0\t0\t1\t0\t0\t0\t0\t0\t0", f"2\thm\t{ENOTHING}")
            elif subtask in semeval.CLASSES:
                write(
                    path,
                    "ID\tTweet\tAffect Dimension\tIntensity Class",
                    f"{both if emotion == 'joy' else f'{path.name}{TAB}x'}\t{dimension}\t3: high",
                )
            else:
                regression(path, f"{both if emotion == 'joy' else f'{path.name}{TAB}x'}\t{dimension}\t0.750")
    found = semeval.read(tmp_path, subtask="joint")
    assert found.labels == tuple(found.heads) == tuple(semeval.HEADS)
    assert found.heads["ei-oc-fear"] == ("no", "low", "moderate", "high")
    glad = next(item for item in found.items if item.id == "train/1")
    assert glad.group == "train"
    assert glad.label == {"e-c": (0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0), "ei-reg-joy": (0.75,), "ei-oc-joy": 3}
    assert found.truth(glad) == "e-c: joy; ei-reg-joy: joy=0.75; ei-oc-joy: high"
    assert [item.label for item in found.head("v-oc").items] == [6, 6]
    # One official file: the head that it belongs to.
    for name, (subtask, emotion) in semeval.HEADS.items():
        one = semeval.read(semeval.path_of(tmp_path, subtask, "dev", emotion), subtask="joint")
        assert tuple(one.heads) == (name,)
        assert {item.group for item in one.items} == {"file"}
        assert all(set(item.label) == {name} for item in one.items)
    fear = semeval.path_of(tmp_path, "EI-reg", "dev", "fear")
    regression(fear, "1\tx\tdisgust\t0.5")
    with pytest.raises(DataError, match="no subtask has the dimension 'disgust'; expected valence or one of"):
        semeval.read(fear, subtask="joint")
    write(fear, "ID\tTweet\tMood")
    with pytest.raises(DataError, match="which is that of no subtask of Task 1"):
        semeval.read(fear, subtask="joint")
    regression(fear, "3\tx\tfear\t0.5")
    regression(semeval.path_of(tmp_path, "EI-reg", "train", "joy"), "1\tso sad\tjoy\t0.5")
    with pytest.raises(DataError, match="tweet train/1 has another text in EI-reg"):
        semeval.read(tmp_path, subtask="joint")
    (semeval.path_of(tmp_path, "V-reg", "dev")).unlink()
    regression(semeval.path_of(tmp_path, "EI-reg", "train", "joy"), "1\tso glad\tjoy\t0.5")
    with pytest.raises(DataError, match=r"Valence-reg-En-dev\.txt"):
        semeval.read(tmp_path, subtask="joint")


def test_a_file_of_another_dimension_is_refused(tmp_path: Path) -> None:
    path = regression(tmp_path / "r.txt", "1\tx\tjoy\t0.5")
    with pytest.raises(DataError, match="line 2: dimension 'joy', expected 'valence'"):
        semeval.read(path, subtask="V-reg")
