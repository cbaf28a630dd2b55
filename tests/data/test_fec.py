# SPDX-License-Identifier: Apache-2.0
"""Google's FEC list, on files written here."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data import fec
from zoo.errors import DataError


def row(answers: list[int], kind: str = fec.TYPES[1]) -> list[str]:
    faces = [cell for name in "abc" for cell in (f"http://x/{name}.jpg", "0.25", "0.75", "0.1", "0.9")]
    return [
        *faces,
        kind,
        *(cell for number, answer in enumerate(answers) for cell in (f"annotator{number}", str(answer))),
    ]


def write(path: Path, *rows: list[str]) -> Path:
    path.write_text("".join(",".join(cells) + "\n" for cells in rows))
    return path


def test_the_odd_one_is_what_most_named_and_the_pair_keeps_its_order(tmp_path: Path) -> None:
    (found,) = fec.read(write(tmp_path / "fec.csv", row([2, 2, 1, 2, 3, 2])))
    assert [face.url[-5] for face in (*found.alike, found.odd)] == ["a", "c", "b"]
    assert (found.classes, found.answers) == (2, (2, 2, 1, 2, 3, 2))
    assert found.agreement == pytest.approx(4 / 6)
    assert found.odd.pixels(400, 200) == pytest.approx((100, 20, 300, 180))


@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.sampled_from(fec.TYPES))
def test_any_answers(tmp_path_factory: pytest.TempPathFactory, answers: list[int], kind: str) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any.csv", row(answers, kind))
    counts = sorted((answers.count(face) for face in (1, 2, 3)), reverse=True)
    found = fec.read(path)
    if counts[0] == counts[1]:
        assert found == []
    else:
        assert answers.count(1 + "abc".index(found[0].odd.url[-5])) == counts[0]
        assert found[0].classes == 1 + fec.TYPES.index(kind)


def test_weak_majorities_can_be_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "fec.csv", row([1, 1, 1, 1, 2, 3]), row([1, 1, 1, 2, 2, 3]), row([1, 2, 1, 2, 1, 2])
    )
    assert len(fec.read(path)) == 2
    assert len(fec.read(path, least=2 / 3)) == 1


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (row([1])[:17], "row 1: 17 columns; a triplet with one answer has 18"),
        (row([1], "TRIPLET"), "type 'TRIPLET'; expected one of ONE_CLASS_TRIPLET"),
        (row([4]), "answers are 4; each must be 1, 2 or 3"),
        ([*row([1])[:1], "0.9", *row([1])[2:]], r"box 0.9, 0.75, 0.1, 0.9; expected x_left < x_right"),
        ([*row([1])[:1], "left", *row([1])[2:]], "could not convert string to float: 'left'"),
    ],
)
def test_a_wrong_row_is_told(tmp_path: Path, cells: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fec.read(write(tmp_path / "fec.csv", cells))


def test_no_list_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a readable list"):
        fec.read(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("\n")
    with pytest.raises(DataError, match="has no triplet"):
        fec.read(tmp_path / "empty.csv")
