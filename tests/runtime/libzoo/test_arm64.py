# SPDX-License-Identifier: Apache-2.0
"""libzoo for 64-bit Arm, under qemu."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import zoo
import zoo.pipeline
from libzoo_c import (
    REPOSITORY,
    ready_bundles,
    twin,
)


@pytest.fixture(scope="session")
def arm64() -> Callable[..., str]:
    """Runs a program that ``make arm64`` (or who set ``ZOO_ARM64``) built, under qemu; its standard output."""
    folder = Path(os.environ.get("ZOO_ARM64") or REPOSITORY / "build" / "arm64")
    if not (folder / "classify_wav").is_file():
        pytest.skip(f"{folder} has no build for 64-bit Arm; make arm64, or set ZOO_ARM64")
    engine = folder / "system" / "wheels" / "openvino" / "libs"

    def run(program: str, *arguments: str | Path, signal: bytes = b"") -> str:
        done = subprocess.run(
            # qemu's own choice has SVE of 2048 bits, which no chip has: OpenVINO 2026.4.1 then gives wrong numbers
            [
                "qemu-aarch64",
                "-cpu",
                "cortex-a76",
                "-L",
                "/usr/aarch64-linux-gnu",
                folder / program,
                *arguments,
            ],
            env={**os.environ, "ZOO_ENGINE_PATH": str(engine)},
            input=signal,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    return run


# onnxruntime's arm64 library does not start under qemu-user: it takes the host's /sys for that of an Arm machine.
@pytest.mark.parametrize("path", ready_bundles(), ids=lambda path: path.name)
def test_golden_inputs_on_arm64(arm64: Callable[..., str], path: Path, tmp_path: Path) -> None:
    said = arm64("classify_wav", twin(path, tmp_path / "twin"))
    found = re.fullmatch(r"selftest passed: largest difference (\S+), allowed (\S+)\n", said)
    assert found is not None, said
    assert float(found[1]) <= float(found[2])


def test_windows_on_arm64(arm64: Callable[..., str], openvino_bundle: Path) -> None:
    signal = (np.random.default_rng(10).normal(0, 0.1, 60_000) * 32767).astype(np.int16)
    lines = arm64("live_speech", openvino_bundle, "16000", "0.8", signal=signal.tobytes()).splitlines()
    wanted = list(zoo.load(openvino_bundle).stream([signal], rate=16000, hop=0.8))
    assert len(lines) == len(wanted) > 1
    for line, expected in zip(map(json.loads, lines), wanted, strict=True):
        assert line["result"]["label"] == expected.label
        assert line["result"]["scores"] == pytest.approx(expected.scores, abs=1e-5)
