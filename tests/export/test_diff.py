# SPDX-License-Identifier: Apache-2.0
"""``zoo diff``: the first node that differs is found, on the graphs that ship."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from zoo.bundle import open_bundle, write_bundle
from zoo.cli import cli
from zoo.errors import InputError, TargetError
from zoo.export.diff import Origin, _compare, diff, open_reference, open_side


@pytest.fixture
def clip(golden_folder: Path) -> Path:
    return golden_folder / "calm_22050.flac"


def altered(source: Path, out: Path, tensor: str, factor: float) -> Path:
    """The bundle with the weights of one node scaled."""
    bundle = open_bundle(source)
    model = onnx.load_model_from_string(bundle.read("engine.onnx"))
    node = next(n for n in model.graph.node if tensor in n.output)
    weights = next(i for i in model.graph.initializer if i.name == node.input[1])
    scaled = (numpy_helper.to_array(weights) * factor).astype(np.float32)
    weights.CopyFrom(numpy_helper.from_array(scaled, weights.name))
    contents = {file.path: bundle.read(file.path) for file in bundle.manifest.files}
    contents["engine.onnx"] = model.SerializeToString()
    digest = hashlib.sha256(contents["engine.onnx"]).hexdigest()
    key = msgspec.structs.replace(bundle.manifest.key, onnx_sha256=digest)
    return Path(write_bundle(out, msgspec.structs.replace(bundle.manifest, key=key), contents))


def test_a_bundle_agrees_with_its_reference(ready_bundle: Path, clip: Path) -> None:
    report = diff(open_reference(ready_bundle), open_side(ready_bundle), str(clip))
    assert report.first_over is None
    assert report.tolerance == 1e-5
    assert report.tensors[0].tensor == "features"
    assert report.tensors[0].max_error == 0
    assert len(report.tensors) > 40  # every convolution, block and both outputs
    assert {t.tensor for t in report.tensors} >= {"logits", "probs"}


def test_the_rounding_of_a_tensor_that_hardly_varies_is_no_difference() -> None:
    origin = Origin("n", "Tanh")
    steady = 1 + np.array([[0.0, 1e-4, 2e-4]])
    close = _compare("t", origin, steady, steady + 1e-8, 1e-5)  # less than a rounding of float32
    assert not close.over
    assert close.max_error == pytest.approx(5e-5, rel=1e-2)
    assert _compare("t", origin, steady, steady + 1e-6, 1e-5).over
    assert _compare("t", origin, steady, steady[:, :2], 1e-5).max_error is None


@pytest.mark.parametrize("tensor", ["forward_blocks.3.conv2_out", "dense_out"])
def test_the_altered_node_is_the_first_over(
    ready_bundle: Path, clip: Path, tmp_path: Path, tensor: str
) -> None:
    model = onnx.load_model_from_string(open_bundle(ready_bundle).read("engine.onnx"))
    names = [o for n in model.graph.node for o in n.output]
    if tensor not in names:
        tensor = next(o for n in model.graph.node if n.op_type in ("Gemm", "MatMul") for o in n.output)
    other = altered(ready_bundle, tmp_path / "altered", tensor, 1.01)
    report = diff(open_side(ready_bundle), open_side(other), str(clip))
    assert report.first_over is not None
    assert report.first_over.tensor == tensor
    assert report.first_over.max_error == pytest.approx(0.0075, rel=0.35)  # 1 % of values with an offset
    before = report.tensors[: [t.tensor for t in report.tensors].index(tensor)]
    assert all(t.max_error == 0 for t in before)
    assert report.tensors[-1].over


def test_openvino_is_laid_open(ready_bundle: Path, clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from zoo.export.exporter import export_model

    made = export_model("tim-net-emodb", target="openvino-cpu", precision="fp32", out=tmp_path / "ov").path
    report = diff(open_side(ready_bundle), open_side(made), str(clip))
    assert report.first_over is None
    assert len(report.tensors) > 100


def test_a_compiled_engine_is_refused(ready_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(ready_bundle)
    engine = msgspec.structs.replace(bundle.manifest.engines[0], kind="tensorrt_rtx")
    key = msgspec.structs.replace(bundle.manifest.key, engine="tensorrt_rtx")
    manifest = msgspec.structs.replace(bundle.manifest, engines=(engine,), key=key)
    contents = {file.path: bundle.read(file.path) for file in manifest.files}
    path = write_bundle(tmp_path / "rtx", manifest, contents)
    with pytest.raises(
        TargetError, match="tensorrt_rtx engine does not show its intermediate tensors; compare"
    ):
        open_side(path)


def test_bad_input_and_tolerance(ready_bundle: Path, clip: Path, tmp_path: Path) -> None:
    side = open_side(ready_bundle)
    with pytest.raises(InputError, match="the tolerance is nan"):
        diff(side, side, str(clip), tolerance=float("nan"))
    with pytest.raises(InputError, match="No such file"):
        diff(side, side, str(tmp_path / "none.wav"))


def test_the_command(ready_bundle: Path, clip: Path, tmp_path: Path) -> None:
    other = altered(ready_bundle, tmp_path / "altered", "forward_blocks.3.conv2_out", 1.5)
    run = CliRunner().invoke
    same = run(cli, ["diff", str(ready_bundle), str(ready_bundle), "--input", str(clip), "--json"])
    assert same.exit_code == 0
    report = json.loads(same.stdout)
    assert (report["first_over"], report["only_a"]) == (None, 0)
    found = run(cli, ["diff", str(ready_bundle), str(other), "--input", str(clip)])
    assert found.exit_code == 6
    assert "first over the tolerance: forward_blocks.3.conv2_out of node forward_blocks.3" in found.stderr
    assert "over" in found.stdout
    loose = run(
        cli, ["diff", str(ready_bundle), str(other), "--input", str(clip), "--tolerance", "1e9", "--all"]
    )
    assert loose.exit_code == 0
    assert len(loose.stdout.splitlines()) > 100
