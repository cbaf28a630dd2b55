# SPDX-License-Identifier: Apache-2.0
"""TensorRT-RTX without a GPU: building, refusals by the parser, the runtime's checks with a driver made up here."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import zoo
from zoo.bundle import open_bundle, rebuild_command
from zoo.cli import cli
from zoo.errors import BundleError, NodeRefused, ProviderUnavailable, TargetError
from zoo.export import builders, export_model, quantize, rewrites
from zoo.export.exporter import Exporter
from zoo.export.graph import Graph, tensor_spec
from zoo.export.recipe import Lowered
from zoo.export.targets import find_target
from zoo.runtime.engines import EngineOptions, check_requirement, tensorrt_builder
from zoo.runtime.engines import tensorrt as runtime
from zoo.runtime.engines import tensorrt_layers as layers
from zoo.runtime.engines.tensorrt_builder import Plan, PlanRequest
from zoo.specs import Precision


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
    log = bundle.read("build.log")
    assert b"INFO: " in log
    assert b"VERBOSE" not in log
    assert b"/tmp" not in log


def test_layers_are_listed_without_a_gpu(engine_bundle: Path) -> None:
    bundle = open_bundle(engine_bundle)
    build = bundle.manifest.build
    assert build is not None
    assert (build.layers, build.timing_cache_sha256) == ("layers.json", None)
    assert not [line for line in build.log if line.startswith("INFO")]
    listed = layers.recorded_placement(bundle)
    assert listed is not None
    products = [layer for layer in listed if layer.op in ("correlation", "gemm")]
    assert products  # the others are fused into generated kernels
    assert {layer.precision for layer in products} == {"fp32"}
    counts = bundle.manifest.engines[0].placement
    assert sum(counts.values()) == len(listed)
    assert set(counts) == {f"tensorrt_rtx {layer.precision}" for layer in listed}
    done = CliRunner().invoke(cli, ["inspect", str(engine_bundle), "--placement", "--json"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert len(shown.get("data", shown) if isinstance(shown, dict) else shown) == len(listed)


def test_inspector_and_log_say_the_same() -> None:
    log = (
        "Name: a/MatMul_myl0_2, LayerType: gemm, Inputs: [ { Name: x/q, Dimensions: [-1,12], Strides: [12,1], StrideOrder: [1,0], "
        "Datatype: Int8, Format: (Linear) Row major linear format }], Constants: [ { Name: w, Dimensions: [12,32], "
        "Strides: [32,1], Datatype: Int8, Format: (Linear) x }], Outputs: [ { Name: y, Dimensions: [-1,32], Datatype: Half, "
        "Format: (Linear) x }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: a/MatMul][ONNX Layer: a/Add]\n"
        "Name: s, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata: \n"
        "no layer\n"
    )
    tensors = {"Inputs": "Int8", "Constants": "Int8", "Outputs": "Half"}
    entry: dict[str, Any] = {key: [{"Name": "t", "Datatype": kind}] for key, kind in tensors.items()}
    entry |= {"Name": "a/MatMul_myl0_2", "LayerType": "gemm"}
    entry["Metadata"] = "[ONNX Layer: a/MatMul]\x1e[ONNX Layer: a/Add]"
    text = json.dumps({"Layers": [entry, {"Name": "s", "LayerType": "shape_call"}]})
    found = layers.parse_log(log)
    assert found == layers.parse_inspector(text)
    assert [layer.precision for layer in found] == ["int8", "-"]
    assert found[0].nodes == ("a/MatMul", "a/Add")
    old = {
        "Name": "c",
        "LayerType": "Convolution",
        "Inputs": [{"Format/Datatype": "Row major linear FP16 format"}],
    }
    named = layers.parse_inspector(json.dumps({"Layers": [old, "only a name"]}))
    assert [(layer.name, layer.precision) for layer in named] == [("c", "fp16"), ("only a name", "-")]


class FakeConfig:
    """A builder's configuration that takes the timing cache or not."""

    def __init__(self, *, made: bool = True, taken: bool = True) -> None:
        self.made, self.taken, self.given = made, taken, b""

    def create_timing_cache(self, data: bytes) -> object:
        self.given = data
        return self if self.made else None

    def set_timing_cache(self, cache: object, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        return self.taken


def test_a_timing_cache_is_used_or_refused() -> None:
    request = PlanRequest("orin.zoo", "tensorrt", b"", (), "fp16", {}, timing_cache=b"timings")
    config = FakeConfig()
    tensorrt_builder._set_timing_cache(config, request)
    assert config.given == b"timings"
    for broken in (FakeConfig(made=False), FakeConfig(taken=False)):
        with pytest.raises(
            TargetError, match=r"orin.zoo: tensorrt refuses the timing cache \(7 bytes\).*build without it"
        ):
            tensorrt_builder._set_timing_cache(broken, request)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # without effect in TensorRT-RTX, but the calls are there
def test_the_timing_cache_calls_are_the_real_ones() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    config = trt.Builder(trt.Logger(trt.Logger.ERROR)).create_builder_config()
    tensorrt_builder._set_timing_cache(config, PlanRequest("n", "tensorrt", b"", (), "fp32", {}))
    assert len(bytes(memoryview(config.get_timing_cache().serialize()))) > 0


def test_warnings_are_bounded_and_layers_kept_apart() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    logger = tensorrt_builder._make_logger(trt)
    kinds = trt.ILogger.Severity
    for _ in range(100):
        logger.log(kinds.WARNING, "w" * 10_000)
    logger.log(kinds.INFO, "told")
    logger.log(kinds.VERBOSE, "chatter")
    logger.log(kinds.VERBOSE, "Layers:\nName: x")
    logger.log(kinds.ERROR, "the end")
    assert len(logger.warnings) == 32
    assert max(len(line) for line in logger.warnings) == 500
    assert (logger.layers, logger.last_error()) == ("Name: x", "the end")
    assert logger.lines[-2:] == ["INFO: told", "ERROR: the end"]


def plan_of(model: onnx.ModelProto, precision: Precision, capability: str, *, rewritten: bool) -> Plan:
    """Build as the exporter does: rewrites, quantisation, rewrites again."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    target = find_target("tensorrt-rtx").for_capability(capability)
    passes = [rewrites.PASSES[name] for name in target.passes(precision)] if rewritten else []
    for apply in passes:
        apply(copy)
    if precision == "int8":
        copy = quantize.quantize(copy, {name: 3.0 for layer in quantize.layers(copy) for name in layer.data})
    for apply in passes:
        apply(copy)
    inputs = tuple(tensor_spec(value) for value in copy.graph.input)
    graph = Graph(copy, {}, inputs, (), {"n": (1, 2, 4), "t": (8, 20, 60)})
    module, package = builders.builder(target)
    request = builders.Request(graph, target, target.options(precision), precision, graph.profile)
    built = module.build(request, package)
    found = msgspec.json.decode(built.files["layers.json"], type=list[layers.Layer])
    return Plan(built.files["engine.plan"], built.version, (), b"", layers=tuple(found))


def attention() -> onnx.ModelProto:
    """Scores, softmax, weighted sum, pooled with an Einsum and put through a dense layer; n and t are dynamic."""
    rng = np.random.default_rng(0)
    values = {"q": (8, 8), "k": (8, 8), "dense": (8, 3), "bias": (3,)}
    nodes = [
        helper.make_node("MatMul", ["x", "q"], ["a"], "query"),
        helper.make_node("MatMul", ["x", "k"], ["b"], "key"),
        helper.make_node("Transpose", ["b"], ["c"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["a", "c"], ["scores"], "scores"),
        helper.make_node("Softmax", ["scores"], ["weights"], "softmax", axis=-1),
        helper.make_node("MatMul", ["weights", "x"], ["mixed"], "mix"),
        helper.make_node("Einsum", ["mask", "mixed"], ["pooled"], "pool", equation="nt,ntc->nc"),
        helper.make_node("Gemm", ["pooled", "dense", "bias"], ["y"], "classes"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "t", 8]),
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n", "t"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), k) for k, s in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def recurrent(op: str) -> onnx.ModelProto:
    """A recurrent node over a dynamic number of steps and sequences."""
    rng = np.random.default_rng(0)
    rows = {"LSTM": 4, "GRU": 3}[op] * 8
    values = {"w": (1, rows, 8), "r": (1, rows, 8), "b": (1, 2 * rows)}
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], "turn", perm=[1, 0, 2]),
        helper.make_node(op, ["steps", "w", "r", "b"], ["y"], "rnn", hidden_size=8),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "t", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["t", 1, "n", 8])],
        [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), k) for k, s in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_turing_takes_rewritten_matrix_products(precision: Precision) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    with pytest.raises(NodeRefused, match="FP32 GEMM is not supported") as caught:
        plan_of(attention(), precision, "7.5", rewritten=False)
    assert (caught.value.node, caught.value.op) in {("query", "MatMul"), ("key", "MatMul")}
    assert "FP32 GEMM is not supported" in caught.value.reason
    plan = plan_of(attention(), precision, "7.5", rewritten=True)
    assert "gemm" not in {layer.op for layer in plan.layers}
    # Turing computes quantised convolutions in fp32: the list of layers says so, and the target's notes.
    assert {layer.precision for layer in plan.layers if layer.op == "correlation"} == {"fp32"}


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_quantised_recurrent_nodes_are_taken_when_shielded(op: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    with pytest.raises(NodeRefused, match=r"cannot build.*Myelin") as caught:
        plan_of(recurrent(op), "int8", "8.9", rewritten=False)
    assert (caught.value.node, caught.value.op) == (None, None)  # the compiler names only its own operations
    assert {layer.precision for layer in plan_of(recurrent(op), "int8", "8.9", rewritten=True).layers} >= {
        "fp32"
    }


def test_a_refused_recurrent_node_is_named() -> None:
    """What no rewrite works around: the fp32 product inside a loop on Turing."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    with pytest.raises(NodeRefused, match=r"cannot build node rnn \(MATRIX_MULTIPLY\)") as caught:
        plan_of(recurrent("LSTM"), "fp32", "7.5", rewritten=True)
    assert (caught.value.node, caught.value.op) == ("rnn", "LSTM")
    assert plan_of(recurrent("LSTM"), "fp32", "8.6", rewritten=True).data


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


def test_int8_for_turing_is_calibrated_and_gated_on_the_rewritten_graph(
    toy_models: Path, tmp_path: Path
) -> None:
    """The dense layer is a convolution there: it is calibrated, scored and built as one."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    made = export_model(
        "toy",
        target="tensorrt-rtx",
        precision="int8",
        compute_capability="7.5",
        data=toy_models / "data",
        out=tmp_path / "turing",
    )
    assert made.manifest.gate is not None
    assert made.manifest.gate.passed
    listed = layers.recorded_placement(open_bundle(made.path))
    assert listed is not None
    assert "gemm" not in {layer.op for layer in listed}


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
    with pytest.raises(
        NodeRefused, match=r"tensorrt_rtx refuses the graph: node determinant \(Det\): "
    ) as caught:
        module.build(request, package)
    assert (caught.value.node, caught.value.op) == ("determinant", "Det")
    assert caught.value.reason


def test_the_target_lists_what_the_parser_does_not_know() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    from onnx import defs

    logger = trt.Logger(trt.Logger.ERROR)
    parser = trt.OnnxParser(trt.Builder(logger).create_network(0), logger)
    known = {schema.name for schema in defs.get_all_schemas_with_history() if schema.domain == ""}
    refused = find_target("tensorrt-rtx").refused_ops
    assert [op for op in refused if op in known and parser.supports_operator(op)] == []
    assert {op for op in known if not parser.supports_operator(op)} - set(refused) <= {"GroupNormalization"}


def test_a_recipe_with_an_operator_that_the_device_lacks_is_refused_here(toy) -> None:
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node("STFT", ["features", "step"], ["logits"], "spectrum")],
            "g",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3, 1])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    target = find_target("jetson-orin-jp5")
    variant = toy.card.file.variants[0]
    exporter = Exporter(toy.card, variant, target, None, None, "mse", 0.005, None)
    with pytest.raises(
        NodeRefused, match=r"target jetson-orin-jp5: node spectrum \(STFT\): .*no operator STFT"
    ) as caught:
        exporter.recipe("fp32").build(Lowered(exporter.graph.with_model(made)))
    assert (caught.value.node, caught.value.op) == ("spectrum", "STFT")


def test_a_capability_that_the_builder_lacks_is_named(toy) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    target = msgspec.structs.replace(find_target("tensorrt-rtx"), compute_capability="8.7")
    module, package = builders.builder(target)
    request = builders.Request(toy.graph, target, target.options("fp32"), "fp32", toy.graph.profile)
    with pytest.raises(TargetError, match=r"has no compute capability 8.7"):
        module.build(request, package)
