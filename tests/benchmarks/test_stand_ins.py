# SPDX-License-Identifier: Apache-2.0
"""The stand-ins of the comparison of quantisers: valid cards, networks that learn, weights for every held-out group."""

from __future__ import annotations

import shutil
import wave
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from zoo.card import Card
from zoo.export.weights import load_folds, load_weights

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FOLDERS = sorted(path.parent for path in (BENCHMARKS / "stand_ins").glob("*/card.toml"))


@pytest.fixture(scope="module")
def stand_ins(script: Callable[[str], ModuleType]) -> ModuleType:
    pytest.importorskip("torch", reason="torch is in the export extra")
    return script("suites/_stand_ins")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two speakers, each with three tones of each of two emotions, laid out as EmoDB."""
    clips = tmp_path / "emodb" / "first2s"
    clips.mkdir(parents=True)
    lines = ["utterance,emotion,speaker,text"]
    noise = np.random.default_rng(0)
    for speaker in ("03", "08"):
        for emotion, pitch in (("angry", 300), ("sad", 2000)):
            for i in range(3):
                name = f"{speaker}{emotion}{i}"
                tone = np.sin(2 * np.pi * pitch * np.arange(44_100) / 22_050) + noise.normal(0, 0.1, 44_100)
                with wave.open(str(clips / f"{name}.flac"), "wb") as stream:
                    stream.setparams((1, 2, 22_050, 0, "NONE", ""))
                    stream.writeframes((8000 * tone).astype("<i2").tobytes())
                lines.append(f"{name},{emotion},{speaker},a01")
    (tmp_path / "emodb" / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_stand_in_learns_and_is_trained_once(
    stand_ins: ModuleType, data: Path, tmp_path: Path, folder: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(folder, source / folder.name)
    stages: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        stages.append(stage)

    out = stand_ins.prepare(tmp_path / "out", data, progress, source)
    card = Card(out / folder.name, None)
    (variant,) = card.file.variants
    assert variant.name == f"stand-in-{folder.name}"
    assert set(stages) == {f"training {variant.name}"}
    assert sorted(load_folds(card, variant)) == ["03", "08"]
    assert load_weights(card, variant).own
    assert all(card.path(name).is_file() for name in card.file.golden)
    stages.clear()
    assert stand_ins.prepare(out, data, progress, source) == out
    assert stages == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_training_fits_what_can_be_told_apart(stand_ins: ModuleType, folder: Path) -> None:
    import torch

    from zoo.export.weights import build_reference

    card = Card(folder, None)
    (variant,) = card.file.variants
    rng = np.random.default_rng(0)
    y = np.arange(96) % 3
    x = rng.normal(0, 1, (96, 87, 39)).astype(np.float32)
    x[:, :, 0] += 2 * (y[:, None] - 1)
    tensors = stand_ins.train(card, variant, x, y)
    again = stand_ins.train(card, variant, x, y)
    assert all(np.array_equal(tensors[name], again[name]) for name in tensors)
    net = build_reference(card, variant, tensors)
    with torch.no_grad():
        logits, probs = net(torch.from_numpy(x))
    assert probs.shape == (96, 7)
    assert torch.allclose(probs, torch.softmax(logits, 1))
    assert (probs.argmax(1).numpy() == y).mean() > 0.9
