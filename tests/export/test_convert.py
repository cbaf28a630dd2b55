# SPDX-License-Identifier: Apache-2.0
"""``convert_model``: checked, atomic, never over what is there."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import safe_open

from zoo.card import Card
from zoo.errors import DataError, ZooError
from zoo.export import convert_model, export_model
from zoo.export.weights import random_tensors


@pytest.fixture
def checkpoint(toy, toy_models: Path, tmp_path: Path) -> Path:
    path = tmp_path / "official.npz"
    np.savez(path, **random_tensors(toy.card, toy.card.variant("toy-random"), 9))
    return path


def test_converted_weights_export_as_official(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "weights.safetensors"
    result = convert_model("toy-alone", checkpoint, out)
    assert result.variant == "toy-random"  # the card's converts_to
    assert result.tensors == 15
    with safe_open(out, framework="numpy") as file:
        metadata = json.loads(file.metadata()["zoo"])
    assert metadata["status"] == "official"
    assert metadata["variant"] == "toy-random"
    assert metadata["source"].startswith("official checkpoint official.npz, sha256 ")
    first = out.read_bytes()
    with pytest.raises(ZooError, match=r"weights.safetensors exists; give --force"):
        convert_model("toy-random", checkpoint, out)
    convert_model("toy-random", checkpoint, out, force=True)
    assert out.read_bytes() == first
    assert [path.name for path in out.parent.iterdir()] == ["weights.safetensors"]
    manifest = export_model(
        "toy-random", target="cpu-x86", precision="fp32", out=tmp_path / "b", weights=out
    ).manifest
    assert manifest.provenance.weights == "official"
    with pytest.raises(DataError, match="are of toy-random, not of toy-alone"):
        export_model("toy-alone", target="cpu-x86", precision="fp32", out=tmp_path / "c", weights=out)


def test_refusals(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.safetensors"
    with pytest.raises(DataError, match=r"nothing.npz: no such checkpoint"):
        convert_model("toy", tmp_path / "nothing.npz", out)
    with np.load(checkpoint) as arrays:
        tensors = dict(arrays)
    np.savez(tmp_path / "few.npz", **{name: tensors[name] for name in list(tensors)[1:]})
    with pytest.raises(DataError, match=r"few.npz: these weights do not fit the model: bn1.bias missing"):
        convert_model("toy", tmp_path / "few.npz", out)
    with pytest.raises(ZooError, match=r"official.npz is the checkpoint itself; give another --out"):
        convert_model("toy", checkpoint, checkpoint, force=True)
    with pytest.raises(DataError, match=r"no such checkpoint"):  # toy's converter names no files
        convert_model("toy", tmp_path, out)
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(ZooError, match="cannot be written"):
        convert_model("toy", checkpoint, blocked / "weights.safetensors")
    assert not out.exists()


def test_a_folder_stands_for_the_file_that_the_converter_names(
    toy, toy_models: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = toy.card.module("convert")
    module = SimpleNamespace(convert=own.convert, FILES=("first.npz", "official.npz"))
    monkeypatch.setattr(
        Card, "module", lambda card, name, load=Card.module: module if name == "convert" else load(card, name)
    )
    out = tmp_path / "made.safetensors"

    def about() -> dict[str, str]:
        convert_model("toy-random", tmp_path, out, force=True)
        with safe_open(out, framework="numpy") as file:
            found: dict[str, str] = json.loads(file.metadata()["zoo"])
        return found

    assert about()["source"].startswith("official checkpoint official.npz, sha256")
    module.describe = lambda path, variant: {"status": "random", "source": f"half of {path.name}"}
    assert about()["status"] == "random"
    assert about()["source"].endswith(": half of official.npz")
    checkpoint.unlink()
    with pytest.raises(DataError, match=r"no first.npz, no official.npz in this folder"):
        convert_model("toy-random", tmp_path, out, force=True)
