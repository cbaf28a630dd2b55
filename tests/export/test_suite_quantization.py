# SPDX-License-Identifier: Apache-2.0
"""benchmarks/suites/quantization.py on the toy: here, where the toy's fixtures are."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from zoo import metrics
from zoo.errors import ZooError
from zoo.export.targets import find_target
from zoo.runtime.bench import Options
from zoo.runtime.bench.stats import Ratio

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
QUICK = Options(processes=1, seconds=0.02, samples=5, warmup_seconds=0.01, threads=1, scopes=("engine",))


@pytest.fixture(scope="module")
def suite() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCHMARKS / "suites"), *sys.path])
        yield importlib.import_module("quantization")


def _quiet(stage: str, done: int, total: int) -> None:
    """Nobody watches."""


def test_a_registered_model_is_compared_with_every_quantiser_of_its_engine(
    suite: ModuleType, toy_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = suite.importlib.import_module("quantize_onnxruntime").QUANTIZERS[0]

    def refuse(source: Any, folder: Path) -> Path:
        raise RuntimeError("no such operator")

    broken = suite.Quantizer("broken", "onnxruntime", "none", refuse, dict)
    other = suite.Quantizer("other", "openvino", "none", refuse, dict)
    monkeypatch.setattr(suite, "quantizers", lambda: ([made, broken, other], ["gone.py: not installed"]))
    target = find_target("cpu-x86")
    (found,) = suite.run(
        ["toy-random", "toy"], [target], toy_models / "data", QUICK, tmp_path, _quiet, "in a test"
    )
    (case,) = found.cases
    assert (case.variant, case.n, case.metric, case.calibration) == ("toy", 192, "UAR", 192)
    ours, plain, peer, failed = case.rows
    assert [row.name for row in case.rows] == ["zoo", "fp32", made.name, "broken"]
    assert plain.loss.value == 0
    assert ours.metric == pytest.approx(plain.metric - ours.loss.value)
    assert peer.gain.value == pytest.approx(peer.metric - ours.metric)
    assert min(row.p50_ms for row in (ours, plain, peer)) > 0
    assert ours.ratio is None
    assert peer.ratio.low <= peer.ratio.value <= peer.ratio.high
    assert ours.size_bytes == (tmp_path / "toy-cpu-x86-zoo" / "engine.onnx").stat().st_size
    assert peer.versions["onnxruntime"]
    assert failed.problem == "RuntimeError: no such operator"
    assert found.skipped == ("gone.py: not installed", "toy-random, cpu-x86: its weights are random")
    text = suite.markdown(found)
    assert "**in a test**" in text
    assert text.count(f"| {made.name} |") == 1 + bool(peer.better)
    assert "1 could not be made" in text
    assert "/" + "tmp" not in text
    assert msgspec.json.decode(msgspec.json.encode(found), type=suite.Suite) == found


def test_nothing_to_measure_is_an_error(suite: ModuleType, toy_models: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ZooError, match=r"nothing could be measured: .*toy-alone, cpu-x86: its weights are random"
    ):
        list(suite.run(["toy-alone"], [find_target("cpu-x86")], None, QUICK, tmp_path, _quiet))


@pytest.mark.parametrize("name", ["quantize_onnxruntime", "quantize_nncf"])
def test_every_quantiser_makes_int8_of_the_same_function(
    suite: ModuleType, toy: Any, tmp_path: Path, name: str
) -> None:
    for library in ("onnxruntime", "openvino", "nncf")[: 3 if "nncf" in name else 1]:
        pytest.importorskip(library, reason=f"{library} is in the dev extra")
    (tensor,) = toy.graph.inputs
    feeds = [{tensor.name: features[0][None]} for features in toy.inputs.features]
    source = suite.Source(toy.graph.data, {tensor.name: feeds[0][tensor.name].shape}, feeds)
    expected = _logits(toy.graph.data, feeds, "onnxruntime")
    for quantizer in importlib.import_module(name).QUANTIZERS:
        folder = tmp_path / suite._slug(quantizer.name)
        folder.mkdir()
        path = quantizer.make(source, folder)
        assert path.suffix == {"onnxruntime": ".onnx", "openvino": ".xml"}[quantizer.engine]
        found = _logits(path, feeds, quantizer.engine)
        # 8 bits: something is lost, and not the function. NNCF's default range is the mean of the inputs' maxima, which
        # clips the loudest of these inputs: 0.93 was observed.
        assert np.abs(found - expected).max() > 1e-4 * np.ptp(expected)
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9, quantizer.name
        assert quantizer.versions()


def _logits(model: Any, feeds: Any, engine: str) -> Any:
    if engine == "onnxruntime":
        import onnxruntime as ort

        session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        return np.stack([session.run(["logits"], feed)[0] for feed in feeds])
    import openvino as ov

    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.stack([compiled(feed)["logits"] for feed in feeds])


@pytest.mark.parametrize(
    ("gain", "ratio", "size", "better", "clearly", "dominates"),
    [
        ((0.01, 0.005, 0.02), (0.9, 0.8, 0.95), 90, "accuracy latency size", "accuracy latency size", True),
        ((0.01, -0.01, 0.02), (1.1, 0.9, 1.2), 110, "accuracy", "", True),
        ((0.01, 0.005, 0.02), (1.2, 1.1, 1.3), 100, "accuracy", "accuracy", False),
        ((0.0, -0.01, 0.01), (0.9, 0.8, 1.1), 100, "latency", "", False),
        ((-0.02, -0.03, -0.01), (0.9, 0.8, 0.95), 100, "latency", "latency", False),
        ((0.01, 0.005, 0.02), None, 100, "accuracy", "accuracy", False),
    ],
)
def test_what_a_peer_wins_is_told_from_what_is_within_the_noise(
    suite: ModuleType, gain: Any, ratio: Any, size: int, better: str, clearly: str, dominates: bool
) -> None:
    names = ("value", "low", "high")
    row = suite.Row(
        name="peer",
        settings="",
        size_bytes=size,
        gain=suite.Interval(**dict(zip(names, gain, strict=True))),
        ratio=None if ratio is None else Ratio(**dict(zip(names, ratio, strict=True))),
    )
    found = suite.judged(row, 100)
    assert (found.better, found.clearly) == (tuple(better.split()), tuple(clearly.split()))
    assert found.dominates is dominates


def test_the_figures_are_the_metric_of_the_labels(suite: ModuleType, tmp_path: Path) -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    labels = {
        "zoo": np.array([0, 0, 0, 1, 1, 1, 1, 1]),
        "fp32": truth,
        "peer": np.array([1, 1, 1, 1, 1, 1, 1, 1]),
    }
    entries = [suite.Entry(name, "", {}, found, tmp_path, 10) for name, found in labels.items()]
    ours, plain, peer = suite.compare(metrics.uar, truth, entries, None)
    assert (ours.metric, plain.metric, peer.metric) == (0.875, 1.0, 0.5)
    assert (ours.loss.value, plain.loss.value, peer.loss.value) == (0.125, 0.0, 0.5)
    assert peer.gain.value == -0.375
    assert ours.loss.low < 0.125 < ours.loss.high
    assert (peer.better, peer.dominates, peer.p50_ms) == ((), False, None)
