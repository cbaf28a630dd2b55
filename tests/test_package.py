# SPDX-License-Identifier: Apache-2.0
"""What an installed wheel promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from zoo import registry
from zoo.store import ready_path

HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "numpy",
    "librosa",
    "rich",
    "zoo.export",
    "zoo.models.tim_net.model",
)


@pytest.mark.parametrize("statement", ["import zoo", "import zoo.cli", "import zoo.errors"])
def test_importing_is_light(statement: str, tmp_path: Path) -> None:
    code = f"import sys; {statement}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    # Elsewhere than in the repository, where `-c` would import the source tree.
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == ""


def test_loading_and_running_needs_no_torch_and_no_model_code(golden_folder: Path) -> None:
    code = (
        "import sys, zoo; print(zoo.load('tim-net-emodb')(sys.argv[1]).label);"
        "print(*[m for m in ('torch','onnx','librosa','openvino','zoo.export','zoo.models.tim_net.model') if m in sys.modules])"
    )
    clip = str(golden_folder / "calm_22050.flac")
    done = subprocess.run(
        [sys.executable, "-c", code, clip], capture_output=True, text=True, check=True, cwd=golden_folder
    )
    label, heavy = done.stdout.split("\n")[:2]
    assert label in zoo.load("tim-net-emodb").labels
    assert heavy == ""


def test_every_ready_variant_has_its_bundle_and_it_is_small() -> None:
    ready = [(card, variant) for card, variant in registry.variants() if variant.ready]
    assert ready
    for card, variant in ready:
        folder = ready_path(card.folder, variant.name)
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 3_000_000
        assert zoo.load(folder).selftest().passed


def test_cards_are_whole() -> None:
    for card, variant in registry.variants():
        if variant.weights.file is not None:
            assert card.path(variant.weights.file).is_file()
        if variant.weights.status == "random":
            assert variant.weights.seed is not None
            assert any("random" in note.lower() for note in variant.notes)
        for clip in card.file.golden:
            assert card.path(clip).is_file()


def test_public_names_resolve() -> None:
    for name in zoo.__all__:
        assert getattr(zoo, name) is not None
    assert zoo.__version__.count(".") >= 2
    with pytest.raises(AttributeError, match="nonsense"):
        _ = zoo.nonsense  # type: ignore[attr-defined]
