# SPDX-License-Identifier: Apache-2.0
"""The teacher and its training: classes on a written recording, valence and arousal on a written DREAMER."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from zoo import metrics, registry
from zoo.errors import DataError
from zoo.models.eeg_state.model import TopomapNet, build
from zoo.models.eeg_state.train import (
    outputs_of,
    rated_windows,
    train,
    validation_subjects,
    value_loss,
)

STATE, RATED = (registry.find(name)[1] for name in ("eeg-state-epoc", "eeg-va-dreamer"))


def test_data(name: str) -> Any:
    """A neighbouring test's helpers for writing its layout."""
    path = Path(__file__).parents[2] / "data" / f"test_{name}.py"
    spec = importlib.util.spec_from_file_location(f"layout_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


test_data.__test__ = False  # type: ignore[attr-defined]


def small(variant: Any, **training: Any) -> Any:
    """The variant with a narrow network and a short recipe."""
    return msgspec.structs.replace(
        variant,
        config={**variant.config, "width": 4},
        training={**variant.training, **training},
    )


def test_the_network_is_the_sheets() -> None:
    net = build(RATED.config).eval()
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == [
        (4, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128),
    ]  # fmt: skip
    x = torch.randn(2, 4, 32, 32)
    raw, answer, embedding = net(x)
    assert embedding.shape == (2, 512)
    assert float(embedding.min()) >= 0
    torch.testing.assert_close(answer, torch.tanh(raw))
    _, probs, _ = build(STATE.config).eval()(x)
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(2))


def test_the_loss_is_the_sheets() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(-1, 1, (40, 2)).astype(np.float32)

    class Fixed(TopomapNet):
        def forward(self, topomaps: Any) -> Any:
            return topomaps, topomaps, topomaps

    found = rng.uniform(-1, 1, (40, 2)).astype(np.float32)
    loss = value_loss(truth)(Fixed(2), torch.from_numpy(found), np.arange(40))
    y, p = truth.astype(float), found.astype(float)
    both = 2 * np.mean((y - y.mean(axis=0)) * (p - p.mean(axis=0)), axis=0)
    ccc = np.mean(both / (y.var(axis=0) + p.var(axis=0) + (y.mean(axis=0) - p.mean(axis=0)) ** 2))
    assert float(loss) == pytest.approx(1 - ccc + np.mean((truth - found) ** 2), abs=1e-5)
    assert float(value_loss(truth)(Fixed(2), torch.from_numpy(truth), np.arange(40))) < 1e-5


def test_valence_and_arousal_are_learned_by_subject(tmp_path: Path) -> None:
    dreamer = test_data("dreamer")
    path = dreamer.written(tmp_path / "DREAMER.mat", dreamer.content(subjects=4, clips=5, seconds=6))
    variant = small(RATED, epochs=12, batch=32, lr=3e-3, validation=0.25)
    windows = rated_windows(variant, path)
    assert windows.maps.shape == (4 * 5 * 11, 4, 32, 32)
    for subject in set(
        windows.subjects.tolist()
    ):  # standardised over each subject's windows, before the (linear) map
        np.testing.assert_allclose(windows.maps[windows.subjects == subject].mean(axis=0), 0, atol=1e-4)
    report = train(variant, data=path, out=tmp_path / "out")
    held_out = validation_subjects(windows.subjects.tolist(), 0.25)
    assert len(held_out) == 1
    # what was written lets arousal be learned (beta power) and valence not
    assert report.metrics["CCC/arousal"] > 0.6
    assert abs(report.metrics["CCC/valence"]) < 0.5
    document = json.loads((tmp_path / "out" / report.result).read_text())
    assert (document["held_out"], document["n"]) == ([*held_out], 55)
    weights = load_file(tmp_path / "out" / "eeg-va-dreamer.safetensors")
    rows = np.isin(windows.subjects, held_out)
    again, embedding = outputs_of(variant.config, weights, windows.maps[rows])
    arousal = metrics.ccc(windows.values[rows][:, 1].astype(float), again[:, 1].astype(float))
    assert arousal == pytest.approx(report.metrics["CCC/arousal"], abs=1e-6)
    assert embedding.shape == (55, 512)
    folds = train(variant, data=path, out=tmp_path / "out", protocol="loso", epochs=1, folds=["02", "03"])
    assert [(fold.fold, fold.n) for fold in folds.folds] == [("02", 55), ("03", 55)]
    kept = load_file(tmp_path / "out" / "eeg-va-dreamer.loso.safetensors")
    assert {name.split("/")[1] for name in kept} == {"02", "03"}
    with pytest.raises(DataError, match="random folds would put windows of one trial on both sides"):
        train(variant, data=path, out=tmp_path / "out", protocol="kfold")
    with pytest.raises(DataError, match="no fold 09; there are 01, 02, 03, 04"):
        train(variant, data=path, out=tmp_path / "out", protocol="loso", folds=["09"])
    with pytest.raises(DataError, match="1 subject; splitting by subject needs at least 2"):
        train(variant, data=path, out=tmp_path / "out", exclude=["01", "02", "03"])


def test_classes_are_trained_block_by_block(tmp_path: Path) -> None:
    layout = test_data("eye_state")
    path = layout.written(tmp_path / "eeg_eye_state.arff", ([0] * 300 + [1] * 300) * 4)
    variant = small(STATE, epochs=2)
    variant = msgspec.structs.replace(
        variant,
        data=msgspec.structs.replace(
            variant.data, options={"blocks": 4, "gap": 64, "window": 128, "hop": 64}
        ),
    )
    report = train(variant, data=path, out=tmp_path / "out", protocol="loso", folds=["block-01"])
    (fold,) = report.folds
    assert (fold.fold, fold.n) == ("block-01", 5)
    weights = load_file(tmp_path / "out" / "eeg-state-epoc.loso.safetensors")
    assert all(name.startswith("fold/block-01/") for name in weights)
    again = train(variant, data=path, out=tmp_path / "again", protocol="loso", folds=["block-01"])
    same = load_file(tmp_path / "again" / "eeg-state-epoc.loso.safetensors")
    assert again.metrics == report.metrics
    for name, value in weights.items():
        np.testing.assert_array_equal(same[name], value)
