# SPDX-License-Identifier: Apache-2.0
"""OpenVINO bundles: fixed shapes, the same bytes again, and a precision that is never lowered silently."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import zoo
from zoo.bundle import open_bundle, write_bundle
from zoo.errors import BundleError, InputError, ProviderUnavailable, TargetError
from zoo.export import builders, export_model
from zoo.export.targets import find_target

ov = pytest.importorskip("openvino", reason="openvino is not installed")


@pytest.fixture(scope="module")
def bundle(toy_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_MODELS", str(toy_root))
        patch.delenv("ZOO_DATA", raising=False)
        out = tmp_path_factory.mktemp("ov") / "bundle"
        return export_model("toy", target="openvino-cpu", precision="fp32", out=out).path


def test_the_batch_is_fixed(bundle: Path, toy) -> None:
    manifest = open_bundle(bundle).manifest
    assert manifest.engines[0].inputs[0].shape == (1, 16, 12)
    assert manifest.key.profile["batch"] == (1, 1, 1)
    assert manifest.key.engine_version == ">=" + ".".join(ov.__version__.split(".")[:2])
    model = zoo.load(bundle)
    clips = sorted((toy.folder / "golden").glob("*.wav"))
    batch = model.batch(clips * 3)
    assert [prediction.label for prediction in batch] == [model(clip).label for clip in clips] * 3
    with pytest.raises(InputError):
        model.run_engine(toy.inputs.features[0][0][None].repeat(2, 0))


def test_the_same_graph_gives_the_same_ir(toy) -> None:
    target = find_target("openvino-cpu")
    module, package = builders.builder(target)
    profile = target.profile(dict(toy.graph.profile), "fp32")
    request = builders.Request(toy.graph, target, target.options("fp32"), "fp32", profile)
    first, second = module.build(request, package), module.build(request, package)
    assert first.files == second.files
    assert str(toy.root).encode() not in first.files["engine.xml"]


def test_a_precision_that_the_cpu_lacks_is_refused_at_load(bundle: Path, tmp_path: Path) -> None:
    if "FP16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has fp16 arithmetic")
    opened = open_bundle(bundle)
    engine = msgspec.structs.replace(opened.manifest.engines[0], precision="fp16")
    manifest = msgspec.structs.replace(opened.manifest, engines=(engine,), precision="fp16")
    contents = {file.path: opened.read(file.path) for file in opened.manifest.files}
    half = write_bundle(tmp_path / "half", manifest, contents)
    with pytest.raises(ProviderUnavailable, match=r"is fp16, but this CPU would compute it in b?f(16|32);"):
        zoo.load(half)


def test_a_damaged_graph_is_a_target_error(toy) -> None:
    import onnx

    broken = onnx.ModelProto()
    broken.CopyFrom(toy.graph.model)
    broken.graph.node[-1].op_type = "NoSuchOp"
    target = find_target("openvino-cpu")
    module, package = builders.builder(target)
    request = builders.Request(
        toy.graph.with_model(broken), target, target.options("fp32"), "fp32", toy.graph.profile
    )
    with pytest.raises(TargetError, match=r"OpenVINO .* refuses the graph"):
        module.build(request, package)


def test_a_truncated_engine_is_a_bundle_error(bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle)
    contents = {file.path: opened.read(file.path) for file in opened.manifest.files}
    contents["engine.xml"] = contents["engine.xml"][:100]
    with pytest.raises(BundleError, match="refuses the engine file"):
        zoo.load(write_bundle(tmp_path / "short", opened.manifest, contents))


def test_placement_names_device_precision_and_kernel(bundle: Path, toy) -> None:
    model = zoo.load(bundle)
    nodes = model.placement()
    assert {node.provider for node in nodes} == {"CPU"} == {model.engine.requested}
    convolutions = [node for node in nodes if node.op == "Convolution"]
    assert convolutions
    assert {node.precision for node in convolutions} == {"fp32"}
    assert all("_f32" in node.kernel.lower() for node in convolutions)
    assert not any(node.fallback for node in nodes)
    placed = open_bundle(bundle).manifest.engines[0].placement
    assert sum(placed.values()) == len(nodes)
    assert placed["CPU fp32"] >= len(convolutions)
