# SPDX-License-Identifier: Apache-2.0
"""Two threads beside one on the same work: clips of a batch, rows of one long input, frames of a video. The peer is one thread."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from run import Row

from zoo.ops import isa
from zoo.pipeline import Fit, FlowDis, Log, Mel, Mfcc, Op, Pipeline, Resample, ResizeNormalize

INPUTS = 4
SHEET_10: tuple[Op, ...] = (Resample(rate=22050), Fit(length=96000), Mfcc())
SHEET_6D: tuple[Op, ...] = (
    Resample(rate=22050),
    Mel(n_fft=1024, hop_length=256, pad_mode="reflect", power=1.0, n_mels=80, fmax=8000.0),
    Log(amin=1e-5),
)


def rows() -> Iterator[Row]:
    """Goal: 1.8 times one thread, on a machine with two idle cores."""
    rng = np.random.default_rng(0)
    rate = 16000
    batches = [
        [rng.standard_normal(2 * rate + 999 * i).astype(np.float32) * 0.1 for i in range(48)]
        for _ in range(INPUTS)
    ]
    for name, chain in (("sheet 10", SHEET_10), ("sheet 6 D", SHEET_6D)):
        pipeline = Pipeline(chain, isa=isa())

        def same(p: Pipeline = pipeline) -> str | None:
            pairs = zip(
                p.batch(batches[0], rate, threads=2), p.batch(batches[0], rate, threads=1), strict=True
            )
            return None if all(np.array_equal(a, b) for a, b in pairs) else "two threads differ from one"

        yield Row(
            op=f"48 clips of 2 to 5 s, {name}, 2 threads",
            peer="1 thread",
            ours=lambda i, p=pipeline: p.batch(batches[i], rate, threads=2),
            theirs=lambda i, p=pipeline: p.batch(batches[i], rate, threads=1),
            inputs=INPUTS,
            check=same,
            goal=1.8,
        )
    long = [rng.standard_normal(60 * rate).astype(np.float32) * 0.1 for _ in range(INPUTS)]
    for name, chain in (("sheet 6 D", SHEET_6D), ("resample to 48 kHz", (Resample(rate=48000),))):
        pipeline = Pipeline(chain, isa=isa())
        yield Row(
            op=f"rows of 60 s, {name}, 2 threads",
            peer="1 thread",
            ours=lambda i, p=pipeline: p.run(long[i], rate, threads=2),
            theirs=lambda i, p=pipeline: p.run(long[i], rate, threads=1),
            inputs=INPUTS,
            check=lambda p=pipeline: (
                None
                if np.array_equal(p.run(long[0], rate, threads=2), p.run(long[0], rate, threads=1))
                else "two threads differ from one"
            ),
            goal=1.8,
        )
    videos = [rng.integers(0, 256, (32, 480, 640, 3), np.uint8) for _ in range(2)]
    for name, op in (
        ("resize_normalize to 224", ResizeNormalize(height=224, width=224)),
        ("flow_dis fast", FlowDis(preset="fast")),
    ):
        pipeline = Pipeline([op], isa=isa(), shape=(-1, 480, 640, 3))
        yield Row(
            op=f"32 frames 640x480, {name}, 2 threads",
            peer="1 thread",
            ours=lambda i, p=pipeline: p.run(videos[i], 25, threads=2),
            theirs=lambda i, p=pipeline: p.run(videos[i], 25, threads=1),
            inputs=len(videos),
            check=lambda p=pipeline: (
                None
                if np.array_equal(p.run(videos[0], 25, threads=2), p.run(videos[0], 25, threads=1))
                else "two threads differ from one"
            ),
            goal=1.8,
        )
