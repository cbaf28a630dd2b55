# SPDX-License-Identifier: Apache-2.0
"""The trainer on a small corpus of tones that the test writes, and the report of several heads."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from zoo import crossval, metrics, registry
from zoo.data import emodb
from zoo.errors import DataError, ZooError
from zoo.models.ser_embedding_small import train as trainer
from zoo.models.ser_embedding_small.model import build

soundfile = pytest.importorskip("soundfile")
NAME = "ser-embedding-small"
SPEAKERS = ("03", "08", "09")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """42 clips of a third of a second: one pitch for each label, one decay for each speaker."""
    folder = tmp_path_factory.mktemp("data") / "emodb"
    (folder / "first2s").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["utterance,emotion,speaker,text"]
    time = np.arange(7350) / 22050
    for s, speaker in enumerate(SPEAKERS):
        for k, emotion in enumerate(emodb.LABELS):
            for take in range(2):
                wave = np.sin(2 * np.pi * 150 * 1.5**k * time) * np.exp(-time * (1 + s))
                wave += rng.standard_normal(len(time)) * 0.02 * (1 + take)
                name = f"{speaker}{k}{take}"
                soundfile.write(folder / "first2s" / f"{name}.flac", (0.4 * wave).astype(np.float32), 22050)
                rows.append(f"{name},{emotion},{speaker},a01")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def variant(**training: object) -> Any:
    card = registry.find(NAME)[1]
    return msgspec.structs.replace(
        card,
        config={"classes": 7, "widths": [4, 8]},
        training={"epochs": 2, "batch": 14, "mixup": 0.3, "mask_bands": 8, "mask_frames": 4, **training},
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".safetensors"}


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The intervals' 10,000 resamples would take most of the time."""
    monkeypatch.setattr(metrics, "bootstrap_interval", functools.partial(metrics.bootstrap_interval, n=100))


class Stop(Exception):
    """Stands for a kill in the middle of a training."""


def test_loso_reports_each_head_and_the_constant_beside_it(corpus: Path, tmp_path: Path) -> None:
    report = trainer.train(variant(), data=corpus, out=tmp_path, protocol="loso")
    assert [(fold.fold, fold.n, fold.n_train) for fold in report.folds] == [(s, 14, 28) for s in SPEAKERS]
    document = json.loads((tmp_path / report.result).read_text())
    items = json.loads((tmp_path / str(report.predictions)).read_text())["items"]
    assert len(items) == document["n"] == 42
    found = report.metrics
    ages = [emodb.SPEAKERS[item["fold"]][1] for item in items]
    for head in ("emotion", "sex"):
        pairs = [[item[kind][head] for item in items] for kind in ("label", "predicted")]
        names = sorted(set(pairs[0]))
        truth, given = ([[*names, *pairs[1]].index(name) for name in names_of] for names_of in pairs)
        assert found[f"{head}/UAR"] == pytest.approx(metrics.uar(truth, given))
        labels = document["confusion"][head]["labels"]
        matrix = np.array(document["confusion"][head]["rows_are_truth"])
        assert matrix.sum() == 42
        assert np.trace(matrix) == sum(a == b for a, b in zip(*pairs, strict=True))
        assert len(labels) == len(matrix)
    errors = [abs(item["predicted"]["age"][0] - age) for item, age in zip(items, ages, strict=True)]
    assert found["age/MAE"] == pytest.approx(np.mean(errors))
    means = {s: np.mean([emodb.SPEAKERS[o][1] for o in SPEAKERS if o != s]) for s in SPEAKERS}
    constant = np.mean([abs(emodb.SPEAKERS[s][1] - mean) for s, mean in means.items()])
    assert found["age/MAE of the training mean"] == pytest.approx(constant)
    parts = [found["emotion/UAR"], found["sex/UAR"], 1 / found["age/MAE"]]
    assert found["heads-mean"] == pytest.approx(np.mean(parts))
    assert {"heads-mean", "heads-mean by speaker", "age/MAE by speaker"} <= set(report.intervals)
    low, high = report.intervals["age/MAE"]
    assert low <= found["age/MAE"] <= high
    # One speaker has one age: what needs several is not there.
    assert all("age/Pearson" not in fold.metrics for fold in report.folds)
    assert all(math.isfinite(value) for fold in report.folds for value in fold.metrics.values())


def test_fold_models_give_the_reported_answers(corpus: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    made = variant()
    report = trainer.train(made, data=corpus, out=tmp_path, protocol="loso", folds=["08"])
    read = crossval.read_corpus(made, corpus, augment=None, seed=0)
    tensors = load_file(tmp_path / str(report.weights))
    state = {name.removeprefix("fold/08/"): torch.from_numpy(value) for name, value in tensors.items()}
    net = build(made.config).eval()
    net.load_state_dict(state, strict=True)
    rows = [i for i, group in enumerate(read.groups) if group == "08"]
    with torch.no_grad():
        emotion, sex, age, _ = net(torch.from_numpy(read.features[0][rows]))
    items = json.loads((tmp_path / str(report.predictions)).read_text())["items"]
    expected = torch.cat([emotion, sex, age], dim=1).numpy()
    np.testing.assert_allclose([item["probabilities"] for item in items], expected, atol=1e-4)
    assert [item["predicted"]["sex"] for item in items] == [emodb.SEXES[int(i)] for i in sex.argmax(dim=1)]


def test_the_held_out_items_change_nothing(corpus: Path, tmp_path: Path) -> None:
    trainer.train(variant(), data=corpus, out=tmp_path / "a", protocol="loso", folds=["08"])
    other = tmp_path / "other"
    (other / "first2s").mkdir(parents=True)
    (other / "labels.csv").write_text((corpus / "labels.csv").read_text())
    for clip in (corpus / "first2s").iterdir():
        name = f"09{clip.name[2:]}" if clip.name.startswith("08") else clip.name
        (other / "first2s" / clip.name).write_bytes((corpus / "first2s" / name).read_bytes())
    trainer.train(variant(), data=other, out=tmp_path / "b", protocol="loso", folds=["08"])
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_same_seed_same_bytes_whatever_the_threads(corpus: Path, tmp_path: Path) -> None:
    for name, threads in (("a", 1), ("b", 3)):
        trainer.train(variant(epochs=1), data=corpus, out=tmp_path / name, protocol="loso", threads=threads)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    trainer.train(variant(epochs=1), data=corpus, out=tmp_path / "c", protocol="loso", seed=47)
    assert files(tmp_path / "a") != files(tmp_path / "c")


def test_finished_folds_are_kept_after_a_kill(corpus: Path, tmp_path: Path) -> None:
    recipe = variant(
        augment={"copies": 1, "snr_db": [15, 30], "speed": [0.9, 1.1], "shift": 0.1, "keep_length": True}
    )
    trainer.train(recipe, data=corpus, out=tmp_path / "whole", protocol="loso")

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "fold loso/09" and done == 1:
            raise Stop

    with pytest.raises(Stop):
        trainer.train(recipe, data=corpus, out=tmp_path / "parts", protocol="loso", progress=kill)
    seen: list[str] = []
    trainer.train(
        recipe,
        data=corpus,
        out=tmp_path / "parts",
        protocol="loso",
        progress=lambda stage, done, _: seen.append(stage) if "fold" in stage else None,
    )
    assert set(seen) == {"fold loso/09"}
    assert files(tmp_path / "whole") == files(tmp_path / "parts")


def test_damaged_and_foreign_checkpoints_are_refused(corpus: Path, tmp_path: Path) -> None:
    trainer.train(variant(epochs=1), data=corpus, out=tmp_path)
    (checkpoint,) = (tmp_path / "checkpoints").iterdir()
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(DataError, match="is no checkpoint"):
        trainer.train(variant(epochs=1), data=corpus, out=tmp_path)
    trainer.train(variant(epochs=1), data=corpus, out=tmp_path, resume=False)
    trainer.train(variant(epochs=1, lr=0.1), data=corpus, out=tmp_path)
    (foreign,) = set((tmp_path / "checkpoints").iterdir()) - {checkpoint}
    checkpoint.write_bytes(foreign.read_bytes())
    with pytest.raises(DataError, match="checkpoint of another training"):
        trainer.train(variant(epochs=1), data=corpus, out=tmp_path)


def test_what_cannot_be_trained_is_said(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no fold 99; there are 03, 08, 09"):
        trainer.train(variant(), data=corpus, out=tmp_path, protocol="loso", folds=["99"])
    with pytest.raises(DataError, match="no protocol 'best'"):
        trainer.train(variant(), data=corpus, out=tmp_path, protocol="best")  # type: ignore[arg-type]
    with pytest.raises(ZooError, match="training table is not valid"):
        trainer.train(variant(patience=3), data=corpus, out=tmp_path)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    drop = trainer.Dropout(0.3, torch.Generator().manual_seed(0))
    x = torch.ones(400, 1000)
    y = drop(x)
    assert float((y == 0).float().mean()) == pytest.approx(0.3, abs=0.005)  # sigma 0.0007
    assert float(y.mean()) == pytest.approx(1, abs=0.005)
    torch.testing.assert_close(drop.eval()(x), x)


def test_altered_clips_keep_their_length() -> None:
    samples = np.sin(np.arange(22050, dtype=np.float32))
    augment = crossval.Augment(copies=1, speed=(0.8, 1.2), shift=0.2, keep_length=True)
    for seed in range(20):
        out, rate = crossval.alter(samples, 22050, augment, np.random.default_rng(seed))
        assert len(out) == math.ceil(len(samples) * rate / 22050)
        assert out.dtype == np.float32
