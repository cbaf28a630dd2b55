# SPDX-License-Identifier: Apache-2.0
"""Time of each stage and peak memory of a curve model on a film of any length: a file whose sound is played in a loop.

    python benchmarks/film_length.py BUNDLE FILE [--hours 2] [--threads 1] [--json]

BUNDLE is a bundle's path or a model's name. The file is decoded anew in every round, as a long film would be. Times are
of one run, as shares of the film's length (real-time factors, RTF); memory is VmHWM of /proc/self/status before and after.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calibration_memory import peak_bytes
from numpy.typing import NDArray

import zoo
from zoo._native import isa
from zoo.media import Film, Sound, open_sound


def looped(sound: Sound, seconds: float) -> Sound:
    """The same sound over and over, ``seconds`` long."""

    def blocks() -> Iterator[NDArray[Any]]:
        left = round(seconds * sound.rate)
        while left > 0:
            for block in sound.blocks():
                yield block[:left]
                left -= len(block)
                if left <= 0:
                    return

    return Sound(sound.rate, blocks)


def main() -> int:
    """Run once, and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("file", type=Path)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model = zoo.load(options.bundle, threads=options.threads)
    sound = open_sound(options.file)
    model(Film(looped(sound, min(10.0, 3600 * options.hours))))  # what is allocated once is there
    before = peak_bytes()
    seconds = 3600 * options.hours
    found = model(Film(looped(sound, seconds)))
    peak = peak_bytes()
    timing = found.timing
    figures = {
        "model": model.name,
        "weights": model.manifest.provenance.weights,
        "isa": isa(),
        "threads": options.threads,
        "seconds": seconds,
        "steps": len(next(iter(found.outputs.values()))),
        "rtf": {
            "decode": timing.decode_input / 1e3 / seconds,
            "preprocess": timing.preprocess / 1e3 / seconds,
            "engine": timing.engine / 1e3 / seconds,
            "curves": timing.decode / 1e3 / seconds,
            "total": timing.total / 1e3 / seconds,
        },
        "before": before,
        "peak": peak,
    }
    if options.json:
        print(json.dumps(figures))
    else:
        rtf = ", ".join(f"{stage} {value:.5f}" for stage, value in figures["rtf"].items())  # type: ignore[attr-defined]
        print(
            f"{model.name} (weights: {figures['weights']}), {seconds:.0f} s of {sound.rate} Hz, {figures['steps']} steps, "
            f"{figures['isa']}, {options.threads} thread(s): RTF {rtf}; peak {peak / 1e6:.0f} MB, {(peak - before) / 1e6:.0f} MB of it for the film"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
