# SPDX-License-Identifier: Apache-2.0
"""Same inputs, same versions: the same bytes, whatever process, folder, hash seed and number of threads made them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from zoo.bundle import open_bundle

ZOO = shutil.which("zoo", path=str(Path(sys.executable).parent)) or "zoo"

#: Engine's package to the target that is tried with it.
TARGETS = {"onnxruntime": "cpu-x86", "openvino": "openvino-cpu", "tensorrt_rtx": "tensorrt-rtx"}
#: Of the report: what is measured in seconds, and what follows from the plan that TensorRT-RTX's builder makes anew
#: every time. A manifest has no times.
TIMES = ("seconds", "digest", "size")


def without(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: without(item, keys) for key, item in value.items() if key not in keys}
    if isinstance(value, list):
        return [without(item, keys) for item in value]
    return value


def test_two_fresh_processes_give_the_same_bytes(toy_models: Path, tmp_path: Path) -> None:
    targets = [target for package, target in TARGETS.items() if importlib.util.find_spec(package)]
    command = [ZOO, "export", "--all", "--model", "toy-outlier", "--precision", "fp32,int8", "--json"]
    command += [part for target in targets for part in ("--target", target)]
    processes = []
    for run, seed, threads in (("a", "1", "1"), ("b", "4711", "3")):
        home = tmp_path / run
        home.mkdir()
        env = {**os.environ, "PYTHONHASHSEED": seed, "ZOO_HOME": str(home / "home")}
        env |= {f"{name}_NUM_THREADS": threads for name in ("OMP", "OPENBLAS", "MKL")}
        processes.append(
            subprocess.Popen(
                [*command, "--data", str(toy_models / "data"), "--out", str(home / "out")],
                cwd=home,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for process in processes:
        stdout, stderr = process.communicate(timeout=600)
        assert process.returncode == 0, (stdout, stderr)
    one, other = tmp_path / "a" / "out", tmp_path / "b" / "out"
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert sum(path.name == "manifest.json" for path in files) == 2 * len(targets)
    for path in files:
        first, second = (one / path).read_bytes(), (other / path).read_bytes()
        if path.name == "report.json":
            reports = [
                json.loads(first.replace(bytes(one), b"")),
                json.loads(second.replace(bytes(other), b"")),
            ]
            assert without(reports[0], TIMES) == without(reports[1], TIMES)
        elif "tensorrt-rtx" in path.parts[1]:
            _compare_all_but_the_plan(path, first, second)
        else:
            assert first == second, path
    graphs = [open_bundle(path.parent).manifest.key.onnx_sha256 for path in one.rglob("manifest.json")]
    assert len(set(graphs)) == 3, "fp32, int8, and int8 with the outputs that onnxruntime wants quantised"


def _compare_all_but_the_plan(path: Path, first: bytes, second: bytes) -> None:
    """TensorRT-RTX's builder gives another plan every time, and its log has times; all else must be equal."""
    if path.name == "manifest.json":
        one, other = json.loads(first), json.loads(second)
        for manifest in (one, other):
            manifest["files"] = [
                file for file in manifest["files"] if file["path"] not in ("engine.plan", "build.log")
            ]
        assert without(one, ("digest",)) == without(other, ("digest",))
    elif path.name not in ("engine.plan", "build.log"):
        assert first == second, path
