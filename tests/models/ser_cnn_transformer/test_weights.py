# SPDX-License-Identifier: Apache-2.0
"""The committed weights, fold models and results fit the card and each other, and the folds are TIM-Net's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoo import metrics, registry
from zoo.models.ser_cnn_transformer.model import build

safetensors = pytest.importorskip("safetensors.numpy")
CARD, VARIANT = registry.find("ser-cnn-transformer-emodb")
TIM_NET = registry.find("tim-net-emodb")[0]
SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")


def load(file: str | None) -> dict[str, np.ndarray]:
    assert file is not None
    return dict(safetensors.load_file(CARD.path(file)))


def document(folder: Path, name: str) -> Any:
    return json.loads((folder / "results" / name).read_text())


def test_weights_load_strictly_and_leave_the_features_as_they_are() -> None:
    state = load(VARIANT.weights.file)
    assert {value.dtype for value in state.values()} == {np.dtype(np.float32)}
    # the pipeline's scaler was fitted on the clips of this very model
    np.testing.assert_array_equal(state["input_scale"], 1)
    np.testing.assert_array_equal(state["input_shift"], 0)
    net = build(VARIANT.config).eval()
    net.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    with torch.no_grad():
        logits, probs = net(torch.zeros(1, 188, 40))
    assert logits.shape == (1, len(VARIANT.labels))
    assert torch.isfinite(probs).all()


PROTOCOLS = [
    protocol
    for protocol in ("kfold", "loso")
    if (CARD.folder / "results" / f"{VARIANT.name}.{protocol}.json").is_file()
]
needs_folds = pytest.mark.skipif(
    VARIANT.folds is None, reason="the card names no fold models: not all speakers are trained yet"
)


def fold_weights(speaker: str) -> dict[str, np.ndarray]:
    assert VARIANT.folds is not None
    prefix = f"fold/{speaker}/"
    tensors = load(VARIANT.folds.file)
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def trained_folds(protocol: str) -> list[str]:
    return [fold["fold"] for fold in document(CARD.folder, f"{VARIANT.name}.{protocol}.json")["folds"]]


@needs_folds
def test_fold_models_load_strictly() -> None:
    assert tuple(trained_folds("loso")) == SPEAKERS
    for speaker in SPEAKERS:
        state = {name: torch.from_numpy(value) for name, value in fold_weights(speaker).items()}
        build(VARIANT.config).load_state_dict(state, strict=True)
        assert not torch.equal(state["input_shift"], torch.zeros(40))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_figures_follow_from_the_predictions(protocol: str) -> None:
    result = document(CARD.folder, f"{VARIANT.name}.{protocol}.json")
    assert result["selection"] == "last epoch"
    assert result["recipe"]["epochs"] == VARIANT.training["epochs"]
    assert result["data"]["sha256"] == VARIANT.data.sha256
    predictions = document(CARD.folder, result["predictions"])
    labels, items = predictions["labels"], predictions["items"]
    truth = [labels.index(item["label"]) for item in items]
    found = [labels.index(item["predicted"]) for item in items]
    assert len(items) == len({item["id"] for item in items}) == result["n"]
    whole = len(result["folds"]) == result["folds_of"] == 10
    assert whole == (result["n"] == 535)
    words = {"kfold": "random 10-fold", "loso": "leave one speaker out"}[protocol]
    for metric, value in {"UAR": metrics.uar(truth, found), "WAR": metrics.accuracy(truth, found)}.items():
        assert result["metrics"][metric] == pytest.approx(value, abs=1e-12)
        (row,) = [row for row in VARIANT.quality if row.metric == metric and row.protocol.startswith(words)]
        low, high = result["intervals"][f"{metric} by speaker" if protocol == "loso" else metric]
        assert (row.value, row.low, row.high) == pytest.approx((value, low, high), abs=5.1e-5)
        assert row.n == result["n"]
        assert (f"{len(result['folds'])} of 10 folds" in row.protocol) != whole
    for item in items:  # five digits are recorded, so two labels may be level
        best = max(item["probabilities"])
        assert item["probabilities"][labels.index(item["predicted"])] >= best - 1e-5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_folds_are_those_of_tim_net(protocol: str) -> None:
    ours, theirs = (
        {
            item["id"]: (item["fold"], item["label"])
            for item in document(folder, f"{name}.{protocol}.predictions.json")["items"]
        }
        for folder, name in ((CARD.folder, VARIANT.name), (TIM_NET.folder, "tim-net-emodb"))
    )
    trained = trained_folds(protocol)
    assert ours == {key: value for key, value in theirs.items() if value[0] in trained}


def test_the_weights_are_those_of_the_recorded_training() -> None:
    result = document(CARD.folder, f"{VARIANT.name}.final.json")
    assert result["protocol"] == "final"
    assert result["recipe"]["epochs"] == VARIANT.training["epochs"]
    assert result["data"]["sha256"] == VARIANT.data.sha256


@needs_folds
def test_held_out_predictions_come_from_the_committed_fold_models(data_root: Path) -> None:
    """One speaker's clips through the C++ pipeline and that speaker's model give the recorded probabilities."""
    from zoo.crossval import read_corpus
    from zoo.models.ser_cnn_transformer.train import probabilities

    speaker = "09"
    corpus = read_corpus(
        VARIANT, data_root, augment=None, seed=0, exclude=[s for s in SPEAKERS if s != speaker]
    )
    weights = fold_weights(speaker)
    found = dict(
        zip(corpus.ids, probabilities(VARIANT.config, weights, corpus.features[0]).tolist(), strict=True)
    )
    items = document(CARD.folder, f"{VARIANT.name}.loso.predictions.json")["items"]
    wanted = {item["id"]: item["probabilities"] for item in items if item["fold"] == speaker}
    assert found.keys() == wanted.keys()
    for key, row in wanted.items():
        # five digits are recorded; other instruction sets round sums differently
        assert found[key] == pytest.approx(row, abs=1e-3)
