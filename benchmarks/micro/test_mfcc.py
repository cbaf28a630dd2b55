# SPDX-License-Identifier: Apache-2.0
"""Micro-benchmarks of the audio front end: ``pytest benchmarks/micro --benchmark-only``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zoo import _native
from zoo.pipeline import Fit, Mfcc, Op, Pipeline, Resample

pytest.importorskip("pytest_benchmark")

CHAINS: dict[str, tuple[int, tuple[Op, ...]]] = {
    "mfcc": (22050, (Mfcc(rate=22050),)),
    "resample": (16000, (Resample(rate=22050),)),
    "tim-net": (16000, (Resample(rate=22050), Fit(length=44100, pad="end", crop="start"), Mfcc())),
    "overhead": (16000, (Fit(length=1),)),
}


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("chain", CHAINS)
def test_two_seconds(benchmark: Any, chain: str, isa: str) -> None:
    """A 2-s clip through each chain; ``overhead`` is a call that computes one sample."""
    rate, chain_ops = CHAINS[chain]
    pipeline = Pipeline(chain_ops, isa=isa)
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * rate).astype(np.float32)
    benchmark.group = chain
    out = benchmark(pipeline.run, wave, rate)
    assert np.isfinite(out).all()
