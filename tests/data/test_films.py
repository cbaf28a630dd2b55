# SPDX-License-Identifier: Apache-2.0
"""Readers of annotated films, on files written in the two layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.data.films import read_films
from zoo.errors import DataError


def cognimuse(folder: Path, film: str, rows: list[tuple[float, float]], *, header: bool = False) -> None:
    lines = [f"{film}_{i:05d}.jpg,{valence},{arousal}" for i, (valence, arousal) in enumerate(rows)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"intended3_{film}.csv").write_text(
        "\n".join([*(["frame,valence,arousal"] if header else []), *lines]) + "\n", encoding="utf-8"
    )


def liris(folder: Path, number: int, rows: list[tuple[float, float]], *, index: bool = False) -> str:
    film = f"MEDIAEVAL18_{number:02d}"
    lines = [
        (f"{t}\t" if index else "") + f"{t}\t{valence}\t{arousal}"
        for t, (valence, arousal) in enumerate(rows)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    header = "Movie\tTime\tValence\tArousal" if index else "Time\tValence\tArousal"
    (folder / f"{film}_Valence-Arousal.txt").write_text("\n".join([header, *lines]), encoding="utf-8")
    return film


@pytest.mark.parametrize("header", [False, True])
def test_cognimuse_has_a_row_a_frame(header: bool, tmp_path: Path) -> None:
    cognimuse(tmp_path / "annotations", "BMI", [(0.5, -1), (0.25, 0), (-1, 1)], header=header)
    (tmp_path / "BMI.mp4").touch()
    (film,) = read_films(tmp_path)
    assert (film.name, film.path) == ("BMI", tmp_path / "BMI.mp4")
    np.testing.assert_allclose(film.seconds, [0, 0.04, 0.08])
    assert film.values["valence"].tolist() == [0.5, 0.25, -1]
    assert film.values["arousal"].tolist() == [-1, 0, 1]


@pytest.mark.parametrize("index", [False, True])
def test_liris_has_a_row_a_second(index: bool, tmp_path: Path) -> None:
    name = liris(tmp_path / "DevSet" / "annotations", 7, [(0.1, 0.2), (0.3, -0.2), (0.5, 0.0)], index=index)
    (tmp_path / "DevSet" / f"{name}.MP4").touch()
    (film,) = read_films(tmp_path)
    assert film.seconds.tolist() == [0, 1, 2]
    between = film.at(np.array([0.5, 2.0, 9.0]))
    np.testing.assert_allclose(between["valence"], [0.2, 0.5, 0.5])
    np.testing.assert_allclose(between["arousal"], [0.0, 0.0, 0.0], atol=1e-12)


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no intended3_<film>\.csv"):
        read_films(tmp_path)
    cognimuse(tmp_path, "BMI", [(0, 0), (0, 0)])
    with pytest.raises(DataError, match=r"has no film of it below"):
        read_films(tmp_path)
    (tmp_path / "BMI.wav").touch()
    (tmp_path / "BMI.mp4").touch()
    with pytest.raises(DataError, match=r"has 2 films of it"):
        read_films(tmp_path)
    (tmp_path / "BMI.mp4").unlink()
    cognimuse(tmp_path / "again", "BMI", [(0, 0), (0, 0)])
    with pytest.raises(DataError, match=r"are both of BMI"):
        read_films(tmp_path)
    (tmp_path / "again" / "intended3_BMI.csv").unlink()
    cognimuse(tmp_path, "BMI", [(0, 0), (0, 1.5)])
    with pytest.raises(DataError, match=r"line 2: valence 0, arousal 1\.5; both must lie in -1 to 1"):
        read_films(tmp_path)
    cognimuse(tmp_path, "BMI", [(0, 0)])
    with pytest.raises(DataError, match=r"has 1 rows; at least two"):
        read_films(tmp_path)
    (tmp_path / "intended3_BMI.csv").write_text("f,0,0\nf,0\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2: 'f,0'; expected frame name, valence, arousal"):
        read_films(tmp_path)
    (tmp_path / "intended3_BMI.csv").write_bytes(b"f,0,0\n\xff")
    with pytest.raises(DataError, match=r"cannot read"):
        read_films(tmp_path)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    text=st.text(max_size=200),
    kind=st.sampled_from(["intended3_A.csv", "MEDIAEVAL18_01_Valence-Arousal.txt"]),
)
def test_any_content_gives_films_or_a_data_error(
    text: str, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("films")
    (folder / kind).write_text(text, encoding="utf-8", errors="replace")
    (folder / ("A.wav" if kind.endswith("csv") else "MEDIAEVAL18_01.wav")).touch()
    try:
        (film,) = read_films(folder)
    except DataError:
        return
    assert len(film.seconds) >= 2
    assert all(np.abs(values).max() <= 1 for values in film.values.values())
