# SPDX-License-Identifier: Apache-2.0
"""Ready bundles are what the sources give, and a change of either is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from zoo import registry, store
from zoo.bundle import open_bundle, write_bundle
from zoo.errors import CheckFailed
from zoo.export import ready


@pytest.fixture
def own_toy(toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the toy that a test may change."""
    root = tmp_path / "models"
    shutil.copytree(toy_root / "toy", root / "toy")
    monkeypatch.setenv("ZOO_MODELS", str(root))
    return root / "toy"


def test_build_check_and_notice_changes(own_toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, variant = registry.find("toy")
    with pytest.raises(
        CheckFailed, match=r"toy: there is no ready bundle; build it: python -m zoo.export.ready"
    ):
        ready.check(card, variant)
    monkeypatch.setenv("ZOO_DATA", "/nowhere")  # must not matter
    path = ready.build(card, variant, store.ready_path(card.folder, "toy"))
    assert store.find_bundle("toy") == path
    assert zoo.load("toy").selftest().passed
    ready.check(card, variant)
    weights = own_toy / "weights" / "toy.safetensors"
    tensors = load_file(weights)
    tensors["dense.bias"][0] += 0.01
    save_file(tensors, weights)
    with pytest.raises(CheckFailed, match=r"out of date: manifest field provenance.weights_sha256 is"):
        ready.check(card, variant)


def test_every_kind_of_difference_is_listed(own_toy: Path, tmp_path: Path) -> None:
    card, variant = registry.find("toy")
    committed = open_bundle(ready.build(card, variant, tmp_path / "a"))
    assert ready.compare(committed, committed) == []
    contents = {file.path: committed.read(file.path) for file in committed.manifest.files}
    other = open_bundle(
        write_bundle(
            tmp_path / "b", msgspec.structs.replace(committed.manifest, labels=("x", "y", "z")), contents
        )
    )
    assert any("manifest field labels.0 is 'low'" in problem for problem in ready.compare(committed, other))
    model = ready._graph(committed)
    changed = ready._graph(committed)
    changed.graph.node[0].name = "other"
    assert ready._graph_differences(model, changed) == ["the graph's structure differs"]
    changed = ready._graph(committed)
    first = next(tensor for tensor in changed.graph.initializer if tensor.name == "dense.bias")
    value = np.frombuffer(first.raw_data, np.float32).copy()
    for amount, noticed in ((1e-7, False), (1e-3, True)):
        first.raw_data = (value + np.float32(amount)).tobytes()
        assert bool(ready._graph_differences(model, changed)) == noticed


def test_the_bundles_that_ship_are_current() -> None:
    """Rebuilds what the package ships; the same as ``python -m zoo.export.ready --check``."""
    shipped = [(card, variant) for card, variant in ready.ready_variants() if card.package is not None]
    assert shipped
    for card, variant in shipped:
        if variant.weights.file and not (card.folder / variant.weights.file).is_file():
            pytest.skip(f"the weights of {variant.name} are not here yet")
        ready.check(card, variant)
