# SPDX-License-Identifier: Apache-2.0
"""The peers do the bundle's work: their features are the pipeline's, and they refuse what they do not know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from zoo.errors import ZooError
from zoo.pipeline import Dct, Fit, Mfcc, Pipeline, Resample, Standardize


@pytest.fixture(scope="module")
def librosa_front(script: Callable[[str], ModuleType]) -> Any:
    pytest.importorskip("librosa", reason="librosa is in the dev extra")
    return script("peers/_librosa").front_end


@pytest.mark.parametrize("length", [30_000, 44_100, 50_001])
@pytest.mark.parametrize("side", ["start", "center", "end"])
def test_the_librosa_front_end_gives_the_pipelines_features(
    librosa_front: Any, length: int, side: Any
) -> None:
    # Oracle: the project's pipeline, itself tested against librosa. Tolerance: its own of 5e-3 dB.
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, length).astype(np.float32)
    pipeline = (Resample(rate=22050), Fit(length=44_100, pad=side, crop=side), Mfcc(n_mfcc=39))
    expected = Pipeline(pipeline)(wave, 22050)
    found = librosa_front(pipeline)((wave, 22050))
    assert found.shape == (1, *expected.shape)
    assert np.abs(found[0] - expected).max() <= 5e-3


def test_the_librosa_front_end_standardises_and_resamples(librosa_front: Any) -> None:
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000).astype(np.float32)
    pipeline = (
        Resample(rate=22050),
        Fit(length=44_100),
        Mfcc(n_mfcc=4),
        Standardize(mean=(1, 2, 3, 4), std=(2, 2, 5, 5)),
    )
    expected = Pipeline(pipeline)(wave, 16_000)
    found = librosa_front(pipeline)((wave, 16_000))[0]
    # Two resampling filters: close, not equal.
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("op", [Dct(n_out=3), Mfcc(top_db=None), Mfcc(norm="none"), Standardize()])
def test_an_op_that_a_peer_does_not_know_is_refused(librosa_front: Any, op: Any) -> None:
    wave = np.zeros(44_100, np.float32)
    with pytest.raises(ZooError, match="librosa peers do not know"):
        librosa_front((op,))((wave, 22050))


@pytest.mark.parametrize("name", ["librosa_onnxruntime", "librosa_torch"])
def test_a_peer_answers_as_the_bundle_does(
    name: str, ready_bundle: Path, script: Callable[[str], ModuleType]
) -> None:
    for library in name.split("_"):
        pytest.importorskip(library, reason=f"{library} is in the dev extra")
    import zoo
    from zoo.runtime.bench.inputs import make_inputs

    model = zoo.load(ready_bundle)
    factory = script(f"peers/{name}").factory
    peer = factory(ready_bundle, threads=1)
    assert peer.versions()
    for raw in make_inputs(model.bundle, count=8).raws():
        expected, found = model(raw), peer.pipeline(raw)
        assert found.label == expected.label
        assert found.scores == pytest.approx(expected.scores, abs=1e-3)
        assert peer.decode(peer.engine(peer.features(raw))) == found
    with pytest.raises(ZooError, match="needs a bundle"):
        factory(None, threads=1)
