# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the oracle tests: each compares a kernel with an independent implementation, on every ISA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from zoo import _native


@pytest.fixture(params=_native.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this CPU has, set as the default of new plans."""
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa("")


def clips_at(data_root: Path, rate_out: int) -> list[NDArray[np.float32]]:
    """100 real clips: 50 whole ones and 50 cut to 2 s, resampled with python-soxr."""
    soundfile = pytest.importorskip("soundfile")
    soxr = pytest.importorskip("soxr")
    files = []
    for folder in ("full4", "first2s"):
        found = sorted((data_root / "emodb" / folder).glob("*.flac"))
        files += found[:: max(1, len(found) // 50)][:50]
    assert len(files) == 100
    clips = []
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32")
        clips.append(soxr.resample(samples, rate, rate_out, quality="HQ"))
    return clips


@pytest.fixture(scope="session")
def real_clips(data_root: Path) -> list[NDArray[np.float32]]:
    """The real clips at 22.05 kHz."""
    return clips_at(data_root, 22050)


@pytest.fixture(scope="session")
def real_clips_48k(data_root: Path) -> list[NDArray[np.float32]]:
    """The real clips at 48 kHz, where their upper octave is as good as empty."""
    return clips_at(data_root, 48000)
