# SPDX-License-Identifier: Apache-2.0
"""From a film to curves: conversion, bundle, runtime, commands."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import zoo
from zoo import ops, registry
from zoo.cli import cli
from zoo.curves import curve
from zoo.errors import InputError
from zoo.models.movie_affect.model import HEADS, build
from zoo.pipeline import Pipeline
from zoo.runtime.prediction import numbers
from zoo.specs import curves

CLIPS = ("bigbuckbunny.mp4", "moviepy_big_buck_bunny_0_30.webm", "moviepy_chaplin.mp4")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as ``zoo convert`` writes them, from seeded nets; bins of both ends occur."""
    from zoo.export import convert_model

    folder = tmp_path_factory.mktemp("movie")
    checkpoints = []
    for seed, head in enumerate(HEADS):
        torch.manual_seed(seed)
        state = dict(build({"net": "2fc", "modalities": ["audio"]}).get_submodule(head).state_dict())
        state["reduced_rgb.weight"] = state.pop("reduced_audio.weight")
        checkpoints.append(folder / f"T_{head}.pth")
        torch.save(state, checkpoints[-1])
    return convert_model("movie-affect-audio", checkpoints, folder / "weights.safetensors").path


@pytest.fixture(scope="module")
def model(bundle: Path) -> zoo.Model:
    return zoo.load(bundle)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, int]:
    """Half a minute of sound whose character changes, from the card's golden clips."""
    card, _ = registry.find("movie-affect-audio")
    parts = [
        ops.resample(ops.read_audio(card.path(n))[0].reshape(-1), *r) for n, r in _mono(card.file.golden)
    ]
    return np.tile(np.concatenate(parts), 5).astype(np.float32), 22050


def _mono(names: tuple[str, ...]) -> list[tuple[str, tuple[int, int]]]:
    return [(name, (int(name.split("_")[1].split(".")[0]), 22050)) for name in names if "stereo" not in name]


def test_a_film_gives_two_curves(model: zoo.Model, clip: tuple[np.ndarray, int]) -> None:
    assert model.selftest().passed
    found = model(clip)
    features = model.pipeline.run(*clip)
    n = len(features)
    assert n == 1 + (1 + (round(len(clip[0]) * 16000 / 22050) - 960) // 160 - 40) // 4
    assert (found.label, found.scores, found.series) == (None, {}, None)
    assert list(found.heads) == ["arousal", "valence"]
    expected = model.run_engine(features[None])
    for (name, head), spec in zip(found.heads.items(), curves(model.manifest.decode), strict=True):
        series = head.series
        assert series is not None
        np.testing.assert_allclose(found.outputs[name], expected[name][0], atol=1e-5)
        np.testing.assert_array_equal(series.bins, found.outputs[name].argmax(1))
        np.testing.assert_allclose(series.seconds, np.arange(n) * 0.04)
        np.testing.assert_array_equal(series.values, curve(series.bins, count=7, smooth=spec.smooth))
        assert (series.window, series.count) == (0.4, 7)
        assert len(set(series.bins.tolist())) > 1
    named = numbers(found, found.heads)
    assert len(named) == 2 * n
    assert named["valence/7"] == pytest.approx(float(found.heads["valence"].series.values[7]))
    timing = found.timing
    assert timing.preprocess > timing.engine > 0
    assert timing.total >= timing.preprocess + timing.engine


def test_the_length_of_engine_calls_changes_nothing(
    bundle: Path, clip: tuple[np.ndarray, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = zoo.load(bundle)(clip)
    from zoo.bundle import open_bundle
    from zoo.runtime.curves import StepRunner
    from zoo.runtime.engines import EngineOptions, open_engine

    opened = open_bundle(bundle)
    engine = open_engine(opened, EngineOptions(threads=1, strict=True))
    for steps in (1, 17, 1000):
        opened.manifest.key.profile["time"] = (1, 1, steps)
        outputs, seconds = StepRunner(opened, engine).run(_sound(clip))
        assert min(seconds.values()) >= 0
        for name, array in outputs.items():
            np.testing.assert_allclose(array, whole.outputs[name], atol=1e-5)


def _sound(clip: tuple[np.ndarray, int]) -> Any:
    from zoo.media import Film, of_samples

    return Film(of_samples(*clip))


def test_real_clips_with_sound_go_from_end_to_end(model: zoo.Model, data_root: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    folder = data_root / "video"
    if not folder.is_dir():
        pytest.skip(f"real clips not at hand: {folder}")
    for name, steps in zip(CLIPS, (122, 740, 230), strict=True):
        found = model(folder / name)
        assert {len(head.series.values) for head in found.heads.values() if head.series} == {steps}
        assert set(found.timing.stages) == {"decode features", "preprocess features", "engine"}
    with pytest.raises(InputError, match=r"bikes\.mp4: it has no sound"):
        model(folder / "bikes.mp4")


def test_memory_does_not_grow_with_the_film(bundle: Path, golden_folder: Path) -> None:
    script = Path(__file__).resolve().parents[3] / "benchmarks" / "film_length.py"
    figures = []
    for hours in ("0.13", "0.39"):
        done = subprocess.run(
            [
                sys.executable,
                str(script),
                str(bundle),
                str(golden_folder / "excited_16000.flac"),
                "--hours",
                hours,
                "--json",
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        figures.append(json.loads(done.stdout))
    short, long = figures
    assert (short["steps"], long["steps"]) == (1 + (46795 - 40) // 4, 1 + (140395 - 40) // 4)
    # 23,400 more steps have 148 MB of rows and 60 MB of samples.
    assert long["peak"] - short["peak"] < 25e6
    assert long["rtf"]["total"] < 1  # a hundredth on an idle core; the machine may be busy


def test_what_is_too_short_or_of_another_kind_is_told(model: zoo.Model, clip: tuple[np.ndarray, int]) -> None:
    with pytest.raises(InputError, match="fewer than a window of 40"):
        model((clip[0][: 22050 // 3], 22050))
    with pytest.raises(InputError, match="input is ndarray; give a file path"):
        model(clip[0])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot stream"):
        next(model.stream([clip[0]], rate=22050))
    first, second = model.batch([clip, (clip[0][:44100], 22050)])
    assert len(first.outputs["arousal"]) > len(second.outputs["arousal"]) == 1 + (195 - 40) // 4


def test_commands(bundle: Path, tmp_path: Path, golden_folder: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    clip = str(golden_folder / "calm_22050.flac")
    run = CliRunner().invoke
    result = run(cli, ["run", str(bundle), clip, clip, "--csv", str(tmp_path / "c.csv")])
    assert result.exit_code == 0, result.output
    assert "arousal" in result.stdout
    assert "51 steps, mean" in result.stdout
    assert result.stderr.count("its curve has 2.04 s, less than the 52.8 s of the model's own mean") == 2
    with (tmp_path / "c.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["input", "seconds", "arousal", "arousal_bin", "valence", "valence_bin"]
    assert len(rows) == 2 * 51
    result = run(cli, ["run", str(bundle), clip, "--json", "--smooth", "0.2"])
    assert result.stderr == ""
    (found,) = json.loads(result.stdout)
    series = found["heads"]["valence"]["series"]
    assert [row["valence_bin"] for row in rows[:51]] == [str(one) for one in series["bins"]]
    smooth = curves(zoo.load(bundle).manifest.decode)[1].smooth
    assert smooth is not None
    wanted = curve(series["bins"], count=7, smooth=type(smooth)(cutoff=3.667, rate=30.0, mean=5, median=3))
    np.testing.assert_allclose(series["values"], wanted, atol=1e-6)
    result = run(cli, ["plot", str(bundle), clip, "--out", str(tmp_path / "c.png")])
    assert result.exit_code == 0, result.output
    picture = matplotlib.image.imread(str(tmp_path / "c.png"))
    assert picture.shape[:2] == (500, 1000)
    assert run(cli, ["plot", str(bundle), clip, "--out", str(tmp_path / "c.png")]).exit_code == 1
    assert run(cli, ["run", str(bundle), clip, "--hop", "1"]).exit_code == 2
    table = tmp_path / "made" / "c.csv"
    csv_run = ["run", str(bundle), clip, "--csv"]
    assert run(cli, [*csv_run, str(table)]).exit_code == 0
    table.write_text("mine", "utf-8")
    result = run(cli, [*csv_run, str(table)])
    assert result.exit_code == 1
    assert "exists; give --force" in result.stderr
    assert table.read_text("utf-8") == "mine"
    assert run(cli, [*csv_run, str(table), "--force"]).exit_code == 0
    assert table.read_text("utf-8").startswith("input,")
    result = run(cli, [*csv_run, str(table / "below_a_file.csv")])
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
    assert run(cli, ["run", "tim-net-emodb", clip, "--csv", str(tmp_path / "d.csv")]).exit_code == 2
    assert run(cli, ["plot", "tim-net-emodb", clip, "--out", str(tmp_path / "d.png")]).exit_code == 2
    assert not (tmp_path / "d.png").exists()


def test_variants_share_pipeline_and_curves() -> None:
    card, audio = registry.find("movie-affect-audio")
    _, layers = registry.find("movie-affect-audio-2fc")
    assert audio.pipeline == layers.pipeline
    assert Pipeline(audio.pipeline).output_shape() is None
    assert [one.smooth.mean for one in curves(card.decode(audio)) if one.smooth] == [701, 1321]
