# SPDX-License-Identifier: Apache-2.0
"""The committed weights, fold models and results fit the card and each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo import metrics, registry
from zoo.card import Card, Variant
from zoo.models.tim_net.model import build

safetensors = pytest.importorskip("safetensors.numpy")
CARD = registry.find("tim-net-emodb")[0]
TRAINED = [variant for variant in CARD.file.variants if variant.weights.status == "trained"]
SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")


def load(card: Card, file: str) -> dict[str, np.ndarray]:
    return dict(safetensors.load_file(card.path(file)))


@pytest.mark.parametrize("variant", TRAINED, ids=lambda variant: variant.name)
def test_weights_load_strictly(variant: Variant) -> None:
    assert variant.weights.file is not None
    state = load(CARD, variant.weights.file)
    assert {value.dtype for value in state.values()} == {np.dtype(np.float32)}
    net = build(variant.config).eval()
    net.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    with torch.no_grad():
        logits, probs = net(torch.zeros(1, 87, 39))
    assert logits.shape == (1, len(variant.labels))
    assert torch.isfinite(probs).all()


@pytest.mark.parametrize("variant", [v for v in TRAINED if v.folds], ids=lambda variant: variant.name)
def test_fold_models_load_strictly(variant: Variant) -> None:
    assert variant.folds is not None
    tensors = load(CARD, variant.folds.file)
    assert tuple(sorted({name.split("/")[1] for name in tensors})) == SPEAKERS
    for speaker in SPEAKERS:
        prefix = f"fold/{speaker}/"
        state = {
            name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
        }
        net = build(variant.config)
        net.load_state_dict(
            {name: torch.from_numpy(value).float() for name, value in state.items()}, strict=True
        )


RESULTS = sorted(
    path.name for path in (CARD.folder / "results").glob("*.json") if "predictions" not in path.name
)


def test_every_trained_variant_has_results() -> None:
    assert {variant.name for variant in TRAINED} <= {name.split(".")[0] for name in RESULTS}


@pytest.mark.parametrize("name", RESULTS)
def test_figures_follow_from_the_predictions(name: str) -> None:
    folder = CARD.folder / "results"
    result = json.loads((folder / name).read_text())
    assert result["selection"] == "last epoch"
    assert {"command", "recipe", "environment", "data"} <= set(result)
    if result["predictions"] is None:
        assert result["protocol"] == "final"
        return
    document = json.loads((folder / Path(result["predictions"]).name).read_text())
    labels, items = document["labels"], document["items"]
    truth = [labels.index(item["label"]) for item in items]
    found = [labels.index(item["predicted"]) for item in items]
    assert len(items) == len({item["id"] for item in items}) == result["n"]
    assert result["metrics"]["UAR"] == pytest.approx(metrics.uar(truth, found), abs=1e-12)
    assert result["metrics"]["WAR"] == pytest.approx(metrics.accuracy(truth, found), abs=1e-12)
    assert all(int(np.argmax(item["probabilities"])) == labels.index(item["predicted"]) for item in items)
    if result["protocol"] == "loso":
        assert all(item["id"].startswith(item["fold"]) for item in items)
