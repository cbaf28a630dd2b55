# SPDX-License-Identifier: Apache-2.0
"""A model is one folder: a toy outside the package is listed, exported, run, scored and measured by the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ZOO = shutil.which("zoo", path=str(Path(sys.executable).parent)) or "zoo"


def zoo_json(*arguments: object) -> Any:
    done = subprocess.run(
        [ZOO, *map(str, arguments), "--json"], capture_output=True, text=True, timeout=300, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_folder_is_all_it_takes(toy_models: Path, tmp_path: Path) -> None:
    assert "toy" in {row["name"] for row in zoo_json("list")}
    assert zoo_json("info", "toy")["weights"] == "trained"
    out = tmp_path / "toy.zoo"
    made = zoo_json("export", "toy", "--out", out)
    assert made["size"] == out.stat().st_size
    clip = toy_models / "toy" / "golden" / "1.wav"
    (result,) = zoo_json("run", out, clip)
    assert result["label"] == "low"
    assert zoo_json("selftest", out)["passed"] is True
    scored = zoo_json("eval", out, "--data", toy_models / "data")
    assert scored["metrics"]["UAR"] > 0.9
    assert scored["group_interval"] is not None
    report = zoo_json("bench", out, "--quick", "--seconds", "0.3", "--processes", "2")
    assert report["rows"]
    zoo_json("export", "toy")
    assert zoo_json("run", "toy", clip)[0]["label"] == "low"


def test_several_heads_from_one_graph(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The toy with a class, a value that goes with it, and an embedding: exported with the gate, run, scored, timed."""
    folder = tmp_path / "models" / "toy"
    shutil.copytree(toy_root / "toy", folder)
    card = (folder / "card.toml").read_text("utf-8").replace('"toy"', '"twins"')
    decode = """decode = { type = "heads", heads = [
  { name = "tone", labels = ["low", "middle", "high"], metric = "UAR", decode = { type = "softmax", output = "probs" } },
  { name = "share", labels = ["low", "middle", "high"], metric = "CCC", decode = { type = "regression", output = "probs", range = [0.0, 1.0] } },
  { name = "vector", decode = { type = "embedding", output = "logits" } },
] }"""
    card = card.replace('decode = { type = "softmax", output = "probs" }', decode)
    card = card.replace(
        'labels = ["low", "middle", "high"]\nconfig', 'labels = ["tone", "share", "vector"]\nconfig'
    )
    card = card.replace('data = { reader = "local" }', 'data = { reader = "local" }\nmetric = "heads-mean"')
    (folder / "card.toml").write_text(card.replace("ready = true\n", ""))
    data = (folder / "data.py").read_text("utf-8")
    data = data.replace(
        "labels.index(label), group)",
        '{"tone": labels.index(label), **({"share": tuple(float(l == label) for l in labels)} if group != "a" else {})}, group)',
    ).replace(
        'return Dataset("toy-tones", labels, tuple(items), "CC0-1.0")',
        'return Dataset("toy-tones", ("tone", "share"), tuple(items), "CC0-1.0", heads={"tone": labels, "share": labels})',
    )
    (folder / "data.py").write_text(data)
    monkeypatch.setenv("ZOO_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    out = tmp_path / "twins.zoo"
    made = zoo_json("export", "twins", "--precision", "int8", "--data", toy_root / "data", "--out", out)
    assert made["size"] == out.stat().st_size
    clip = folder / "golden" / "1.wav"
    (result,) = zoo_json("run", out, clip)
    assert result["label"] is None
    assert list(result["heads"]) == ["tone", "share", "vector"]
    assert result["heads"]["tone"]["label"] == "low"
    assert result["heads"]["share"]["values"] == result["heads"]["tone"]["scores"]
    assert len(result["heads"]["vector"]["values"]) == 3
    table = subprocess.run([ZOO, "run", str(out), str(clip)], capture_output=True, text=True, timeout=60)
    assert "3 numbers (--json shows them)" in table.stdout
    assert zoo_json("selftest", out)["passed"] is True
    scored = zoo_json("eval", out, "--data", toy_root / "data")
    figures = scored["metrics"]
    assert figures["heads-mean"] == pytest.approx((figures["tone/UAR"] + figures["share/CCC"]) / 2)
    assert figures["heads-harmonic-mean"] == pytest.approx(
        2 / (1 / figures["tone/UAR"] + 1 / figures["share/CCC"])
    )
    assert figures["tone/UAR"] > 0.9
    assert scored["interval"][0] <= figures["heads-mean"] <= scored["interval"][1]
    gate = zoo_json("inspect", out)["gate"]
    assert gate["metric"] == "heads-mean"
    assert gate["passed"] is True
    assert zoo_json("bench", out, "--quick", "--seconds", "0.3", "--processes", "2")["rows"]
