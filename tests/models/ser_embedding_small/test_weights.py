# SPDX-License-Identifier: Apache-2.0
"""The committed weights, fold models and results fit the card and each other."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from zoo import crossval, metrics, registry
from zoo.data import emodb
from zoo.models.ser_embedding_small.model import build

safetensors = pytest.importorskip("safetensors.numpy")
CARD, VARIANT = registry.find("ser-embedding-small")
TIM_NET = registry.find("tim-net-emodb")[0]


def load(file: str) -> dict[str, np.ndarray]:
    return dict(safetensors.load_file(CARD.path(file)))


def document(protocol: str, kind: str = "") -> Any:
    path = CARD.folder / "results" / f"{VARIANT.name}.{protocol}{kind}.json"
    return json.loads(path.read_text("utf-8"))


def test_weights_and_folds_load_strictly() -> None:
    assert VARIANT.weights.file
    assert VARIANT.folds
    folds = load(VARIANT.folds.file)
    states = [load(VARIANT.weights.file)]
    for speaker in emodb.SPEAKERS:
        prefix = f"fold/{speaker}/"
        states.append({n.removeprefix(prefix): v for n, v in folds.items() if n.startswith(prefix)})
    assert len(folds) == len(emodb.SPEAKERS) * len(states[0])
    for state in states:
        assert {value.dtype for value in state.values()} == {np.dtype(np.float32)}
        net = build(VARIANT.config).eval()
        net.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    assert CARD.path(VARIANT.weights.file).stat().st_size < 1 << 20


@pytest.mark.parametrize("protocol", ["kfold", "loso"])
def test_figures_follow_from_the_predictions(protocol: str) -> None:
    result, items = document(protocol), document(protocol, ".predictions")["items"]
    assert result["recipe"]["epochs"] == VARIANT.training["epochs"]
    assert len(items) == len({item["id"] for item in items}) == 535
    for head, labels in (("emotion", emodb.LABELS), ("sex", emodb.SEXES)):
        truth, found = ([labels.index(item[kind][head]) for item in items] for kind in ("label", "predicted"))
        assert result["metrics"][f"{head}/UAR"] == pytest.approx(metrics.uar(truth, found))
        assert result["metrics"][f"{head}/WAR"] == pytest.approx(metrics.accuracy(truth, found))
    ages, found = ([item[kind]["age"][0] for item in items] for kind in ("label", "predicted"))
    assert ages == [emodb.SPEAKERS[item["id"][:2]][1] for item in items]
    assert result["metrics"]["age/MAE"] == pytest.approx(metrics.mae(ages, found))


def test_the_cards_figures_are_the_results() -> None:
    for quality in VARIANT.quality:
        protocol = "loso" if "speaker" in quality.protocol else "kfold"
        result = document(protocol)
        assert quality.value == pytest.approx(result["metrics"][quality.metric], abs=5e-5), quality.metric
        key = f"{quality.metric} by speaker" if protocol == "loso" else quality.metric
        assert (quality.low, quality.high) == pytest.approx(tuple(result["intervals"][key]), abs=5e-5)
        assert result["command"] == quality.command
    assert {quality.metric for quality in VARIANT.quality} == {"heads-mean", "emotion/UAR", "sex/UAR"}


def test_the_folds_are_tim_nets() -> None:
    for protocol in ("kfold", "loso"):
        path = TIM_NET.folder / "results" / f"tim-net-emodb.{protocol}.predictions.json"
        theirs = {item["id"]: item["fold"] for item in json.loads(path.read_text("utf-8"))["items"]}
        ours = {item["id"]: item["fold"] for item in document(protocol, ".predictions")["items"]}
        assert ours == theirs


def test_a_fold_model_gives_its_predictions_again(data_root: Any) -> None:
    """Speaker 11 through the pipeline and the committed model that has not heard it."""
    assert VARIANT.data
    assert VARIANT.folds
    dataset = emodb.read(data_root, heads=True)
    assert dataset.fingerprint() == VARIANT.data.sha256
    others = [speaker for speaker in emodb.SPEAKERS if speaker != "11"]
    corpus = crossval.read_corpus(VARIANT, data_root, augment=None, seed=0, exclude=others)
    net = build(VARIANT.config).eval()
    state = {
        name.removeprefix("fold/11/"): torch.from_numpy(value)
        for name, value in load(VARIANT.folds.file).items()
        if name.startswith("fold/11/")
    }
    net.load_state_dict(state, strict=True)
    with torch.no_grad():
        emotion, sex, age, _ = net(torch.from_numpy(corpus.features[0]))
    found = torch.cat([emotion, sex, age], dim=1).numpy()
    items = {item["id"]: item["probabilities"] for item in document("loso", ".predictions")["items"]}
    np.testing.assert_allclose(found, [items[name] for name in corpus.ids], atol=1e-3)
