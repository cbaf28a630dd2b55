# SPDX-License-Identifier: Apache-2.0
"""TensorRT-RTX without a GPU: building, refusals by the parser, the runtime's checks with a driver made up here."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import msgspec
import pytest
from onnx import TensorProto, helper

import zoo
from zoo.bundle import open_bundle, rebuild_command
from zoo.errors import BundleError, ProviderUnavailable, TargetError
from zoo.export import builders, export_model
from zoo.export.targets import find_target
from zoo.runtime.engines import EngineOptions, check_requirement
from zoo.runtime.engines import tensorrt as runtime


class FakeCuda:
    """The driver API of a machine with one GPU."""

    def __init__(self, capability: tuple[int, int] = (8, 9), count: int = 1, broken: str = "") -> None:
        self.capability, self.count, self.broken = capability, count, broken
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == self.broken:
                return 2
            if name == "cuDeviceGetCount":
                arguments[0]._obj.value = self.count
            elif name == "cuDriverGetVersion":
                arguments[0]._obj.value = 12090
            elif name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = self.capability[arguments[1] - runtime._CC_MAJOR]
            elif name == "cuDeviceGetName":
                arguments[0].value = b"Made-up GPU"
            elif name == "cuGetErrorString":
                arguments[1]._obj.value = b"out of memory"
            return 0

        return call


def test_no_driver_is_said() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        with pytest.raises(
            ProviderUnavailable, match=r"libcuda.so.1 not found: this machine has no NVIDIA driver"
        ):
            runtime.Driver()
        assert "no NVIDIA driver" in str(runtime.gpu_problem("8.9"))
    else:
        pytest.skip("this machine has an NVIDIA driver")


def test_driver_facts_and_errors() -> None:
    driver = runtime.Driver(library=FakeCuda())
    assert (driver.compute_capability(), driver.version(), driver.name()) == ("8.9", "12.9", "Made-up GPU")
    assert runtime.gpu_problem("8.9", driver=driver) is None
    problem = runtime.gpu_problem("12.0", driver=driver)
    assert problem == "the engine is for compute capability 12.0, this GPU (Made-up GPU) has 8.9"
    with pytest.raises(ProviderUnavailable, match="finds 0 GPUs; there is no GPU 0"):
        runtime.Driver(library=FakeCuda(count=0))
    with pytest.raises(ProviderUnavailable, match="cuMemAlloc_v2 failed with 2: out of memory"):
        runtime.Driver(library=FakeCuda(broken="cuMemAlloc_v2")).allocate(1 << 40)


@pytest.fixture(scope="module")
def engine_bundle(toy_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_MODELS", str(toy_root))
        patch.delenv("ZOO_DATA", raising=False)
        out = tmp_path_factory.mktemp("rtx") / "bundle"
        return export_model("toy", target="tensorrt-rtx", precision="fp32", out=out).path


def test_the_bundle_is_keyed_and_logged(engine_bundle: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    bundle = open_bundle(engine_bundle)
    key = bundle.manifest.key
    assert (key.compute_capability, key.engine_version) == ("8.9", f"=={trt.__version__}")
    assert key.profile == {"batch": (1, 1, 4), "time": (16, 16, 16)}
    assert b"VERBOSE: Layers:\nName: " in bundle.read("build.log")
    assert b"/tmp" not in bundle.read("build.log")


def test_another_gpu_is_refused_before_anything_is_deserialised(
    engine_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(trt, "Runtime", None)  # deserialising would fail
    bundle = open_bundle(engine_bundle)
    spec = bundle.manifest.engines[0]
    other = runtime.Driver(library=FakeCuda(capability=(12, 0)))
    with pytest.raises(
        BundleError, match=r"key.compute_capability is ==8.9, this machine has 12.0; .* zoo export toy"
    ):
        runtime.TensorRtEngine(bundle, spec, EngineOptions(), "tensorrt_rtx", driver=other)
    manifest = msgspec.structs.replace(
        bundle.manifest, key=msgspec.structs.replace(bundle.manifest.key, driver=">=13.0")
    )
    bundle.manifest = manifest
    with pytest.raises(BundleError, match=r"key.driver is >=13.0, this machine has 12.9"):
        runtime.TensorRtEngine(
            bundle, spec, EngineOptions(), "tensorrt_rtx", driver=runtime.Driver(library=FakeCuda())
        )
    with pytest.raises(BundleError, match=r"key.engine_version is ==1.0, this machine has 9.9"):
        check_requirement(bundle, "engine_version", "==1.0", "9.9")


@pytest.mark.parametrize("capability", find_target("tensorrt-rtx").compute_capabilities)
def test_every_compute_capability_is_built_without_a_gpu(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: str
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    monkeypatch.setenv("ZOO_MODELS", str(toy_root))
    monkeypatch.delenv("ZOO_DATA", raising=False)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    made = export_model("toy", target="tensorrt-rtx", precision="fp16", compute_capability=capability)
    assert made.manifest.key.compute_capability == capability
    assert made.path.name == (
        "tensorrt-rtx-fp16" if capability == "8.9" else f"tensorrt-rtx-{capability}-fp16"
    )
    assert f"--compute-capability {capability}" in rebuild_command(made.manifest)
    with pytest.raises(ProviderUnavailable, match="driver"):
        zoo.load(made.path)


def test_a_refused_node_is_named(toy) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    graph = helper.make_graph(
        [helper.make_node("Det", ["features"], ["logits"], "determinant")],
        "g",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    target = find_target("tensorrt-rtx")
    module, package = builders.builder(target)
    request = builders.Request(
        toy.graph.with_model(model), target, target.options("fp32"), "fp32", toy.graph.profile
    )
    with pytest.raises(TargetError, match=r"tensorrt_rtx refuses the graph: node determinant \(Det\): "):
        module.build(request, package)


def test_a_capability_that_the_builder_lacks_is_named(toy) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    target = msgspec.structs.replace(find_target("tensorrt-rtx"), compute_capability="8.7")
    module, package = builders.builder(target)
    request = builders.Request(toy.graph, target, target.options("fp32"), "fp32", toy.graph.profile)
    with pytest.raises(TargetError, match=r"has no compute capability 8.7"):
        module.build(request, package)
