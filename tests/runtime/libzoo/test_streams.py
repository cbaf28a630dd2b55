# SPDX-License-Identifier: Apache-2.0
"""Streams of sound in libzoo: the windows of the Python runtime, smoothing, and what they cost."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
import zoo.pipeline
from libzoo_c import (
    ENGINE_FOLDERS,
    CModel,
    LibZoo,
    Load,
    ZooFailure,
    c_stream,
    same,
    twin,
)
from zoo.specs import (
    Sigmoid,
    Softmax,
)


@pytest.mark.parametrize("hop", [0.25, 0.7, 9.3])
@pytest.mark.parametrize("chunk", [1000, 30001, 500_000])
def test_streams_give_the_same_windows(
    libzoo: LibZoo, model: CModel, openvino_bundle: Path, hop: float, chunk: int
) -> None:
    rate, channels = 16000, 2
    signal = np.random.default_rng(2).normal(0, 0.1, (rate * 13 // 2, channels)).astype(np.float32)
    expected = zoo.load(openvino_bundle).stream(
        np.array_split(signal, range(chunk, len(signal), chunk)), rate=rate, hop=hop
    )
    found = list(c_stream(libzoo, model, signal, rate, hop, chunk))
    wanted = list(expected)
    assert len(found) == len(wanted) > 0
    for got, want in zip(found, wanted, strict=True):
        same(got, want)
        assert (got.start, got.end) == (want.start, want.end)


def test_a_stream_shorter_than_a_window_gives_one_result(
    libzoo: LibZoo, model: CModel, openvino_bundle: Path
) -> None:
    signal = np.random.default_rng(3).normal(0, 0.1, 9000).astype(np.float32)
    (found,) = c_stream(libzoo, model, signal, 16000, 0.5, 700)
    (expected,) = zoo.load(openvino_bundle).stream([signal], rate=16000)
    same(found, expected)
    assert (found.start, found.end) == (0, 9000 / 16000)


@pytest.mark.parametrize(
    "decode", [Softmax(output="probs"), Sigmoid(output="probs", thresholds=(0.1,) * 7)], ids=["one", "some"]
)
def test_smoothed_streams(libzoo: LibZoo, ready_bundle: Path, tmp_path: Path, decode: Any) -> None:
    bundle = twin(ready_bundle, tmp_path / "twin", decode=decode)
    python, device = zoo.load(bundle), libzoo.open(bundle)
    rng, rate, hop, seconds = np.random.default_rng(8), 16000, 0.4, 0.9
    signal = (rng.normal(0, 0.1, rate * 8) * np.repeat(rng.random(8), rate)).astype(np.float32)
    plain = [prediction.outputs["probs"] for prediction in python.stream([signal], rate=rate, hop=hop)]
    weight, mean = 1 - np.exp(-hop / seconds), np.float64(plain[0])
    found = list(c_stream(libzoo, device, signal, rate, hop, 900, smoothing=seconds))
    assert len(found) == len(plain) > 5
    for got, now in zip(found, plain, strict=True):
        mean = mean + weight * (now - mean)
        np.testing.assert_allclose(got.values, mean, atol=1e-6)
        np.testing.assert_array_equal(got.outputs["probs"], now)  # outputs stay those of the window
        given = [label for label, p in zip(python.labels, got.values, strict=True) if p >= 0.1]
        best = python.labels[int(np.argmax(got.values))]
        assert got.json["labels"] == ([best] if isinstance(decode, Softmax) else given)
        assert got.json["label"] == (best if isinstance(decode, Softmax) else None)
    assert any(np.abs(got.values - now).max() > 0.01 for got, now in zip(found, plain, strict=True))
    with pytest.raises(ZooFailure, match="smoothing is -1"):
        next(c_stream(libzoo, device, signal, rate, hop, 900, smoothing=-1.0))


def test_a_stream_says_what_it_costs(libzoo: LibZoo, model: CModel) -> None:
    signal = np.random.default_rng(9).normal(0, 0.1, 16000 * 6).astype(np.float32)
    loads: list[Load] = []
    results = list(c_stream(libzoo, model, signal, 16000, 0.5, 160, loads=loads))
    last = loads[-1]
    assert [load.windows for load in loads] == list(range(1, len(results) + 1))
    assert last.signal == pytest.approx(results[-1].end, abs=0.02)
    totals = [result.json["timing"]["total"] for result in results]
    assert all(load.latency_last >= total for load, total in zip(loads, totals, strict=True))
    assert last.busy * 1e3 >= sum(totals)
    assert last.latency_max == max(load.latency_last for load in loads)
    assert last.latency_mean == pytest.approx(np.mean([load.latency_last for load in loads]))
    assert last.cpu > 0
    assert last.cpu_share == pytest.approx(last.cpu / last.signal)


@pytest.mark.parametrize("kind", ENGINE_FOLDERS)
def test_a_stream_allocates_nothing(
    libzoo: LibZoo, ready_bundle: Path, openvino_bundle: Path, kind: str
) -> None:
    program = libzoo.path.parent / "tests" / "csrc" / "allocations"
    bundle = ready_bundle if kind == "onnxruntime" else openvino_bundle
    done = subprocess.run([program, bundle], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1].endswith(" 0 failures")) == (0, True), done.stdout
