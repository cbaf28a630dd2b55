# SPDX-License-Identifier: Apache-2.0
"""Descriptors and functionals from audio, beside openSMILE's: Pearson's r over clips, for every functional and descriptor.

    python benchmarks/lld_agreement.py CLIPS [--step 1] [--write docs/functionals.md] [--json]

CLIPS is a folder of audio files, for example EmoDB's full4. A cell of the table is the least r of its functional over the
columns of its group of descriptors. ``--write`` puts the table between the two markers of that file. Exit code 6 when a cell
lies below 0.99.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo import ops

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))
from _opensmile import FUNCTIONAL_LEVELS, Emobase2010

F32 = NDArray[np.float32]
GOAL = 0.99
BEGIN, END = "<!-- lld_agreement.py: begin -->", "<!-- lld_agreement.py: end -->"
#: Groups of descriptors, as the table calls them: pattern of the column's name.
GROUPS = {
    "loudness": "pcm_loudness_sma",
    "MFCC": r"pcm_fftMag_mfcc_sma\[\d+\]",
    "log mel": r"logMelFreqBand_sma\[\d+\]",
    "LSF": r"lspFreq_sma\[\d+\]",
    "F0 env.": "F0finEnv_sma",
    "voicing": "voicingFinalUnclipped_sma",
    "F0": "F0final_sma",
    "jitter": "jitterLocal_sma",
    "jitter DDP": "jitterDDP_sma",
    "shimmer": "shimmerLocal_sma",
}
FUNCTIONALS = list(dict.fromkeys(name.rsplit("_", 1)[1] for name in ops.FUNCTIONAL_NAMES[:-2]))


def pearson(ours: F32, theirs: F32) -> NDArray[np.float64]:
    """Correlation of each column; 1 where both are equal, 0 where just one varies."""
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ValueError("a functional is not finite")
    a = ours.astype(np.float64) - ours.mean(axis=0, dtype=np.float64)
    b = theirs.astype(np.float64) - theirs.mean(axis=0, dtype=np.float64)
    size = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    r = np.divide((a * b).sum(axis=0), size, out=np.zeros_like(size), where=size > 0)
    return np.where((ours == theirs).all(axis=0), 1.0, r)


@dataclass
class Agreement:
    """Functionals of many clips, ours and openSMILE's, of whole clips and of windows."""

    rate: int
    whole: list[tuple[F32, F32]] = field(default_factory=list)
    windows: list[tuple[F32, F32]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peer = Emobase2010(FUNCTIONAL_LEVELS, self.rate)
        self.peer_windows = Emobase2010(FUNCTIONAL_LEVELS, self.rate, window=(0.4, 0.04))

    def add(self, wave: F32) -> None:
        """One clip."""
        rows = ops.lld(wave, self.rate)
        self.whole.append((ops.functionals(rows), self.join(self.peer(wave))))
        theirs = self.join(self.peer_windows(wave))
        self.windows.append((ops.sliding_functionals(rows)[: len(theirs)], theirs))

    @staticmethod
    def join(levels: dict[str, F32]) -> F32:
        """Levels side by side, as many rows as all of them have."""
        count = min(len(level) for level in levels.values())
        return np.concatenate([levels[name][:count, 0] for name in FUNCTIONAL_LEVELS], axis=1)


def columns(group: str, functional: str, delta: str) -> list[int]:
    """Indices of the values of one cell."""
    pattern = GROUPS[group].replace("_sma", "_sma" + delta) + "_" + re.escape(functional)
    return [i for i, name in enumerate(ops.FUNCTIONAL_NAMES) if re.fullmatch(pattern, name)]


def cells(r: NDArray[np.float64]) -> dict[str, float | None]:
    """Least r of each functional and group; None where emobase2010 has no such value."""
    table: dict[str, float | None] = {}
    for functional in FUNCTIONALS:
        for delta in ("", "_de"):
            for group in GROUPS:
                found = columns(group, functional, delta)
                table[f"{group}{' Δ' if delta else ''}|{functional}"] = (
                    float(r[found].min()) if found else None
                )
    for name in ops.FUNCTIONAL_NAMES[-2:]:
        table[name] = float(r[ops.FUNCTIONAL_NAMES.index(name)])
    return table


def show(value: float | None) -> str:
    """Four digits, never rounded up to a goal that is missed; 1 only where it is 1 to six."""
    if value is None:
        return ""
    return "1" if value > 1 - 5e-7 else f"{np.floor(value * 1e4) / 1e4:.4f}"


def markdown(table: dict[str, float | None]) -> list[str]:
    """Two tables: descriptors, and their deltas."""
    lines: list[str] = []
    for delta, title in (("", "Descriptors"), (" Δ", "Their deltas")):
        names = [group + delta for group in GROUPS]
        lines += [
            "",
            f"{title}:",
            "",
            "| functional | " + " | ".join(names) + " |",
            "|---" * (len(names) + 1) + "|",
        ]
        for functional in FUNCTIONALS:
            row = [show(table[f"{name}|{functional}"]) for name in names]
            lines.append(f"| {functional} | " + " | ".join(row) + " |")
    return lines


def summary(r: NDArray[np.float64], equal: float) -> str:
    """One sentence about all 1582 values."""
    below = int((r < GOAL).sum())
    return (
        f"least r {show(float(r.min()))} ({ops.FUNCTIONAL_NAMES[int(r.argmin())]}), {below} of {len(r)} values below {GOAL}, "
        f"{100 * equal:.1f} % of all values within 1e-4 of openSMILE's (relative)"
    )


def close(pairs: Sequence[tuple[F32, F32]]) -> float:
    """Share of values that agree to 1e-4."""
    ours, theirs = (np.concatenate(side).astype(np.float64) for side in zip(*pairs, strict=True))
    return float((np.abs(ours - theirs) <= 1e-4 * np.abs(theirs)).mean())


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("--step", type=int, default=1, help="take every STEP-th clip")
    parser.add_argument("--write", type=Path, help="file to put the table into")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    files = sorted(p for p in args.clips.iterdir() if p.suffix in (".flac", ".wav"))[:: args.step]
    if len(files) < 3:
        parser.error(f"{args.clips} holds {len(files)} FLAC or WAV files; give at least 3")
    agreement: Agreement | None = None
    for file in files:
        wave, rate = ops.read_audio(file)
        agreement = agreement or Agreement(rate)
        if rate != agreement.rate:
            parser.error(f"{file.name} has {rate} Hz, the clips before it {agreement.rate}")
        agreement.add(wave)
    assert agreement is not None
    r, r_windows = (
        pearson(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
        for pairs in (agreement.whole, agreement.windows)
    )
    table = cells(r)
    count = sum(len(ours) for ours, _ in agreement.windows)
    lines = [
        f"{len(files)} clips, {agreement.rate} Hz. Whole clips: {summary(r, close(agreement.whole))}.",
        f"{count} windows of 400 ms: {summary(r_windows, close(agreement.windows))}.",
        f"Number of onsets: r {show(table[ops.FUNCTIONAL_NAMES[-2]])}; duration: {show(table[ops.FUNCTIONAL_NAMES[-1]])}.",
        *markdown(table),
    ]
    if args.json:
        names = ops.FUNCTIONAL_NAMES
        print(
            json.dumps(
                {
                    "schema": 1,
                    "clips": len(files),
                    "cells": table,
                    "r": dict(zip(names, r.tolist(), strict=True)),
                }
            )
        )
    else:
        print("\n".join(lines))
    if args.write:
        text = args.write.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN, 1)
        after = rest.split(END, 1)[1]
        args.write.write_text("\n".join([before + BEGIN, *lines, END + after]), encoding="utf-8")
    if min(value for value in table.values() if value is not None) < GOAL:
        sys.exit(6)


if __name__ == "__main__":
    main()
