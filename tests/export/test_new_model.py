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
