# SPDX-License-Identifier: Apache-2.0
"""Targets are data: what a file may hold, and what is said about what it does not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from zoo.bundle import Key
from zoo.card import Refused
from zoo.errors import TargetError, ZooError
from zoo.export.targets import find_target, load_targets, read_target

GOOD = """
name = "board"
title = "A board"
engine = "onnxruntime"
engine_version = ">={major}.{minor},<99"
arch = ["aarch64"]
[precisions.fp32]
static = ["batch"]
[precisions.int8]
[refused]
fp16 = "no kernels"
"""


def test_the_targets_that_ship() -> None:
    targets = load_targets()
    assert set(targets) == {
        *(
            "cpu-x86",
            "cpu-arm64",
            "openvino-cpu",
            "openvino-npu",
            "cuda",
            "tensorrt-rtx",
            "rtx-desktop",
            "web-wasm",
        ),
        *("jetson-orin-nano-jp6", "jetson-agx-orin-jp6", "jetson-orin-jp5", "jetson-thor-jp7"),
    }
    for target in targets.values():
        assert "fp32" in {*target.precisions, *target.refused}
        assert target.precisions
        assert target.sources
        assert not set(target.precisions) & set(target.refused)
        requirement = target.requirement("1.2.3")
        pattern = next(
            f
            for f in msgspec.json.schema(Key)["$defs"]["Key"]["properties"].items()
            if f[0] == "engine_version"
        )
        import re

        assert re.match(pattern[1]["pattern"], requirement)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name =", "nome ="), "unknown field `nome`"),
        (('"onnxruntime"', '"tflite"'), "Invalid enum value 'tflite'"),
        (("static =", "statik ="), r"unknown field `statik` - at `\$.precisions"),
        (("[refused]", "[refused]\nfp64 = 'x'\n"), "Invalid enum value 'fp64'"),
        (('arch = ["aarch64"]', "arch = []"), "length >= 1"),
        (("title", "= title"), "not a valid target"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "board.toml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(ZooError, match=message):
        read_target(path)


def test_reasons_and_versions(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(GOOD)
    target = read_target(path)
    assert target.requirement("1.32.0") == ">=1.32,<99"
    assert target.profile({"batch": (1, 2, 8), "time": (1, 5, 9)}, "fp32") == {
        "batch": (2, 2, 2),
        "time": (1, 5, 9),
    }
    assert target.profile({"batch": (1, 2, 8)}, "int8") == {"batch": (1, 2, 8)}
    with pytest.raises(TargetError, match=r"board does not take fp16: no kernels\. It takes fp32, int8"):
        target.options("fp16")
    with pytest.raises(TargetError, match=r"board does not take bf16; it takes fp32, int8"):
        target.options("bf16")
    with pytest.raises(TargetError, match="no precision is called 'fp3'"):
        target.options("fp3")
    refused = (
        Refused(target="*", precision="int8", reason="too lossy"),
        Refused(target="other", precision="*", reason="x"),
    )
    assert target.cells(refused) == {"fp32": None, "int8": "too lossy", "fp16": "no kernels"}


def test_an_unknown_target_gets_a_suggestion() -> None:
    with pytest.raises(TargetError, match="'openvino'; did you mean openvino-npu, openvino-cpu"):
        find_target("openvino")
    with pytest.raises(TargetError, match="'zzz'; there are cpu-arm64, cpu-x86, cuda"):
        find_target("zzz")


def test_targets_need_no_heavy_package() -> None:
    import subprocess
    import sys

    code = (
        "import sys, zoo.export.targets as t; t.load_targets(); "
        "print(*[m for m in ('torch', 'onnx', 'onnxruntime', 'openvino') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_a_compute_capability_that_a_target_lacks_is_refused() -> None:
    rtx = find_target("tensorrt-rtx")
    assert rtx.for_capability(None) is rtx
    assert rtx.for_capability("12.1").compute_capability == "12.1"
    with pytest.raises(
        TargetError, match=r"tensorrt-rtx has no compute capability 8.7; it has 7.5, 8.0, 8.6,"
    ):
        rtx.for_capability("8.7")
    with pytest.raises(TargetError, match="its engine does not depend on it"):
        find_target("cpu-x86").for_capability("8.9")
