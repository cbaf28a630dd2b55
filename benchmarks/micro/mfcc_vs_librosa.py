# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402
"""MFCC against librosa and resampling against python-soxr, one thread, interleaved, equality checked first.

    python benchmarks/micro/mfcc_vs_librosa.py [--json] [--seconds 2] [--runs 200]

Each contender sees the same 64 distinct clips in turn; the ratio is that of the medians.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"  # before NumPy is imported

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
import soxr

from zoo import _native, ops
from zoo.pipeline import Mfcc, Pipeline, Resample


def speech_like(seconds: float, rate: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Modulated noise with a falling spectrum: the arithmetic does not depend on the samples."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    wave = np.cumsum(rng.standard_normal(n)) * 0.02
    wave = np.diff(wave, prepend=0) + 0.5 * rng.standard_normal(n) * np.sin(np.arange(n) * 9 / rate) ** 2
    return (0.2 * wave).astype(np.float32)


def interleaved(contenders: dict[str, Callable[[int], Any]], runs: int) -> dict[str, list[float]]:
    """Times in ms of each contender, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(-20, runs):
        for name, call in contenders.items():
            start = time.perf_counter()
            call(i)
            if i >= 0:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def main() -> None:
    """Print one row for each op and instruction set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    clips = [speech_like(args.seconds, 22050, seed) for seed in range(64)]
    sources = [speech_like(args.seconds, 16000, seed) for seed in range(64)]
    rows = []
    for isa in ops.isas():
        mfcc = Pipeline([Mfcc(rate=22050, n_mfcc=39)], isa=isa)
        resample = Pipeline([Resample(rate=22050)], isa=isa)
        want = librosa.feature.mfcc(y=clips[0], sr=22050, n_mfcc=39).T
        assert np.abs(mfcc.run(clips[0], 22050) - want).max() <= 5e-3
        tasks: dict[str, dict[str, Callable[[int], Any]]] = {
            "mfcc": {
                "zoo": lambda i, p=mfcc: p.run(clips[i % 64], 22050),  # type: ignore[misc]
                "librosa": lambda i: librosa.feature.mfcc(y=clips[i % 64], sr=22050, n_mfcc=39),
            },
            "resample 16 -> 22.05 kHz": {
                "zoo": lambda i, p=resample: p.run(sources[i % 64], 16000),  # type: ignore[misc]
                "soxr HQ": lambda i: soxr.resample(sources[i % 64], 16000, 22050, quality="HQ"),
            },
        }
        for task, contenders in tasks.items():
            times = interleaved(contenders, args.runs)
            p50 = {name: float(np.median(t)) for name, t in times.items()}
            p95 = {name: float(np.percentile(t, 95)) for name, t in times.items()}
            ours, peer = contenders
            rows.append(
                {
                    "task": task,
                    "isa": isa,
                    "peer": peer,
                    "p50_ms": p50,
                    "p95_ms": p95,
                    "ratio": p50[peer] / p50[ours],
                }
            )
    if args.json:
        print(json.dumps({"schema": 1, "default_isa": _native.isa(), "seconds": args.seconds, "rows": rows}))
        return
    for row in rows:
        p50: Any = row["p50_ms"]
        print(
            f"{row['task']:26} {row['isa']:9} zoo {p50['zoo']:.3f} ms   {row['peer']} {p50[row['peer']]:.3f} ms   "
            f"ratio {row['ratio']:.1f}"
        )


if __name__ == "__main__":
    main()
