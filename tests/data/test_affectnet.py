# SPDX-License-Identifier: Apache-2.0
"""AffectNet's two layouts, on files written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo.data import affectnet
from zoo.errors import DataError

HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rows = {
        "train_set": [(0, "1", "0.5", "0.1"), (1, 7, -0.4, 0.2), (2, "6", "-2", "-2")],
        "val_set": [(0, 2, -0.9, -0.5)],
    }
    for name, faces in rows.items():
        for folder in ("images", "annotations"):
            (tmp_path / name / folder).mkdir(parents=True)
        for number, *values in faces:
            (tmp_path / name / "images" / f"{number}.jpg").write_bytes(b"jpeg")
            for kind, value in zip(("exp", "val", "aro"), values, strict=True):
                np.save(tmp_path / name / "annotations" / f"{number}_{kind}.npy", np.array(value))
    return tmp_path


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    folder = tmp_path / "Manually_Annotated_Images" / "12"
    folder.mkdir(parents=True)
    rows = [("12/a.jpg", 1, 0.8, 0.2), ("12/b.jpg", 9, -2, -2), ("12/c.jpg", 7, -0.3, 0.1)]
    for name, *_ in rows:
        (tmp_path / "Manually_Annotated_Images" / name).write_bytes(b"jpeg")
    for name, part in (("training.csv", rows), ("validation.csv", rows[:1])):
        lines = [f"{path},1,2,30,40,1;2;3,{number},{v},{a}\n" for path, number, v, a in part]
        (tmp_path / name).write_text(HEADER + "".join(lines))
    return tmp_path


def test_files_give_class_split_and_affect_where_known(files: Path) -> None:
    found = affectnet.read(files)
    assert found.labels == affectnet.LABELS
    assert [(item.id, item.label, item.group) for item in found.items] == [
        ("train/0", 1, "train"), ("train/1", 7, "train"), ("train/2", 6, "train"), ("valid/0", 2, "valid"),
    ]  # fmt: skip
    assert found.items[0].source == files / "train_set" / "images" / "0.jpg"
    both = affectnet.read(files, heads=True)
    assert both.items[0].label == {"expression": 1, "affect": (0.5, 0.1)}
    assert both.items[2].label == {"expression": 6}
    assert both.heads["affect"] == ("valence", "arousal")
    assert [item.id for item in affectnet.read(files, classes=7, splits=("train",)).items] == [
        "train/0",
        "train/2",
    ]


def test_the_list_leaves_out_what_is_no_expression(listed: Path) -> None:
    found = affectnet.read(listed)
    assert [(item.id, item.label) for item in found.items] == [
        ("train/12/a.jpg", 1), ("train/12/c.jpg", 7), ("valid/12/a.jpg", 1),
    ]  # fmt: skip
    assert found.items[0].source == listed / "Manually_Annotated_Images" / "12" / "a.jpg"


def test_what_is_missing_or_damaged_is_told(files: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"splits are train, valid and classes 7 or 8; got test, 8"):
        affectnet.read(files, splits=("test",))
    with pytest.raises(DataError, match=r"neither .*annotations nor .*training.csv"):
        affectnet.read(files / "val_set")
    (files / "val_set" / "annotations" / "0_val.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"0_val.npy: not one number"):
        affectnet.read(files)
    np.save(files / "train_set" / "annotations" / "0_exp.npy", np.array("11"))
    with pytest.raises(DataError, match=r"expression 11.0 is no whole number from 0 to 10"):
        affectnet.read(files)
    (files / "train_set" / "images" / "0.jpg").unlink()
    with pytest.raises(DataError, match=r"0_exp.npy is there, .*0.jpg is not"):
        affectnet.read(files)


def test_a_wrong_list_is_told(listed: Path) -> None:
    table = listed / "training.csv"
    table.write_text(HEADER + "12/a.jpg,1,2,3,4,,happy,0,0\n")
    with pytest.raises(DataError, match="line 2: could not convert string to float: 'happy'"):
        affectnet.read(listed)
    table.write_text(HEADER + "12/gone.jpg,1,2,3,4,,1,0,0\n")
    with pytest.raises(DataError, match=r"line 2: .*gone.jpg is not there"):
        affectnet.read(listed)
    table.write_text("path,expression\n")
    with pytest.raises(DataError, match="no column subDirectory_filePath, valence, arousal"):
        affectnet.read(listed)
    table.write_text(HEADER + "12/b.jpg,1,2,3,4,,9,-2,-2\n")
    with pytest.raises(DataError, match="no face of"):
        affectnet.read(listed, splits=("train",))
