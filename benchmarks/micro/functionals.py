# SPDX-License-Identifier: Apache-2.0
"""Functionals beside openSMILE's, fed with the same descriptors, and sliding windows beside one run a window."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from run import Row

from zoo.ops import isa
from zoo.pipeline import Functionals, Pipeline, SlidingFunctionals

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
from _opensmile import FunctionalsOnly

INPUTS = 4
MINUTES = 2


def descriptors(n: int, seed: int) -> NDArray[np.float32]:
    """Slowly varying columns; those of group B are zero in 40 % of the rows, in runs."""
    rng = np.random.default_rng(seed)
    rows = np.cumsum(rng.standard_normal((n + 8, 76)), axis=0)
    rows = (rows[8:] - rows[:-8]).astype(np.float32)
    voiced = np.repeat(rng.random(n) < 0.6, rng.integers(5, 60, n))[:n]
    for column in (*range(34, 38), *range(72, 76)):
        rows[:, column] = np.where(voiced, np.abs(rows[:, column]) + 100, 0)
    return rows


def agree(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> str | None:
    """None when all but the onsets, for which the peer gets no contour, have the same bits but for some last places."""
    if ours.shape != theirs.shape:
        return f"shapes {ours.shape} and {theirs.shape}"
    a, b = ours[:, :-2].astype(np.float64), theirs[:, :-2]
    worst = float((np.abs(a - b) / (np.abs(b) + 1e-6 * np.abs(b).max())).max())
    return None if worst <= 1e-4 else f"worst relative difference {worst:.3g}"


def rows() -> Iterator[Row]:
    """Two minutes of descriptors. openSMILE's start (about 3 ms a run) is in its time, and small against it."""
    n = MINUTES * 6000
    inputs = [descriptors(n, seed) for seed in range(INPUTS)]
    whole = Pipeline([Functionals(tail=0)], isa=isa(), shape=(-1, 76))
    sliding = Pipeline([SlidingFunctionals()], isa=isa(), shape=(-1, 76))
    peer_whole, peer_sliding = FunctionalsOnly(), FunctionalsOnly((0.4, 0.04))
    yield Row(
        op=f"functionals, {MINUTES} min",
        peer="openSMILE cFunctionals",
        ours=lambda i: whole.run(inputs[i]),
        theirs=lambda i: peer_whole(inputs[i]),
        inputs=INPUTS,
        check=lambda: agree(whole.run(inputs[0]), peer_whole(inputs[0])),
        goal=5,
    )
    yield Row(
        op=f"sliding_functionals 400/40 ms, {MINUTES} min",
        peer="openSMILE cFunctionals, frames",
        ours=lambda i: sliding.run(inputs[i]),
        theirs=lambda i: peer_sliding(inputs[i]),
        inputs=INPUTS,
        check=lambda: agree(sliding.run(inputs[0]), peer_sliding(inputs[0])),
        goal=5,
    )
    windows = range(0, n - 39, 4)

    def each(i: int) -> NDArray[np.float32]:
        return np.concatenate([whole.run(inputs[i][at : at + 40]) for at in windows])

    def same() -> str | None:
        equal = np.array_equal(sliding.run(inputs[0])[:, :-2], each(0)[:, :-2])
        return None if equal else "the windows differ"

    yield Row(
        op=f"sliding_functionals 400/40 ms, {MINUTES} min",
        peer="zoo functionals on each window",
        ours=lambda i: sliding.run(inputs[i]),
        theirs=each,
        inputs=INPUTS,
        check=same,
        goal=1.2,
    )
