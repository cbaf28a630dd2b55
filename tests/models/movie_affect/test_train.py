# SPDX-License-Identifier: Apache-2.0
"""Training of the fusion nets on films written here, whose arousal is their loudness."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

from zoo import registry
from zoo.curves import bins_of, curve, judged
from zoo.errors import DataError, InputError, ZooError
from zoo.models.movie_affect.train import train
from zoo.specs import Smooth

FILMS = ("AAA", "BBB", "CCC")


@pytest.fixture(scope="module")
def films(write_films: Callable[..., Path]) -> Path:
    return write_films(FILMS, 8)


def variant(name: str = "movie-affect-audio", **training: Any) -> Any:
    found = registry.find(name)[1]
    return msgspec.structs.replace(found, training={"batch": 16, "lr": 0.02, "epochs": 8, **training})


def test_leaving_one_film_out_learns_and_never_watches_it(films: Path, tmp_path: Path) -> None:
    result = train(variant(), data=films, out=tmp_path, protocol="loso")
    assert set(result.films) == set(FILMS)
    assert result.validation == {"AAA": "BBB", "BBB": "CCC", "CCC": "AAA"}
    assert result.metrics["arousal/accuracy"] > 0.7  # a guess of one bin: 0.5
    assert set(result.metrics) == {
        f"{head}/{figure}"
        for head in ("arousal", "valence")
        for figure in ("accuracy", "accuracy±1", "MAE", "MSE", "Pearson")
    }
    text = (tmp_path / "results.json").read_text("utf-8")
    assert "NaN" not in text  # the curves of films so short are flat: no correlation
    assert json.loads(text)["command"].endswith("--protocol loso")
    written = json.loads(text)["films"]["AAA"]
    assert written["arousal/Pearson"] is None
    assert written["arousal/MAE"] == result.films["AAA"]["arousal/MAE"]
    # what was there stays: the held-out film's own labels change its figures, not its weights
    before = load_file(tmp_path / "AAA.safetensors")
    changed = tmp_path / "changed"
    changed.mkdir()
    for path in films.iterdir():
        text = path.name == "intended3_AAA.csv"
        rows = path.read_text("utf-8").split("\n") if text else []
        other = "\n".join(",".join((row.split(",")[0], "0.5", "-0.5")) for row in rows).encode()
        (changed / path.name).write_bytes(other if text else path.read_bytes())
    again = train(variant(), data=changed, out=tmp_path / "again", protocol="loso", folds=["AAA"])
    after = load_file(tmp_path / "again" / "AAA.safetensors")
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    assert again.films["AAA"]["arousal/accuracy"] != result.films["AAA"]["arousal/accuracy"]


def test_finished_folds_are_kept_where_nothing_changed(films: Path, tmp_path: Path) -> None:
    one = variant(epochs=1)
    first = train(one, data=films, out=tmp_path, protocol="loso", folds=["BBB"])
    stamp = (tmp_path / "BBB.safetensors").stat().st_mtime_ns
    again = train(one, data=films, out=tmp_path, protocol="loso", folds=["BBB"])
    np.testing.assert_equal(again.films, first.films)
    assert (tmp_path / "BBB.safetensors").stat().st_mtime_ns == stamp
    train(one, data=films, out=tmp_path, protocol="loso", folds=["BBB"], seed=2)
    assert (tmp_path / "BBB.safetensors").stat().st_mtime_ns != stamp


def test_the_final_model_of_an_lstm_can_be_exported(films: Path, tmp_path: Path) -> None:
    from zoo.export.weights import load_weights

    result = train(variant("movie-affect-audio-lstm", epochs=1), data=films, out=tmp_path)
    assert result.metrics == {}
    assert result.validation == {"final": "CCC"}
    card, lstm = registry.find("movie-affect-audio-lstm")
    assert load_weights(card, lstm, tmp_path / "weights.safetensors").status == "trained"


def test_what_cannot_be_trained_is_told(films: Path, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="left out one by one"):
        train(variant(), data=films, out=tmp_path, protocol="kfold")
    with pytest.raises(DataError, match=r"no film is called ZZZ; there are AAA, BBB, CCC"):
        train(variant(), data=films, out=tmp_path, protocol="loso", folds=["ZZZ"])
    with pytest.raises(ZooError, match=r"training table is not valid: .*unknown field `rate`"):
        train(variant(rate=1), data=films, out=tmp_path)
    two = tmp_path / "two"
    two.mkdir()
    for path in films.iterdir():
        if "CCC" not in path.name:
            (two / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="2 films below"):
        train(variant(), data=two, out=tmp_path)


def test_figures_are_those_of_their_definitions() -> None:
    truth, found = np.array([0, 1, 2, 3, 4, 5, 6, 6]), np.array([0, 2, 2, 6, 4, 4, 3, 6])
    figures = judged(truth, found, count=7)
    assert figures["accuracy"] == 4 / 8
    assert figures["accuracy±1"] == 6 / 8
    gap = (truth - found) / 3
    assert figures["MAE"] == pytest.approx(np.abs(gap).mean())
    assert figures["MSE"] == pytest.approx((gap**2).mean())
    assert figures["Pearson"] == pytest.approx(np.corrcoef(truth, found)[0, 1])
    smooth = Smooth(mean=3, median=3)
    smoothed = judged(truth, found, count=7, smooth=smooth)
    wanted = np.abs(curve(truth, count=7, smooth=Smooth(median=3)) - curve(found, count=7, smooth=smooth))
    assert smoothed["MAE"] == pytest.approx(wanted.mean(), rel=1e-6)
    assert bins_of([-1, -0.715, -0.714, 0, 1], count=7).tolist() == [0, 0, 1, 3, 6]
    with pytest.raises(InputError, match="must lie in -1 to 1"):
        bins_of([0, 1.01], count=7)
