# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402
"""Every op beside its peer: one process, one thread, taking turns, equality checked before anything is timed.

    python benchmarks/micro/run.py [FAMILY ...] [--match TEXT] [--isa NAME] [--seconds 1.0] [--json] [--out FILE.md]

A family is a module beside this file with ``rows() -> Iterator[Row]``. Both sides see the same distinct inputs in turn. A
round times a block of calls of each side, in changing order; the ratio is the median over rounds of peer / zoo, with the
10th and 90th percentile beside it. Exit code 6 when a side's result does not agree with the other's.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"  # before NumPy is imported

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from zoo import _native, ops

HERE = Path(__file__).resolve().parent
ORACLES = HERE.parents[1] / "tests" / "oracle"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One op beside one peer. ``ours`` and ``theirs`` take the index of the input; ``inputs`` is their number."""

    op: str
    """Op and setting, for example ``mfcc 22.05 kHz, 2 s``."""
    peer: str
    """Library and function."""
    ours: Callable[[int], Any]
    theirs: Callable[[int], Any]
    inputs: int
    check: Callable[[], str | None]
    """None when both agree on every input it looks at, else how they differ."""
    goal: float | None = None
    """How many times as fast as the peer the op is to be."""


def block(call: Callable[[int], Any], first: int, calls: int, inputs: int) -> float:
    """Seconds a call."""
    start = time.perf_counter()
    for i in range(first, first + calls):
        call(i % inputs)
    return (time.perf_counter() - start) / calls


def measure(row: Row, seconds: float) -> dict[str, Any]:
    """Times of both sides in ms and the ratio over rounds."""
    sides = [row.ours, row.theirs]
    for call in sides:  # warm up
        call(0)
    once = [max(block(call, 0, 2, row.inputs), 1e-7) for call in sides]
    calls = [max(1, int(2e-3 / t)) for t in once]
    rounds = int(np.clip(seconds / sum(t * n for t, n in zip(once, calls, strict=True)), 9, 400))
    times = np.empty((rounds, 2))
    for r in range(rounds):
        for side in (0, 1) if r % 2 == 0 else (1, 0):
            times[r, side] = block(sides[side], r * calls[side], calls[side], row.inputs)
    ratio = times[:, 1] / times[:, 0]
    low, mid, high = np.percentile(ratio, [10, 50, 90])
    ours, theirs = np.median(times, axis=0) * 1e3
    return {
        "zoo_ms": float(ours),
        "peer_ms": float(theirs),
        "ratio": float(mid),
        "ratio_p10": float(low),
        "ratio_p90": float(high),
        "rounds": rounds,
    }


def load(file: Path) -> ModuleType:
    """The module of a family or of an oracle test."""
    spec = importlib.util.spec_from_file_location(f"micro_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def families() -> list[str]:
    """Names of all families."""
    return sorted(
        p.stem for p in HERE.glob("*.py") if p.stem != "run" and not p.stem.startswith(("_", "test_"))
    )


def cpu_name() -> str:
    """The CPU's name as Linux gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def markdown(results: list[dict[str, Any]]) -> str:
    """The table for `benchmarks/results`."""
    lines = [
        f"# Ops beside their peers, {ops.isa()} kernels, {date.today().isoformat()}",
        "",
        f"{cpu_name()}, one thread, made by `benchmarks/micro/run.py`: both sides in one process, in turn, on the same inputs, equality",
        "checked first. The ratio is the median over rounds of peer / zoo, in brackets its 10th and 90th percentile.",
        "",
        "| op | peer | zoo ms | peer ms | ratio | goal |",
        "|---|---|---|---|---|---|",
    ]
    for r in results:
        goal = (
            "-"
            if r["goal"] is None
            else f"{r['goal']:g} {'met' if r['ratio'] >= r['goal'] else '**missed**'}"
        )
        lines.append(
            f"| {r['op']} | {r['peer']} | {r['zoo_ms']:.4g} | {r['peer_ms']:.4g} | "
            f"{r['ratio']:.2f} [{r['ratio_p10']:.2f}-{r['ratio_p90']:.2f}] | {goal} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print."""
    sys.modules.setdefault("run", sys.modules["__main__"])  # families import Row from here
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", nargs="*", choices=[[], *families()], help="default: all")
    parser.add_argument("--match", default="", help="only ops whose name contains this")
    parser.add_argument("--isa", default="", help="instruction set; default: the fastest")
    parser.add_argument("--seconds", type=float, default=1.0, help="a row")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="also write the table as Markdown")
    args = parser.parse_args()
    if args.isa:
        _native.set_isa(args.isa)
    results, wrong = [], []
    if not args.json:
        print(f"{cpu_name()}, {ops.isa()}, one thread")
    for family in args.family or families():
        rows: Iterator[Row] = load(HERE / f"{family}.py").rows()
        for row in rows:
            if args.match not in row.op:
                continue
            problem = row.check()
            if problem is not None:
                wrong.append(f"{row.op}: {problem}")
                print(f"{row.op}: DIFFERS: {problem}", file=sys.stderr)
                continue
            result = {
                "family": family,
                "op": row.op,
                "peer": row.peer,
                "goal": row.goal,
                **measure(row, args.seconds),
            }
            results.append(result)
            if not args.json:
                goal = (
                    ""
                    if row.goal is None
                    else f"  goal {row.goal:g} {'met' if result['ratio'] >= row.goal else 'MISSED'}"
                )
                print(
                    f"{row.op:44} {row.peer:34} zoo {result['zoo_ms']:9.4f} ms  peer {result['peer_ms']:9.4f} ms  "
                    f"ratio {result['ratio']:7.2f} [{result['ratio_p10']:.2f}-{result['ratio_p90']:.2f}]{goal}",
                    flush=True,
                )
    if args.json:
        print(json.dumps({"schema": 1, "cpu": cpu_name(), "isa": ops.isa(), "rows": results, "wrong": wrong}))
    if args.out:
        args.out.write_text(markdown(results))
    if wrong:
        sys.exit(6)


if __name__ == "__main__":
    main()
