# SPDX-License-Identifier: Apache-2.0
"""Scoring and calibration on annotated films that are written here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

import zoo
from zoo import registry
from zoo.bundle import open_bundle
from zoo.cli import cli
from zoo.curves import judged
from zoo.data import Excerpt
from zoo.data.films import Annotated, read, read_films
from zoo.errors import DataError, ZooError
from zoo.evaluation import evaluate_curves
from zoo.export import export_model
from zoo.export.inputs import Preprocessor
from zoo.models.movie_affect.train import train
from zoo.specs import Softmax, curves

FILMS = ("AAA", "BBB", "CCC")
SECONDS = 44


@pytest.fixture(scope="module")
def films(write_films: Callable[..., Path]) -> Path:
    return write_films(FILMS, SECONDS)


@pytest.fixture(scope="module")
def weights(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = registry.find("movie-affect-audio")[1]
    variant = msgspec.structs.replace(found, training={"batch": 16, "lr": 0.02, "epochs": 3})
    out = tmp_path_factory.mktemp("trained")
    train(variant, data=films, out=out)
    return out / "weights.safetensors"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_films_are_read_in_seconds_with_the_truth_of_each_step(films: Path) -> None:
    dataset = read(films)
    steps = 1 + int((SECONDS - 0.4) / 0.04)
    assert len(dataset.items) == 3 * (steps // 25)
    item = dataset.items[30]
    assert (item.id, item.group, item.source) == ("AAA@30", "AAA", Excerpt(films / "AAA.wav", 750, 775))
    film = read_films(films)[0]
    for head in ("arousal", "valence"):
        assert item.label[head] == tuple(film.values[head][750:775])  # type: ignore[index,call-overload]
    assert "arousal: 0 ms=" in dataset.truth(item)
    assert dataset.fingerprint() == read(films).fingerprint() != dataset.only(["AAA"]).fingerprint()


def test_without_annotations_films_with_sound_are_read_without_a_truth(films: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing in .* has sound"):
        read(tmp_path)
    (tmp_path / "films").mkdir()
    shutil.copy(films / "AAA.wav", tmp_path / "films" / "mine.wav")
    found = read(tmp_path)
    assert {item.group for item in found.items} == {"mine.wav"}
    assert all(item.label == {} for item in found.items)
    (tmp_path / "films" / "broken.flac").write_bytes(b"fLaC" + bytes(40))
    with pytest.raises(DataError, match=r"broken\.flac"):
        read(tmp_path)


def test_a_film_without_sound_is_passed_over(data_root: Path) -> None:
    if not (data_root / "video" / "bikes.mp4").is_file():
        pytest.skip("no ../shared/data/video")
    found = {item.group for item in read(data_root / "video").items}
    assert "bikes.mp4" not in found
    assert "bigbuckbunny.mp4" in found


def test_a_part_has_the_features_of_the_whole_film(films: Path) -> None:
    """Scaled by the film's extremes, not by its own."""
    card, variant = registry.find("movie-affect-audio")
    items = read(films).items
    preprocessor = Preprocessor(card, variant)
    whole = Preprocessor(card, variant).item(replace(items[0], source=films / "AAA.wav"))[0]
    for item in (items[3], items[20]):
        assert isinstance(item.source, Excerpt)
        (part,) = preprocessor.item(item)
        np.testing.assert_array_equal(part, whole[item.source.start : item.source.stop])
    late = replace(items[0], source=Excerpt(films / "AAA.wav", 10**6, 10**6 + 25))
    with pytest.raises(DataError, match="the data set counts 1000025"):
        preprocessor.item(late)


def test_figures_are_the_means_over_films_of_their_definitions() -> None:
    rng = np.random.default_rng(0)
    card, variant = registry.find("movie-affect-audio")
    decode = card.decode(variant)
    films, bins = [], {}
    for i in range(4):
        seconds = np.arange(300) * 0.04
        values = {head: rng.uniform(-1, 1, 300) for head in ("arousal", "valence")}
        films.append(Annotated(f"f{i}", Path(f"f{i}"), seconds, values))
        # Twenty steps more than are annotated: they are not scored.
        bins[Path(f"f{i}")] = {head: (rng.integers(0, 7, 320), 7) for head in values}
    found = evaluate_curves(lambda path: bins[path], films, decode)
    smooth = {head: spec.smooth for head, spec in zip(("arousal", "valence"), curves(decode), strict=True)}
    for head in ("arousal", "valence"):
        own = [
            judged(
                np.minimum(((film.values[head] + 1) * 3.5).astype(int), 6),
                bins[film.path][head][0][:300],
                count=7,
                smooth=smooth[head],
            )
            for film in films
        ]
        for name in ("accuracy", "accuracy±1", "MAE", "MSE", "Pearson"):
            values = [one[name] for one in own]
            assert found.metrics[f"{head}/{name}"] == pytest.approx(np.mean(values))
            low, high = found.intervals[f"{head}/{name}"]
            assert min(values) <= low <= found.metrics[f"{head}/{name}"] <= high <= max(values)
    assert found.steps == {f"f{i}": 300 for i in range(4)}
    flat = Annotated("flat", Path("f0"), np.arange(300) * 0.04, {h: np.zeros(300) for h in smooth})
    alone = evaluate_curves(lambda path: bins[path], [flat], decode)
    assert np.isnan(alone.metrics["arousal/Pearson"])
    assert alone.intervals == {}
    with pytest.raises(DataError, match="no films"):
        evaluate_curves(lambda path: bins[path], [], decode)
    with pytest.raises(ZooError, match="no curves"):
        evaluate_curves(lambda path: bins[path], films, Softmax(output="x"))


def test_zoo_eval_scores_films(bundle: Path, films: Path, tmp_path: Path) -> None:
    told = json.loads(run("eval", bundle, "--data", films, "--json").stdout)
    assert told["n"] == 3
    assert told["metrics"]["arousal/accuracy"] > 0.7  # a guess of one bin: 0.5
    film = read_films(films)[1]
    series = zoo.load(bundle)(film.path).heads["valence"].series
    assert series is not None
    true = film.bins(series.seconds, count=7)["valence"]
    assert told["films"]["BBB"]["valence/accuracy"] == np.mean(series.bins[: len(true)] == true)
    text = run("eval", bundle, "--data", films)
    assert text.exit_code == 0
    assert "valence/MSE" in text.stdout
    assert "95 % over films" in text.stdout
    for arguments, exit_code, message in (
        (("--data", tmp_path / "none"), 3, "no such folder"),
        (("--data", films, "--reader", "emodb"), 3, "scored on films, not on emodb"),
        (("--data", tmp_path), 3, r"no intended3_<film>.csv"),
    ):
        refused = run("eval", bundle, *arguments)
        assert refused.exit_code == exit_code
        assert message in refused.stderr


def test_other_models_are_not_scored_on_films(films: Path) -> None:
    refused = run("eval", "tim-net-emodb", "--data", films, "--reader", "films")
    assert refused.exit_code == 3
    assert "data set films has labels arousal, valence" in refused.stderr


def test_int8_is_calibrated_on_films(bundle: Path, weights: Path, films: Path, tmp_path: Path) -> None:
    made = export_model(
        "movie-affect-audio",
        target="cpu-x86",
        precision="int8",
        out=tmp_path / "int8",
        weights=weights,
        data=films,
    )
    manifest = open_bundle(made.path).manifest
    assert manifest.calibration is not None
    assert manifest.calibration.data == "films"
    assert len(manifest.calibration.items) == len(read(films).items)
    assert any("not verified" in note for note in manifest.notes)
    own = json.loads(run("eval", made.path, "--data", films, "--json").stdout)["metrics"]
    full = json.loads(run("eval", bundle, "--data", films, "--json").stdout)["metrics"]
    for head in ("arousal", "valence"):
        assert own[f"{head}/accuracy"] == pytest.approx(full[f"{head}/accuracy"], abs=0.02)
