# SPDX-License-Identifier: Apache-2.0
"""The trainer on a small corpus of tones and noise that the test writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from zoo import crossval, registry
from zoo.errors import DataError, ZooError
from zoo.models.ser_cnn_transformer import train as trainer
from zoo.models.ser_cnn_transformer.model import build

soundfile = pytest.importorskip("soundfile")
NAME = "ser-cnn-transformer-emodb"
EMOTIONS = ("angry", "boredom", "disgust", "fear", "happy", "neutral", "sad")
SPEAKERS = ("03", "08", "09")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """42 clips of half a second: one pitch for each label, one decay for each speaker."""
    folder = tmp_path_factory.mktemp("data") / "emodb"
    (folder / "first2s").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["utterance,emotion,speaker,text"]
    time = np.arange(11025) / 22050
    for s, speaker in enumerate(SPEAKERS):
        for k, emotion in enumerate(EMOTIONS):
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
    pipeline = tuple(
        msgspec.structs.replace(op, length=24000) if hasattr(op, "crop") else op for op in card.pipeline
    )
    config = {**card.config, "frames": 47, "layers": 1}
    return msgspec.structs.replace(
        card, pipeline=pipeline, config=config, training={"epochs": 2, "batch": 16, **training}
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".safetensors"}


class Stop(Exception):
    """Stands for a kill in the middle of a training."""


def test_loso_keeps_every_model_with_its_own_statistics(corpus: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    report = trainer.train(variant(), data=corpus, out=tmp_path, protocol="loso")
    assert [(fold.fold, fold.n, fold.n_train) for fold in report.folds] == [(s, 14, 28) for s in SPEAKERS]
    assert set(report.intervals) == {"UAR", "UAR by speaker", "WAR", "WAR by speaker"}
    assert report.weights is not None
    tensors = load_file(tmp_path / report.weights)
    shifts = []
    for speaker in SPEAKERS:
        prefix = f"fold/{speaker}/"
        state = {
            name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
        }
        net = build(variant().config)
        net.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
        shifts.append(state["input_shift"])
    assert not np.allclose(shifts[0], shifts[1])
    document = json.loads((tmp_path / report.result).read_text())
    assert document["selection"] == "last epoch"
    # What the test has changed of the card is said.
    changed = "--set epochs=2 --set config.frames=47 --set config.layers=1"
    assert document["command"] == f"zoo train {NAME} --data DIR {changed} --protocol loso"
    assert str(tmp_path) not in json.dumps(document)


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


def test_resumes_after_a_kill_to_the_same_result(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_CHECKPOINT_EVERY", 1)
    recipe = variant(epochs=3, augment={"copies": 1, "snr_db": [15, 30], "speed": [0.9, 1.1]})
    trainer.train(recipe, data=corpus, out=tmp_path / "whole")

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "fold final/all" and done == 2:
            raise Stop

    with pytest.raises(Stop):
        trainer.train(recipe, data=corpus, out=tmp_path / "parts", progress=kill)
    seen: list[int] = []
    trainer.train(
        recipe,
        data=corpus,
        out=tmp_path / "parts",
        progress=lambda stage, done, _: seen.append(done) if "fold" in stage else None,
    )
    assert seen == [3]
    assert files(tmp_path / "whole") == files(tmp_path / "parts")


def test_damaged_and_foreign_checkpoints_are_refused(corpus: Path, tmp_path: Path) -> None:
    trainer.train(variant(epochs=1), data=corpus, out=tmp_path)
    (checkpoint,) = (tmp_path / "checkpoints").iterdir()
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:1000])
    with pytest.raises(DataError, match="is no checkpoint"):
        trainer.train(variant(epochs=1), data=corpus, out=tmp_path)
    trainer.train(variant(epochs=1), data=corpus, out=tmp_path, resume=False)
    trainer.train(variant(epochs=1, lr=0.1), data=corpus, out=tmp_path)
    (foreign,) = set((tmp_path / "checkpoints").iterdir()) - {checkpoint}
    checkpoint.write_bytes(foreign.read_bytes())
    with pytest.raises(DataError, match="checkpoint of another training"):
        trainer.train(variant(epochs=1), data=corpus, out=tmp_path)


def test_quicker_training_is_the_same_function() -> None:
    net = build({"classes": 7, "frames": 47, "dropout": 0.0, "transformer_dropout": 0.0}).train()
    other = build({"classes": 7, "frames": 47, "dropout": 0.0, "transformer_dropout": 0.0}).train()
    other.load_state_dict(net.state_dict())
    trainer.quicken(other, np.random.default_rng(0))
    assert not any(isinstance(module, nn.Dropout) for module in other.modules())
    x, gradients = torch.randn(4, 47, 40), []
    for one in (net, other):
        one(x)[0].square().sum().backward()
        gradients.append({name: value.grad for name, value in one.named_parameters()})
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(400, 1000), (8, 16, 40, 94)])
def test_dropout_drops_its_share_and_keeps_the_mean(shape: tuple[int, ...]) -> None:
    drop = trainer.ByteDropout(0.3, np.random.default_rng(0))
    x = torch.ones(shape)
    if len(shape) == 4:
        x = x.to(memory_format=torch.channels_last)
    y = drop(x)
    dropped = float((y == 0).float().mean())
    assert dropped == pytest.approx(77 / 256, abs=0.005)  # 0.3 of 256, rounded; sigma 0.0007
    assert float(y.mean()) == pytest.approx(1, abs=0.005)
    assert y.unique().tolist() == pytest.approx([0, 256 / 179])
    torch.testing.assert_close(drop.eval()(x), x)


def test_what_cannot_be_trained_is_said(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no fold 99; there are 03, 08, 09"):
        trainer.train(variant(), data=corpus, out=tmp_path, protocol="loso", folds=["99"])
    with pytest.raises(DataError, match="no protocol 'best'"):
        trainer.train(variant(), data=corpus, out=tmp_path, protocol="best")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no such folder"):
        trainer.train(variant(), data=tmp_path / "nowhere", out=tmp_path)
    with pytest.raises(ZooError, match="training table is not valid"):
        trainer.train(variant(patience=3), data=corpus, out=tmp_path)
    official = registry.find("ser-cnn-transformer-ravdess-cnn")[1]
    official = msgspec.structs.replace(official, training={"epochs": 1})
    with pytest.raises(DataError, match="names no data set"):
        trainer.train(official, data=corpus, out=tmp_path)


def test_the_cards_scaler_is_that_of_the_clips(data_root: Path) -> None:
    card = registry.find(NAME)[1]
    scaler = card.pipeline[-1]
    corpus = crossval.read_corpus(card, data_root, augment=None, seed=0)
    assert corpus.features.shape == (1, 535, 188, 40)
    assert corpus.fingerprint == card.data.sha256
    mean, std = trainer.statistics(corpus.features[0])
    # the card's numbers have five digits
    np.testing.assert_allclose(mean, 0, atol=1e-3)
    np.testing.assert_allclose(std, 1, atol=1e-3)
    assert len(scaler.mean) == len(scaler.std) == 40
