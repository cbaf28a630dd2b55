# SPDX-License-Identifier: Apache-2.0
"""The memory of recording ranges, in processes of their own: bounded, whatever the number of inputs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "calibration_memory.py"


def peak(faces: Path, items: int) -> int:
    done = subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            str(faces),
            "--items",
            str(items),
            "--size",
            "128",
            "--width",
            "16",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["items"] == items
    assert figures["tensors"] == 50  # a block's first convolution and its shortcut share their input
    return int(figures["peak"])


def test_memory_does_not_grow_with_the_number_of_inputs(data_root: Path) -> None:
    faces = data_root / "faces" / "ferplus_valid.npz"
    few, many = peak(faces, 8), peak(faces, 256)
    # All 248 more inputs would be 49 MB, and what the graph makes of them more than 1 GB.
    assert many - few < 25e6
