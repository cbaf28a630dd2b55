# SPDX-License-Identifier: Apache-2.0
"""What libzoo takes on a device: its size, and a process from its start to the first label, with time and peak memory.

    make runtime && .venv/test/bin/python benchmarks/footprint.py [--runtime build/runtime] [--runs 15] [--json]

Processes take turns: ``classify_wav`` on one clip with each engine, and OpenVINO alone on the same graph (compiled here with
the wheel's headers), which says what of it is the engine's own. Memory is the peak of the resident set (``ru_maxrss``).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = REPOSITORY / "zoo" / "models" / "tim_net"
CLIP = MODEL / "golden" / "calm_22050.flac"


def folder_of(package: str) -> Path:
    """Where a package is installed. It is not imported: a process's peak counts that of the one that forked it."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit(f"{package} is not installed here: pip install {package}")
    return Path(found.origin).parent


def one(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and MB of one process; ``folder`` holds its engine's library."""
    environment = {**os.environ, "ZOO_ENGINE_PATH": str(folder), "LD_LIBRARY_PATH": str(folder)}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return seconds, usage.ru_maxrss * 1024 / 1e6


def main() -> int:
    """Measure, and print a row for each kind of process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runtime", type=Path, default=REPOSITORY / "build" / "runtime")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    program = options.runtime / "classify_wav"
    if not program.exists():
        print(f"{program} is not there: make runtime, or name its folder with --runtime", file=sys.stderr)
        return 3
    ort, ov = folder_of("onnxruntime") / "capi", folder_of("openvino") / "libs"
    ask = [sys.executable, "-c", "from zoo._native import isa; print(isa())"]
    isa = subprocess.run(ask, check=True, capture_output=True, text=True, cwd=ort).stdout.strip()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle, alone, stripped = folder / "openvino", folder / "openvino_start", folder / "libzoo.so"
        export = [sys.executable, "-m", "zoo", "export", "tim-net-emodb", "--target", "openvino-cpu"]
        export += ["--precision", "fp32", "--out", str(bundle)]
        subprocess.run(export, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        source = Path(__file__).with_name("peers") / "openvino_start.c"
        library = next(ov.glob("libopenvino_c.so*"))
        compiler = os.environ.get("CC", "cc")
        include = ov.parent / "include"
        link = [str(library), "-Wl,--allow-shlib-undefined"]
        subprocess.run([compiler, "-O2", f"-I{include}", str(source), *link, "-o", str(alone)], check=True)
        shutil.copy(options.runtime / "libzoo.so.1", stripped)
        subprocess.run(["strip", str(stripped)], check=True)
        size = stripped.stat().st_size
        ready = MODEL / "bundles" / "tim-net-emodb"
        commands = {
            "libzoo, onnxruntime": ([str(program), str(ready), str(CLIP)], ort),
            "libzoo, OpenVINO": ([str(program), str(bundle), str(CLIP)], ov),
            "OpenVINO alone": ([str(alone), str(bundle / "engine.xml"), str(bundle / "engine.bin")], ov),
        }
        for command, path in commands.values():  # from disk once
            one(command, path)
        runs: dict[str, list[tuple[float, float]]] = {key: [] for key in commands}
        for _ in range(options.runs):
            for key, (command, path) in commands.items():
                runs[key].append(one(command, path))
    rows = {
        key: {
            "least_s": min(s for s, _ in measured),
            "median_s": statistics.median(s for s, _ in measured),
            "peak_mb": statistics.median(mb for _, mb in measured),
        }
        for key, measured in runs.items()
    }
    if options.json:
        print(json.dumps({"isa": isa, "runs": options.runs, "stripped_bytes": size, "processes": rows}))
        return 0
    print(f"libzoo.so, stripped: {size / 1e6:.2f} MB; instruction set {isa}; {options.runs} processes each")
    for key, row in rows.items():
        print(
            f"{key:20}  least {row['least_s']:.3f} s, median {row['median_s']:.3f} s, peak {row['peak_mb']:.1f} MB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
