# SPDX-License-Identifier: Apache-2.0
"""The reader on trees that the test writes: the real data are given out under an agreement."""

from __future__ import annotations

import csv
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo import ops
from zoo.data import exvo
from zoo.errors import DataError

Row = dict[str, str]


def row(
    name: str, split: str, subject: str = "S1", country: str = "China", age: str = "25.5", **other: str
) -> Row:
    values = dict.fromkeys(exvo.EMOTIONS, "0.25") | {"Awe": "1.0"} | other
    return {
        "File_ID": f"[{name}]",
        "Split": split,
        "Subject_ID": subject,
        "Country": country,
        "Age": age,
        **values,
    }


def hidden(name: str) -> Row:
    """A test clip as given out: no truth, no subject."""
    return dict.fromkeys(exvo.COLUMNS, "") | {"File_ID": f"[{name}]", "Split": "Test"}


ROWS = [
    row("00012", "Train"),
    row("00007", "Val", "S2", "Venezuela", "39", Surprise="0.75"),
    hidden("58712"),
    row("00013", "Train", "S3", "2", "20"),
]


def write(folder: Path, rows: list[Row], columns: tuple[str, ...] = exvo.COLUMNS) -> Path:
    (folder / "wav").mkdir(parents=True)
    with (folder / "data_info.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="x")
        writer.writeheader()
        writer.writerows(rows)
    for i, each in enumerate(rows):
        with wave.open(str(folder / "wav" / f"{each['File_ID'].strip('[]')}.wav"), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(16000)
            out.writeframes(np.full(800, 100 * i, np.int16).tobytes())
    return folder


def test_reads_heads_groups_and_sound(tmp_path: Path) -> None:
    write(tmp_path / "exvo", ROWS)
    dataset = exvo.read(tmp_path)
    assert dataset.items == exvo.read(tmp_path / "exvo").items
    assert dataset.labels == ("emotion", "country", "age") == tuple(dataset.heads)
    assert len(dataset.heads["emotion"]) == 10
    assert dataset.heads["age"] == ("age",)
    assert [item.id for item in dataset.items] == ["00012", "00007", "58712", "00013"]
    assert [item.group for item in dataset.items] == ["S1", "S2", "[58712]", "S3"]
    first, second, test, fourth = dataset.items
    assert first.label == {"emotion": (1.0, *[0.25] * 9), "country": 0, "age": (25.5,)}
    assert second.label == {"emotion": (1.0, *[0.25] * 8, 0.75), "country": 3, "age": (39.0,)}
    assert test.label == {}
    assert fourth.label["country"] == 2
    samples, rate = ops.read_audio(second.source)
    assert rate == 16000
    assert len(samples) == 800
    assert samples[0] == pytest.approx(100 / 32768)


def test_splits_and_columns_in_any_order(tmp_path: Path) -> None:
    folder = write(tmp_path, ROWS, ("Note", *reversed(exvo.COLUMNS)))
    parts = [exvo.read(folder, split=split) for split in ("Train", "Val", "Test")]
    assert [[item.id for item in part.items] for part in parts] == [["00012", "00013"], ["00007"], ["58712"]]
    assert parts[0].items[0] == exvo.read(folder).items[0]
    assert parts[1].head("age").items[0].label == (39.0,)
    with pytest.raises(DataError, match="no split 'dev'; choose one of Train, Val, Test"):
        exvo.read(folder, split="dev")  # type: ignore[arg-type]


def test_fingerprint_follows_truth_and_sound(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", ROWS)
    before = exvo.read(folder).fingerprint()
    assert exvo.read(write(tmp_path / "b", ROWS)).fingerprint() == before
    (folder / "wav" / "00007.wav").write_bytes(b"other")
    assert exvo.read(folder).fingerprint() != before
    other = [ROWS[0] | {"Age": "26.5"}, *ROWS[1:]]
    assert exvo.read(write(tmp_path / "c", other)).fingerprint() != before


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"File_ID": "[../x]"}, r"line 5: File_ID is '\[\.\./x\]', not an id in \[ \]"),
        ({"File_ID": "[00012]"}, r"line 5: File_ID 00012 occurs twice"),
        ({"Split": "train"}, r"line 5: Split is 'train'; splits are Train, Val, Test"),
        ({"Subject_ID": ""}, r"line 5: Subject_ID is empty"),
        ({"Country": "Atlantis"}, r"line 5: Country is 'Atlantis'; countries are China, .*, or 0 to 3"),
        ({"Age": ""}, r"line 5: Age is '', not a number from 0 to 120"),
        ({"Age": "400"}, r"line 5: Age is '400', not a number from 0 to 120"),
        ({"Fear": "nan"}, r"line 5: Fear is 'nan', not a number from 0 to 1"),
        ({"Fear": "1.5"}, r"line 5: Fear is '1.5', not a number from 0 to 1"),
        ({"Split": "Test", "Awe": ""}, r"line 5: Awe is '', not a number from 0 to 1"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, bad: Row, match: str) -> None:
    rows = [*ROWS[:3], ROWS[3] | bad]
    folder = write(tmp_path / "d", ROWS)
    with (folder / "data_info.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, exvo.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(DataError, match=match):
        exvo.read(folder)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data_info\.csv in .*give the folder that holds it"):
        exvo.read(tmp_path)
    folder = write(tmp_path, ROWS)
    (folder / "wav" / "00007.wav").unlink()
    with pytest.raises(
        DataError, match=r"1 clips of data_info\.csv are missing in .*wav, the first is 00007\.wav"
    ):
        exvo.read(folder)
    table = folder / "data_info.csv"
    head, *lines = table.read_text().splitlines()
    table.write_text(head + "\n")
    with pytest.raises(DataError, match="lists no clip"):
        exvo.read(folder)
    table.write_text("\n".join([head, lines[0] + ",more"]))
    with pytest.raises(DataError, match="line 2: the number of columns is not the header's"):
        exvo.read(folder)
    table.write_text("\n".join([head.replace("Awe,", ""), *lines]))
    with pytest.raises(DataError, match="missing: Awe"):
        exvo.read(folder)
    table.write_text("\n".join([head + ",Age", *lines]))
    with pytest.raises(DataError, match="one occurs twice"):
        exvo.read(folder)
    table.write_bytes(b"File_ID,\xff\xfe")
    with pytest.raises(DataError, match="cannot read"):
        exvo.read(folder)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: (",".join(exvo.COLUMNS) + "\n" + text).encode()),
    )
)
def test_any_table_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data_info.csv").write_bytes(content)
    with pytest.raises(DataError, match="exvo: "):
        exvo.read(tmp_path)
