# SPDX-License-Identifier: Apache-2.0
"""Whole exports of the toy: every target and precision, every refusal, nothing half-written."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from zoo.bundle import open_bundle
from zoo.errors import DataError, ParityError, ProviderUnavailable, TargetError, ZooError
from zoo.export import export_model, exporter, parity
from zoo.registry import UnknownModel
from zoo.runtime import engine_status

ENGINES = {"cpu-x86": "onnxruntime", "openvino-cpu": "openvino", "tensorrt-rtx": "tensorrt_rtx"}
CELLS = [
    ("cpu-x86", "fp32"),
    ("cpu-x86", "int8"),
    ("openvino-cpu", "fp32"),
    ("openvino-cpu", "int8"),
    ("tensorrt-rtx", "fp32"),
    ("tensorrt-rtx", "fp16"),
    ("tensorrt-rtx", "int8"),
    ("tensorrt-rtx", "bf16"),
    ("openvino-cpu", "bf16"),
    ("openvino-cpu", "int4-weights"),
    ("cpu-x86", "int8-weights"),
]


def need(target: str, precision: str = "fp32") -> None:
    if importlib.util.find_spec(ENGINES[target]) is None:
        pytest.skip(f"{ENGINES[target]} is not installed")
    if (target, precision) == ("openvino-cpu", "bf16"):
        import openvino as ov

        if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            pytest.skip("this CPU has no bf16 arithmetic")


@pytest.mark.parametrize(("target", "precision"), CELLS)
def test_every_cell_gives_a_verified_bundle(
    toy_models: Path, tmp_path: Path, target: str, precision: str
) -> None:
    need(target, precision)
    stages: list[tuple[str, int, int]] = []
    result = export_model(
        "toy",
        target=target,
        precision=precision,
        out=tmp_path / "toy.zoo",
        data=toy_models / "data",
        progress=lambda *stage: stages.append(stage),
    )
    manifest = open_bundle(result.path).manifest
    assert manifest.parity is not None
    assert (manifest.target, manifest.precision, manifest.name) == (target, precision, "toy")
    assert manifest.parity.inputs == 64
    assert manifest.parity.input_source == "64 items of toy-tones, stratified by label"
    assert manifest.parity.max_error <= parity.TOLERANCE[precision]
    assert manifest.provenance.weights == "trained"
    assert manifest.provenance.training_data_sha256 is not None
    assert set(manifest.provenance.tools) >= {"torch", "onnx", ENGINES[target]}
    assert manifest.key.calibration_sha256 == (manifest.calibration.sha256 if manifest.calibration else None)
    assert {stage for stage, _, _ in stages} >= {"tracing", "building", "checking parity", "writing"}
    if precision == "fp32":
        assert manifest.gate is None
    else:
        assert manifest.gate is not None
        assert manifest.gate.passed
        assert manifest.gate.n == 192
        assert manifest.quality[-1].source == "artifact"
    if precision == "int8":
        assert manifest.calibration is not None
        assert len(manifest.calibration.items) >= 128
    if target == "tensorrt-rtx" and engine_status("tensorrt_rtx").problem:
        assert "the engine itself was not run: " in manifest.parity.verified_on
        assert sum(manifest.engines[0].placement.values()) > 3  # from the builder, not from a run
        with pytest.raises(ProviderUnavailable, match=r"needs an NVIDIA GPU: libcuda.so.1 not found"):
            zoo.load(result.path)
        return
    assert manifest.parity.verified_on.startswith("the engine itself")
    assert sum(manifest.engines[0].placement.values()) > 0
    model = zoo.load(result.path)
    report = model.selftest()
    assert report.passed
    assert model(toy_models / "toy" / "golden" / "1.wav").label == "low"


def test_the_same_export_gives_the_same_bytes(
    toy_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "load_folds", lambda card, variant: {})  # the gate has tests of its own
    files = []
    for run in "ab":
        result = export_model(
            "toy", target="cpu-x86", precision="int8", out=tmp_path / run, data=toy_models / "data"
        )
        files.append({path.name: path.read_bytes() for path in result.path.iterdir()})
    assert files[0] == files[1]
    assert set(files[0]) == {"manifest.json", "engine.onnx", "golden.npz"}
    for content in files[0].values():
        assert str(toy_models).encode() not in content
        assert b"site-packages" not in content


def test_fp16_says_why_the_cpu_cannot_have_it(toy_models: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TargetError,
        match=r"cpu-x86 does not take fp16: onnxruntime's CPU provider has no fp16.*It takes fp32, int8",
    ):
        export_model("toy", target="cpu-x86", precision="fp16", out=tmp_path / "x")
    ov = pytest.importorskip("openvino", reason="openvino is not installed")
    if "FP16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has fp16 arithmetic")
    with pytest.raises(ProviderUnavailable, match="no fp16 arithmetic"):
        export_model("toy", target="openvino-cpu", precision="fp16", out=tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "tou"}, UnknownModel, "did you mean toy"),
        ({"target": "cpu-x68"}, TargetError, "no target is called 'cpu-x68'; did you mean cpu-x86"),
        (
            {"precision": "int4"},
            TargetError,
            "no precision is called 'int4'; target cpu-x86 takes fp32, int8, int8-weights, int4-weights, auto",
        ),
        ({"precision": "bf16"}, TargetError, "cpu-x86 does not take bf16"),
        ({"precision": "int8"}, DataError, "random data is never used: give --data DIR"),
        ({"precision": "int8", "data": Path("nowhere")}, DataError, "nowhere: no such file or folder"),
        ({"name": "toy-alone", "precision": "int8"}, DataError, "names no data set to calibrate on"),
        (
            {"name": "toy-random", "precision": "int8"},
            TargetError,
            "has no int8 for target cpu-x86: the toy says so",
        ),
        ({"calibration": "magic"}, TargetError, "no calibration method is called 'magic'"),
        ({"weights": Path("nothing.safetensors")}, DataError, "nothing.safetensors: no such weights file"),
        ({"target": "tensorrt-rtx", "precision": "auto"}, TargetError, "measures on this machine"),
    ],
)
def test_refusals(
    toy_models: Path, tmp_path: Path, arguments: dict[str, object], error: type[ZooError], message: str
) -> None:
    call = {"name": "toy", "target": "cpu-x86", "precision": "fp32", "out": tmp_path / "out", **arguments}
    if call["target"] == "tensorrt-rtx":
        need("tensorrt-rtx")
        if engine_status("tensorrt_rtx").problem is None:
            pytest.skip("this machine has an RTX GPU")
    with pytest.raises(error, match=message):
        export_model(**call)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_existing_out_is_refused_before_any_work(
    toy_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "Exporter", None)  # any work would fail
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("x")
    with pytest.raises(ZooError, match="out exists; give --force"):
        export_model("toy", target="cpu-x86", precision="fp32", out=out)
    with pytest.raises(ZooError, match="not a bundle; it is not replaced even with --force"):
        export_model("toy", target="cpu-x86", precision="fp32", out=out, force=True)
    assert (out / "thesis.txt").read_text() == "x"
    with pytest.raises(ZooError, match="is not a folder that this user may write to"):
        export_model("toy", target="cpu-x86", precision="fp32", out=out / "thesis.txt" / "bundle")


def test_a_missing_builder_is_named(
    toy_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        ProviderUnavailable,
        match=r"openvino-cpu is built with openvino.*pip install 'affect-zoo\[openvino\]'",
    ):
        export_model("toy", target="openvino-cpu", precision="fp32", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_weights_of_the_user(toy_models: Path, tmp_path: Path) -> None:
    tensors = load_file(toy_models / "toy" / "weights" / "toy.safetensors")
    cases = {
        "missing": ({k: v for k, v in tensors.items() if k != "dense.bias"}, {}, "dense.bias missing"),
        "unknown": ({**tensors, "more": np.zeros(1)}, {}, "more unknown to the model"),
        "shape": (
            {**tensors, "dense.bias": np.zeros(4, np.float32)},
            {},
            r"dense.bias has shape \(4,\), the model has \(3,\)",
        ),
        "nan": ({**tensors, "dense.bias": np.full(3, np.nan, np.float32)}, {}, "dense.bias is not finite"),
        "other": (
            tensors,
            {"variant": "toy-random"},
            "are of toy-random, not of toy; .* zoo export toy-random --weights",
        ),
    }
    for name, (content, metadata, message) in cases.items():
        path = tmp_path / f"{name}.safetensors"
        save_file(content, path, metadata=metadata)
        with pytest.raises(DataError, match=message):
            export_model("toy", target="cpu-x86", precision="fp32", out=tmp_path / "out", weights=path)
    (tmp_path / "text.safetensors").write_text("not safetensors")
    with pytest.raises(DataError, match="not a readable safetensors file"):
        export_model(
            "toy",
            target="cpu-x86",
            precision="fp32",
            out=tmp_path / "out",
            weights=tmp_path / "text.safetensors",
        )
    save_file(
        tensors,
        tmp_path / "good.safetensors",
        metadata={"status": "official", "source": "the moon", "variant": "toy"},
    )
    result = export_model("toy", target="cpu-x86", precision="fp32", weights=tmp_path / "good.safetensors")
    assert result.path == tmp_path / "home" / "bundles" / "toy" / "cpu-x86-fp32"
    assert (result.manifest.provenance.weights, result.manifest.provenance.weights_source) == (
        "official",
        "the moon",
    )
    assert result.manifest.quality == ()  # the card's reproduced figure is that of the card's weights
    assert "accuracy was not measured" in result.manifest.notes[0]


def test_random_weights_are_said_everywhere(toy_models: Path, tmp_path: Path) -> None:
    first = export_model("toy-random", target="cpu-x86", precision="fp32", out=tmp_path / "a").manifest
    again = export_model("toy-random", target="cpu-x86", precision="fp32", out=tmp_path / "b").manifest
    assert first.provenance.weights == "random"
    assert first.provenance.weights_source == "random, seed 3"
    assert first.provenance.training_data == "none"
    assert first.notes[0].startswith("weights: random.")
    assert first.parity is not None
    assert first.parity.input_source == "3 golden inputs, altered to 64 distinct inputs"
    assert first.digest == again.digest


def test_a_wrong_engine_is_not_written(
    toy_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = exporter.build_reference

    def other(card: object, variant: object, tensors: dict[str, np.ndarray]) -> object:
        changed = {name: value.copy() for name, value in tensors.items()}
        changed["conv2.bias"] += 0.1
        return original(card, variant, changed)  # type: ignore[arg-type]

    monkeypatch.setattr(exporter, "build_reference", other)
    with pytest.raises(ParityError, match=r"First diverging node: conv2 \(Conv\) \(module bn2\)"):
        export_model("toy", target="cpu-x86", precision="fp32", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_error(
    toy_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(
            ZooError, match=r"out cannot be written: no space left \(\[Errno 28\] No space left on device\)"
        ):
            export_model("toy", target="cpu-x86", precision="fp32", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_leaves_nothing(toy_models: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from zoo.export import export_model\n"
        "def progress(stage, done, total):\n"
        "    if stage == 'building':\n"
        "        print('building', flush=True); time.sleep(60)\n"
        "export_model('toy', target='cpu-x86', precision='fp32', out=Path(sys.argv[1]), progress=progress)\n"
    )
    out = tmp_path / "here" / "out.zoo"
    out.parent.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "building"
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    time.sleep(0.05)
    assert list(out.parent.iterdir()) == []
