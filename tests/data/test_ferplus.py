# SPDX-License-Identifier: Apache-2.0
"""Readers of the faces on files that the test writes; counts of the real sets where they are at hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zoo.data import ckplus, ferplus
from zoo.errors import DataError


def votes(**given: int) -> list[int]:
    return [given.get(name, 0) for name in ferplus.COLUMNS]


VOTES = np.array(
    [
        votes(happiness=9, neutral=1),
        votes(anger=5, sadness=5),  # no majority
        votes(fear=6, unknown=4),
        votes(neutral=3, unknown=7),
        votes(NF=10),
        votes(
            contempt=4, neutral=1, anger=1, sadness=1, disgust=1, fear=1, surprise=1
        ),  # only with single votes left out
        votes(neutral=1, happiness=1, anger=1),
    ],
    np.uint8,
)
CLASSES = [1, -1, 6, -1, -1, 7, -1]


def write_npz(path: Path, n: int = len(VOTES), **changed: np.ndarray) -> Path:
    rng = np.random.default_rng(3)
    arrays = {
        "images": rng.integers(0, 256, (n, 48, 48), np.uint8),
        "votes": VOTES[:n],
        "fer_index": np.arange(100, 100 + n, dtype=np.int32),
        "columns": np.array(ferplus.COLUMNS),
    }
    np.savez(path, **{**arrays, **changed})
    return path


def write_folder(folder: Path) -> np.ndarray:
    """1,003 training faces on two sheets, face i all of grey level i % 251; 7 of valid. Returns the training votes."""
    (folder / "ferplus_train").mkdir(parents=True)
    table = np.tile(VOTES, (144, 1))[:1003]
    faces = np.zeros((2000, 48, 48), np.uint8)
    faces[:1003] = (np.arange(1003) % 251)[:, None, None]
    for sheet in range(2):
        tiles = faces[sheet * 1000 : (sheet + 1) * 1000].reshape(25, 40, 48, 48)
        pixels = np.concatenate([np.concatenate(list(row), axis=1) for row in tiles], axis=0)
        Image.fromarray(pixels).save(folder / "ferplus_train" / f"sheet_{sheet:02d}.png")
    np.savez(
        folder / "ferplus_train" / "votes.npz",
        votes=table,
        fer_index=np.arange(1003),
        columns=np.array(ferplus.COLUMNS),
    )
    write_npz(folder / "ferplus_valid.npz")
    return table


def by_the_sheet(row: list[int]) -> int:
    """The rule word by word: zero every count <= 1; if max > half of the sum take it; unknown and NF are dropped."""
    counts = [0 if count <= 1 else count for count in row]
    most = max(counts)
    if not most > 0.5 * sum(counts):
        return -1
    winner = ferplus.COLUMNS[counts.index(most)]
    return ferplus.LABELS.index(winner) if winner in ferplus.LABELS else -1


def test_majority_of_known_votes() -> None:
    assert ferplus.majority(VOTES).tolist() == CLASSES


@given(st.lists(st.integers(0, 10), min_size=10, max_size=10))
def test_majority_is_the_sheets_rule(row: list[int]) -> None:
    assert ferplus.majority(np.array([row], np.uint8)).tolist() == [by_the_sheet(row)]


@given(st.lists(st.integers(0, 10), min_size=10, max_size=10))
def test_soft_targets_are_shares_of_the_named_classes(row: list[int]) -> None:
    (target,) = ferplus.soft_targets(np.array([row], np.uint8))
    named = row[:8]
    assert target.sum() == pytest.approx(1.0 if sum(named) else 0.0, abs=1e-6)
    kept = [count if count > 1 else 0 for count in named]
    kept = kept if sum(kept) else named
    if sum(kept):
        assert target == pytest.approx(np.array(kept) / sum(kept), abs=1e-6)


def test_reads_sheets_and_the_valid_file(tmp_path: Path) -> None:
    table = write_folder(tmp_path / "faces")
    dataset = ferplus.read(tmp_path)
    train, valid = dataset.only(["train"]), dataset.only(["valid"])
    expected = [(i, by_the_sheet(row)) for i, row in enumerate(table.tolist())]
    expected = [(i, label) for i, label in expected if label >= 0]
    assert [(item.id, item.label) for item in train.items] == [(f"train/{i}", label) for i, label in expected]
    for item, (i, _) in zip(train.items, expected, strict=True):
        assert (item.source == i % 251).all()
        assert item.source.shape == (48, 48)
    assert [item.id for item in valid.items] == ["valid/100", "valid/102", "valid/105"]
    assert ferplus.read(tmp_path / "faces", splits=("valid",)).fingerprint() == valid.fingerprint()
    assert len(ferplus.faces(tmp_path, "train").images) == 1003


def test_a_single_file_is_a_split_of_its_own(tmp_path: Path) -> None:
    dataset = ferplus.read(write_npz(tmp_path / "ferplus_test.npz"))
    assert dataset.name == "ferplus/test"
    assert {item.group for item in dataset.items} == {"test"}
    assert [item.label for item in dataset.items] == [1, 6, 7]
    before = dataset.fingerprint()
    images = np.zeros((7, 48, 48), np.uint8)
    assert ferplus.read(write_npz(tmp_path / "ferplus_test.npz", images=images)).fingerprint() != before


def test_of_a_model_with_heads_the_classes_belong_to_one(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "ferplus_test.npz")
    dataset = ferplus.read(path, head="expression")
    assert (dataset.labels, dataset.heads) == (("expression",), {"expression": ferplus.LABELS})
    assert [item.label for item in dataset.items] == [{"expression": label} for label in (1, 6, 7)]
    plain = ferplus.read(path)
    assert [item.label for item in dataset.head("expression").items] == [item.label for item in plain.items]
    assert dataset.truth(dataset.items[0]) == "expression: happiness"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"columns": np.array(ferplus.COLUMNS[::-1])}, "columns are"),
        ({"votes": VOTES.astype(np.int64)}, "votes are int64"),
        ({"votes": VOTES[:, :8]}, r"votes are uint8 \(7, 8\)"),
        ({"images": np.zeros((7, 48, 47), np.uint8)}, "images are uint8"),
        ({"fer_index": np.zeros(7, np.int64)}, "7 different whole numbers"),
        ({"votes": np.tile(VOTES[4], (7, 1))}, "no face of .* has a majority"),
    ],
)
def test_a_file_laid_out_otherwise_is_refused(tmp_path: Path, changed: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ferplus.read(write_npz(tmp_path / "ferplus_test.npz", **changed))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no ferplus_train/votes\.npz in"):
        ferplus.read(tmp_path)
    write_folder(tmp_path)
    with pytest.raises(DataError, match="there is no split 'test'"):
        ferplus.read(tmp_path, splits=("test",))
    (tmp_path / "ferplus_train" / "sheet_01.png").unlink()
    with pytest.raises(DataError, match=r"sheet_01\.png: no such file"):
        ferplus.read(tmp_path)
    Image.new("L", (48, 48)).save(tmp_path / "ferplus_train" / "sheet_01.png")
    with pytest.raises(DataError, match=r"image of shape \(48, 48\); expected grey, \(1200, 1920\)"):
        ferplus.read(tmp_path)
    content = (tmp_path / "ferplus_valid.npz").read_bytes()
    for cut in (0, 10, len(content) // 2, len(content) - 1):
        (tmp_path / "ferplus_valid.npz").write_bytes(content[:cut])
        with pytest.raises(DataError, match="cannot read"):
            ferplus.read(tmp_path, splits=("valid",))
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataError, match="holds one array alone"):
        ferplus.read(tmp_path / "one.npy")


def test_real_faces(data_root: Path) -> None:
    dataset = ferplus.read(data_root)
    counts = {name: Counter(item.label for item in dataset.only([name]).items) for name in ("train", "valid")}
    assert sum(counts["train"].values()) == 25057
    assert [counts["valid"][i] for i in range(8)] == [1182, 865, 415, 351, 287, 24, 62, 13]


# ---- CK+ -----------------------------------------------------------------------------------------------------------

NAMES = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")


def write_ckplus(path: Path, **changed: np.ndarray) -> Path:
    arrays = {
        "images": np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 48, 48), np.uint8),
        "labels": np.array([4, 0, 6, 4]),
        "label_names": np.array(NAMES),
        "subject": np.array([10, 10, 11, 12]),
        "session": np.array([1, 2, 1, 1]),
        "frame": np.array([5, 5, 7, 9]),
    }
    np.savez(path, **{**arrays, **changed})
    return path


def test_ckplus_has_ferplus_labels_and_subjects_as_groups(tmp_path: Path) -> None:
    path = write_ckplus(tmp_path / ckplus.FILE)
    dataset = ckplus.read(tmp_path)
    assert dataset.labels == ferplus.LABELS
    assert [dataset.labels[item.label] for item in dataset.items] == [
        "happiness", "anger", "surprise", "happiness",
    ]  # fmt: skip
    assert [item.group for item in dataset.items] == ["10", "10", "11", "12"]
    assert [item.id for item in dataset.items] == ["10/1/5", "10/2/5", "11/1/7", "12/1/9"]
    assert ckplus.read(path).fingerprint() == dataset.fingerprint()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label_names": np.array([*NAMES[:6], "bored"])}, "label 'bored' is none of"),
        ({"labels": np.array([4, 0, 7, 4])}, r"labels must lie in 0\.\.6"),
        ({"labels": np.array([4.0, 0, 6, 4])}, "labels must hold one whole number"),
        ({"images": np.zeros((3, 48, 48), np.uint8)}, "images are"),
        ({"session": np.array([1, 1, 1, 1])}, "same subject, session and frame"),
    ],
)
def test_another_ckplus_is_refused(tmp_path: Path, changed: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ckplus.read(write_ckplus(tmp_path / ckplus.FILE, **changed))
    with pytest.raises(DataError, match=r"no ckplus48_subjects_a\.npz in"):
        ckplus.read(tmp_path / "elsewhere")


def test_real_ckplus(data_root: Path) -> None:
    dataset = ckplus.read(data_root)
    assert len(dataset.items) == 492
    assert len({item.group for item in dataset.items}) == 59
    assert {dataset.labels[item.label] for item in dataset.items} == set(ferplus.LABELS) - {"neutral"}
