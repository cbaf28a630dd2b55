# SPDX-License-Identifier: Apache-2.0
"""The trainer on a small corpus of tones and noise that the test writes, and the training step against PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from zoo import crossval, registry
from zoo.errors import DataError, ZooError
from zoo.models.tim_net import train as trainer
from zoo.models.tim_net.model import TimNet, build
from zoo.settings import command_of

soundfile = pytest.importorskip("soundfile")
EMOTIONS = ("angry", "boredom", "disgust", "fear", "happy", "neutral", "sad")
SPEAKERS = ("03", "08", "09")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """42 clips of a quarter of a second: one pitch for each label, one timbre for each speaker."""
    folder = tmp_path_factory.mktemp("data") / "emodb"
    (folder / "first2s").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["utterance,emotion,speaker,text"]
    time = np.arange(5500) / 22050
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
    card = registry.find("tim-net-emodb")[1]
    pipeline = tuple(
        msgspec.structs.replace(op, length=5120) if hasattr(op, "crop") else op for op in card.pipeline
    )
    config = {**card.config, "blocks": 2}
    return msgspec.structs.replace(
        card, pipeline=pipeline, config=config, training={"epochs": 3, "batch": 16, **training}
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".safetensors"}


def predictions(folder: Path, protocol: str) -> Any:
    return json.loads((folder / f"tim-net-emodb.{protocol}.predictions.json").read_text())["items"]


class Stop(Exception):
    """Stands for a kill in the middle of a training."""


# ---- the step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "frames", "blocks", "classes"), [(64, 20, 8, 7), (34, 11, 3, 4), (1, 5, 2, 6), (17, 1, 1, 2)]
)
def test_native_step_equals_pytorch(batch: int, frames: int, blocks: int, classes: int) -> None:
    if trainer.native_library() is None:
        pytest.skip("no C++ compiler: training uses PyTorch")
    config = {"classes": classes, "blocks": blocks}
    net = build(config)
    assert isinstance(net, TimNet)
    layout = trainer.Layout.of(net)
    rng = np.random.default_rng(batch)
    params, running = layout.flatten(net)
    params += rng.standard_normal(params.shape, np.float32) * np.float32(0.05)
    x = rng.standard_normal((batch, frames, 39), np.float32) * 20
    x[:, :, 0] -= 200
    target = rng.random((batch, classes), np.float32)
    target /= target.sum(axis=1, keepdims=True)
    mask = (rng.random((4 * blocks, batch, 39)) < 0.9).astype(np.float32) / np.float32(0.9)
    results = []
    for kind in (trainer.TorchStep, trainer.NativeStep):
        step = kind(config, layout, frames)
        statistics, grad = running.copy(), np.full_like(params, 7)
        loss = step(params, statistics, grad, x, target, mask)
        results.append((loss, grad, statistics))
    (loss, grad, statistics), (loss2, grad2, statistics2) = results
    assert loss2 == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(statistics2, statistics, rtol=1e-4, atol=1e-5 * np.abs(statistics).max())
    # both are float32 sums over batch * frames terms in another order
    np.testing.assert_allclose(grad2, grad, atol=2e-5 * np.abs(grad).max())


def test_native_step_checks_what_it_is_given() -> None:
    if trainer.native_library() is None:
        pytest.skip("no C++ compiler: training uses PyTorch")
    config = {"classes": 7, "blocks": 1}
    net = build(config)
    assert isinstance(net, TimNet)
    layout = trainer.Layout.of(net)
    params, running = layout.flatten(net)
    step = trainer.NativeStep(config, layout, 5)
    x, target, mask = (np.zeros(shape, np.float32) for shape in ((65, 5, 39), (65, 7), (4, 65, 39)))
    with pytest.raises(ZooError, match="1 to 64 clips, found 65"):
        step(params, running, params.copy(), x, target, mask)
    with pytest.raises(ZooError, match="features must be float32"):
        step(params, running, params.copy(), x[:2, :4], target[:2], mask[:, :2])


def test_both_backends_train_the_same_model(corpus: Path, tmp_path: Path) -> None:
    if trainer.native_library() is None:
        pytest.skip("no C++ compiler: training uses PyTorch")
    scores = []
    for backend in ("native", "torch"):
        trainer.train(
            variant(epochs=2),
            data=corpus,
            out=tmp_path / backend,
            protocol="kfold",
            folds=["0"],
            backend=backend,
        )
        scores.append([item["probabilities"] for item in predictions(tmp_path / backend, "kfold")])
    np.testing.assert_allclose(
        scores[0], scores[1], atol=2e-3
    )  # Adam divides by tiny squares: rounding grows


# ---- protocols ---------------------------------------------------------------------------------------------------


def test_kfold_equals_scikit_learn() -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    folds = selection.KFold(10, shuffle=True, random_state=46).split(np.zeros(535))
    for ours, (_, theirs) in zip(crossval.split_kfold(535, 10, 46), folds, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_loso_leaves_each_speaker_out_and_keeps_every_model(corpus: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    report = trainer.train(variant(), data=corpus, out=tmp_path, protocol="loso")
    assert [fold.fold for fold in report.folds] == list(SPEAKERS)
    assert all(fold.n == 14 and fold.n_train == 28 and fold.epochs == 3 for fold in report.folds)
    assert {item["id"][:2] == item["fold"] for item in predictions(tmp_path, "loso")} == {True}
    assert set(report.metrics) == {"UAR", "UAR mean of folds", "WAR", "WAR mean of folds"}
    assert set(report.intervals) == {"UAR", "UAR by speaker", "WAR", "WAR by speaker"}
    assert report.weights is not None
    tensors = load_file(tmp_path / report.weights)
    for speaker in SPEAKERS:
        prefix = f"fold/{speaker}/"
        state = {
            name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
        }
        net = build(variant().config)
        net.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    document = json.loads((tmp_path / report.result).read_text())
    assert document["selection"] == "last epoch"
    assert document["command"] == command_of(variant(), "--protocol loso")
    assert "--set epochs=3" in document["command"]
    assert document["n"] == 42
    assert str(tmp_path) not in json.dumps(document)


def test_the_last_epoch_is_the_model_and_the_test_fold_is_not_seen(corpus: Path, tmp_path: Path) -> None:
    """A training that never hears of the held-out items gives the very same model."""
    trainer.train(variant(), data=corpus, out=tmp_path / "a", protocol="loso", folds=["08"])
    other = tmp_path / "other"
    (other / "first2s").mkdir(parents=True)
    (other / "labels.csv").write_text((corpus / "labels.csv").read_text())
    for clip in (corpus / "first2s").iterdir():
        content = clip.read_bytes()
        if clip.name.startswith("08"):  # the held-out clips become other clips
            content = (corpus / "first2s" / f"09{clip.name[2:]}").read_bytes()
        (other / "first2s" / clip.name).write_bytes(content)
    trainer.train(variant(), data=other, out=tmp_path / "b", protocol="loso", folds=["08"])
    assert files(tmp_path / "a") == files(tmp_path / "b")
    a, b = predictions(tmp_path / "a", "loso"), predictions(tmp_path / "b", "loso")
    assert [item["probabilities"] for item in a] != [item["probabilities"] for item in b]
    checkpoint = next((tmp_path / "a" / "checkpoints").iterdir())
    with np.load(checkpoint) as file:
        assert file["numbers"][0] == 3


def test_same_seed_same_bytes_whatever_the_threads(corpus: Path, tmp_path: Path) -> None:
    for name, threads in (("a", 1), ("b", 2)):
        trainer.train(variant(epochs=1), data=corpus, out=tmp_path / name, protocol="loso", threads=threads)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    trainer.train(variant(epochs=1), data=corpus, out=tmp_path / "c", protocol="loso", seed=47)
    assert files(tmp_path / "a") != files(tmp_path / "c")


def test_resumes_after_a_kill_to_the_same_result(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_CHECKPOINT_EVERY", 1)
    recipe = variant(epochs=2, finish={"epochs": 2, "ema": 0.9, "mixup": 0.3})
    trainer.train(recipe, data=corpus, out=tmp_path / "whole")

    for last in (1, 3):  # once in the plain phase, once in the finishing one

        def kill(stage: str, done: int, total: int, last: int = last) -> None:
            if stage == "fold final/all" and done == last:
                raise Stop

        with pytest.raises(Stop):
            trainer.train(recipe, data=corpus, out=tmp_path / "parts", progress=kill)
    seen: list[int] = []
    trainer.train(
        recipe,
        data=corpus,
        out=tmp_path / "parts",
        progress=lambda s, d, n: seen.append(d) if "fold" in s else None,
    )
    assert seen == [4]
    assert files(tmp_path / "whole") == files(tmp_path / "parts")


def test_checkpoints_are_found_by_what_they_depend_on(corpus: Path, tmp_path: Path) -> None:
    def epochs_run(recipe: Any) -> int:
        seen: list[str] = []
        trainer.train(recipe, data=corpus, out=tmp_path, progress=lambda stage, _, __: seen.append(stage))
        return sum(stage.startswith("fold") for stage in seen)

    assert epochs_run(variant()) == 3
    assert epochs_run(variant()) == 0
    assert epochs_run(variant(lr=0.01)) == 3
    assert epochs_run(variant(finish={"epochs": 2})) == 2  # goes on from the plain training
    assert epochs_run(variant(finish={"epochs": 2})) == 0
    assert epochs_run(variant()) == 0


def test_damaged_and_foreign_checkpoints_are_refused(corpus: Path, tmp_path: Path) -> None:
    trainer.train(variant(), data=corpus, out=tmp_path)
    (checkpoint,) = (tmp_path / "checkpoints").iterdir()
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:1000])
    with pytest.raises(DataError, match="is no checkpoint"):
        trainer.train(variant(), data=corpus, out=tmp_path)
    trainer.train(variant(), data=corpus, out=tmp_path, resume=False)
    with pytest.raises(DataError, match="checkpoint of another training"):
        trainer.State.load(checkpoint, "another key")


def test_finish_is_the_same_on_top_of_a_plain_training_or_in_one_go(corpus: Path, tmp_path: Path) -> None:
    recipe = variant(finish={"epochs": 2, "ema": 0.9, "augment": {"copies": 1, "speed": [0.9, 1.1]}})
    trainer.train(variant(), data=corpus, out=tmp_path / "parts")
    trainer.train(recipe, data=corpus, out=tmp_path / "parts")
    trainer.train(recipe, data=corpus, out=tmp_path / "whole")
    assert files(tmp_path / "whole") == files(tmp_path / "parts")


def test_every_option_of_the_finish_trains(corpus: Path, tmp_path: Path) -> None:
    augment = {"copies": 2, "speed": [0.9, 1.1], "gain_db": [-6, 3], "snr_db": [15, 40], "shift": 0.02}
    finish = {
        "epochs": 4, "lr": 0.002, "weight_decay": 0.05, "ema": 0.9, "mixup": 0.3, "noise": 0.1, "prior": 0.5,
        "augment": augment,
    }  # fmt: skip
    report = trainer.train(variant(finish=finish), data=corpus, out=tmp_path, protocol="kfold", folds=["1"])
    assert report.folds[0].epochs == 7
    assert report.folds[0].losses["7"] < report.folds[0].losses["1"]


def test_altered_clips_keep_their_length_and_stay_in_range() -> None:
    augment = crossval.Augment(copies=1, speed=(0.9, 1.1), gain_db=(-6, 20), snr_db=(10, 20), shift=0.01)
    wave = np.sin(np.arange(2000, dtype=np.float32) / 5)
    rates = set()
    for seed in range(20):
        out, rate = crossval.alter(wave, 22050, augment, np.random.default_rng(seed))
        assert out.dtype == np.float32
        assert abs(len(out) - 2000) <= 221
        assert np.abs(out).max() <= 1
        assert rate % 441 == 0
        assert 0.89 * 22050 <= rate <= 1.11 * 22050
        rates.add(rate)
    assert len(rates) > 3


# ---- refusals ----------------------------------------------------------------------------------------------------


def test_what_cannot_be_trained_is_said(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no fold 99; there are 03, 08, 09"):
        trainer.train(variant(), data=corpus, out=tmp_path, protocol="loso", folds=["99"])
    with pytest.raises(DataError, match="no protocol 'best'"):
        trainer.train(variant(), data=corpus, out=tmp_path, protocol="best")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no such folder"):
        trainer.train(variant(), data=tmp_path / "nowhere", out=tmp_path)
    with pytest.raises(ZooError, match="training table is not valid"):
        trainer.train(variant(patience=3), data=corpus, out=tmp_path)
    with pytest.raises(DataError, match="50 folds need"):
        trainer.train(variant(folds=50), data=corpus, out=tmp_path, protocol="kfold")
    with pytest.raises(DataError, match="at least 2 speakers"):
        trainer.train(variant(), data=corpus, out=tmp_path, protocol="loso", exclude=["08", "09"])


def test_training_goes_on_without_a_compiler(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trainer.native_library.cache_clear()
    try:
        with pytest.warns(UserWarning, match="was not compiled, training uses PyTorch"):
            report = trainer.train(variant(epochs=1), data=corpus, out=tmp_path / "out")
        assert json.loads((tmp_path / "out" / report.result).read_text())["environment"]["step"] == "torch"
    finally:
        trainer.native_library.cache_clear()
