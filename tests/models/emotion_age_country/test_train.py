# SPDX-License-Identifier: Apache-2.0
"""Training of the head, on a tiny encoder and on a tree in ExVo's layout that the test writes."""

from __future__ import annotations

import csv
import json
import shutil
import wave
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from zoo import metrics, registry
from zoo.data import exvo
from zoo.errors import DataError, ZooError
from zoo.models.emotion_age_country import train as trainer
from zoo.models.emotion_age_country.model import MultitaskHead, build
from zoo.multitask import LOG_VARIANCES

NAME = "emotion-age-country"
CONFIG = {
    "layers": 1, "width": 16, "heads": 2, "ffn": 16, "channels": 8, "position_kernel": 4, "position_groups": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 bursts of 0.1 s."""
    root = tmp_path_factory.mktemp("exvo")
    (root / "wav").mkdir()
    rng = np.random.default_rng(0)
    with (root / "data_info.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(exvo.COLUMNS)
        for i in range(36):
            split = "Train" if i < 24 else "Val"
            pitch = 200 * 2 ** (i % 4)
            truth = [*np.round(rng.random(10), 2)]
            writer.writerow(
                [f"[{i:05d}]", split, f"S{i // 3}", exvo.COUNTRIES[i % 4], 20 + 5 * (i % 4), *truth]
            )
            tone = np.sin(2 * np.pi * pitch * np.arange(1600) / 16000) + rng.standard_normal(1600) * 0.1
            with wave.open(str(root / "wav" / f"{i:05d}.wav"), "wb") as out:
                out.setnchannels(1)
                out.setsampwidth(2)
                out.setframerate(16000)
                out.writeframes((tone * 8000).astype("<i2").tobytes())
    return root


def variant(*, config: dict[str, object] | None = None, **training: object) -> Any:
    return msgspec.structs.replace(
        registry.find(NAME)[1], config={**CONFIG, **(config or {})}, training={"epochs": 3, **training}
    )


def part(seed: int, n: int = 60) -> trainer.Part:
    """Features that tell country and age, and say something of the emotions."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, 12)).astype(np.float32) * 3 + 5
    country = (features[:, 0] > 5).astype(np.int64) + 2 * (features[:, 1] > 5)
    emotion = 1 / (1 + np.exp(-(features[:, 2:12] - 5)))
    return trainer.Part(features, emotion.astype(np.float32), country, 30 + features[:, :1])


def head() -> MultitaskHead:
    return MultitaskHead(12)


def test_the_loss_is_the_sheets() -> None:
    """Plain numpy: sum over emotions of mean squared errors, cross-entropy, squared years, and their weights."""
    net, given = head().eval(), part(0, 7)
    rows = np.arange(7)
    with torch.no_grad():
        found = trainer.losses_of(net, torch.from_numpy(given.features), given, rows)
        emotion, country, age = (value.double().numpy() for value in net(torch.from_numpy(given.features)))
    logs = country - np.log(np.exp(country).sum(axis=1, keepdims=True))
    expected = [
        np.mean((emotion - given.emotion) ** 2, axis=0).sum(),
        -logs[rows, given.country].mean(),
        np.mean((age - given.age) ** 2),
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_standardises_learns_and_keeps_the_best_epoch() -> None:
    train, val = part(0, 200), part(1, 100)
    recipe = trainer.Recipe(epochs=12, batch=10, lr=5e-3, patience=3)
    fitted = trainer.fit_head(head, recipe, train, val, seed=106)
    np.testing.assert_allclose(fitted.head.feature_mean, train.features.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(fitted.head.feature_std, train.features.std(axis=0), rtol=1e-5)
    checked = [loss for _, loss in fitted.losses]
    best = checked[fitted.best - 1]
    assert all(loss > best - recipe.delta for loss in checked[fitted.best :])
    assert len(checked) == min(recipe.epochs, fitted.best + recipe.patience)
    again = trainer.fit_head(head, msgspec.structs.replace(recipe, epochs=fitted.best), train, val, seed=106)
    for name, value in fitted.head.state_dict().items():
        torch.testing.assert_close(value, again.head.state_dict()[name], rtol=0, atol=0)
    assert trainer.figures(fitted.head, val)["UAR"] > 0.4


def test_stops_where_the_gain_is_below_delta() -> None:
    recipe = trainer.Recipe(epochs=20, patience=2, delta=1e9)
    fitted = trainer.fit_head(head, recipe, part(0), part(1), seed=1)
    assert (fitted.best, len(fitted.losses)) == (1, 3)


def test_the_seed_decides_alone() -> None:
    torch.manual_seed(1)
    one = trainer.fit_head(head, trainer.Recipe(epochs=1), part(0), part(1), seed=5)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = trainer.fit_head(head, trainer.Recipe(epochs=1), part(0), part(1), seed=5)
    other = trainer.fit_head(head, trainer.Recipe(epochs=1), part(0), part(1), seed=6)
    assert torch.equal(torch.get_rng_state(), before)
    assert one.losses == two.losses != other.losses


def test_features_that_do_not_vary_are_centred_only() -> None:
    given = part(0)
    given.features[:, 3] = 7.0
    fitted = trainer.fit_head(head, trainer.Recipe(epochs=1), given, given, seed=0)
    assert fitted.head.feature_mean[3] == 7 and fitted.head.feature_std[3] == 1  # noqa: PT018


def test_an_infinite_loss_is_an_error() -> None:
    given = part(0)
    given.age[0] = np.inf
    with pytest.raises(ZooError, match="the loss is not finite in epoch 1"):
        trainer.fit_head(head, trainer.Recipe(epochs=1), given, given, seed=0)


def test_figures_are_the_sheets_metrics() -> None:
    net, given = head().eval(), part(3)
    found = trainer.figures(net, given)
    with torch.no_grad():
        emotion, country, age = (value.numpy() for value in net(torch.from_numpy(given.features)))
    each = [metrics.ccc(given.emotion[:, i], emotion[:, i]) for i in range(10)]
    assert found["CCC"] == pytest.approx(np.mean(each))
    assert found["CCC/Surprise"] == each[-1]
    assert found["UAR"] == metrics.uar(given.country, country.argmax(axis=1))
    assert found["MAE"] == pytest.approx(np.abs(age - given.age).mean())
    if found["CCC"] > 0 and found["UAR"] > 0:
        expected = 3 / (1 / found["CCC"] + 1 / found["UAR"] + found["MAE"])
        assert found["S_MTL"] == pytest.approx(expected)
    else:
        assert "S_MTL" not in found


@pytest.mark.parametrize("dimensions", [False, True])
def test_trains_from_files_and_keeps_the_embeddings(
    data: Path, tmp_path: Path, dimensions: bool, monkeypatch: Any
) -> None:
    monkeypatch.setattr(trainer, "_SHARD", 10)
    made = variant(config={"dimensions": dimensions})
    report = trainer.train(made, data=data, out=tmp_path)
    kept = sorted(path.name.split(".")[0:2] for path in (tmp_path / "checkpoints").iterdir())
    assert kept == [["exvo-Train", f"{i:06d}"] for i in (0, 10, 20)] + [
        ["exvo-Val", f"{i:06d}"] for i in (0, 10)
    ]
    assert report.folds[0].n_train == 24
    assert report.folds[0].n == 12
    document = json.loads((tmp_path / report.result).read_text())
    assert document["encoder"]["status"] == "random"
    assert document["recipe"]["batch"] == 4
    assert len(json.loads((tmp_path / str(report.predictions)).read_text())["items"]) == 12
    state = load_file(tmp_path / str(report.weights))
    net = build(made.config).eval()
    net.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    # The embedding that was kept is the exported graph's: pipeline and encoder are the variant's.
    from zoo import ops
    from zoo.pipeline import Pipeline

    item = exvo.read(data, split="Val").items[3]
    signal = torch.from_numpy(Pipeline(made.pipeline).run(*ops.read_audio(item.source)))[None]
    with torch.no_grad():
        embedding, dims, _, _, age = net(signal)
    (shard,) = (tmp_path / "checkpoints").glob("exvo-Val.000000.*")
    features = np.load(shard)["features"][3]
    expected = torch.cat([embedding, dims], dim=1) if dimensions else embedding
    np.testing.assert_allclose(features, expected[0], rtol=1e-5, atol=1e-6)
    said = json.loads((tmp_path / str(report.predictions)).read_text())["items"][3]["age"]
    assert said == pytest.approx(float(age), abs=1e-3)
    # A second run computes no embedding.
    monkeypatch.setattr(trainer.ops, "read_audio", None)
    again = trainer.train(made, data=data, out=tmp_path)
    assert again.metrics == report.metrics
    assert load_file(tmp_path / str(again.weights)).keys() == state.keys()


def test_takes_the_encoder_of_a_file(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = build(CONFIG)
    encoder = {
        name: value.numpy() for name, value in net.state_dict().items() if not name.startswith("heads.")
    }
    said = {"zoo": json.dumps({"status": "random", "encoder": "official", "source": "hub file"})}
    save_file(encoder, tmp_path / "encoder.safetensors", metadata=said)
    report = trainer.train(
        variant(), data=data, out=tmp_path / "out", weights=tmp_path / "encoder.safetensors"
    )
    document = json.loads((tmp_path / "out" / report.result).read_text())
    assert document["encoder"] == {
        "status": "trained",
        "encoder": "official",
        "source": "heads trained on the encoder of hub file",
    }
    heads = load_file(tmp_path / "out" / "heads.safetensors")
    assert set(heads) == {f"heads.{name}" for name in net.heads.state_dict()}
    assert document["command"].endswith("--weights FILE")
    state = load_file(tmp_path / "out" / str(report.weights))
    for name, value in encoder.items():
        np.testing.assert_array_equal(state[name], value)
    del encoder["classifier.dense.bias"]
    save_file(encoder, tmp_path / "less.safetensors")
    with pytest.raises(DataError, match=r"1 missing, 0 unknown; the first is classifier\.dense\.bias"):
        trainer.train(variant(), data=data, out=tmp_path / "out", weights=tmp_path / "less.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="no weights of emotion-age-country"):
        trainer.train(variant(), data=data, out=tmp_path / "out", weights=tmp_path / "bad.safetensors")


def test_clips_that_cannot_be_used_are_named(data: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(data, tmp_path / "data"))
    clip = root / "wav" / "00003.wav"
    clip.write_bytes(b"junk")
    with pytest.raises(DataError, match=r"exvo/Train: clip 00003 cannot be used: .*neither WAV nor FLAC"):
        trainer.train(variant(), data=root, out=tmp_path / "out")
    with wave.open(str(clip), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(b"\0\1" * 399)
    with pytest.raises(DataError, match=r"00003\.wav is too short: 399 samples"):
        trainer.train(variant(), data=root, out=tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_there_are_no_folds(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only --protocol final"):
        trainer.train(variant(), data=data, out=tmp_path, protocol="loso")
    assert not list(tmp_path.iterdir())


def test_first_log_variances_are_the_sheets() -> None:
    assert LOG_VARIANCES == (-0.33, -0.33, -0.34)
