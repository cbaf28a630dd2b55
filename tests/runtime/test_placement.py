# SPDX-License-Identifier: Apache-2.0
"""Where nodes run, as real engines report it; a part that falls back is refused, and the nodes are named.

The cases are real: every provider of the installed onnxruntime beside its CPU one (the plain wheel has Azure's, which takes
no operator of ONNX; onnxruntime-openvino's lacks Unique), and fp16, which the CPU provider has few kernels for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner

import zoo
from zoo.bundle import Bundle, Manifest, open_bundle
from zoo.cli import cli
from zoo.errors import ProviderUnavailable
from zoo.runtime.engines import EngineOptions, NodePlacement, fallback_problem, open_engine, precision_name
from zoo.specs import TensorSpec

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

OTHERS = [name for name in ort.get_available_providers() if name != "CPUExecutionProvider"]


def graph(half: bool = False) -> bytes:
    """Two convolutions with a Unique between them, or in fp16 with a Transpose, whose kernel takes every type."""
    from onnx import TensorProto, helper

    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    dtype = np.float16 if half else np.float32
    rng = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(dtype), name)
        for name, shape in (("w1", (4, 3, 3)), ("w2", (4, 4, 3)))
    ]
    if half:
        nodes = [
            helper.make_node("Conv", ["x", "w1"], ["a"], "first"),
            helper.make_node("Conv", ["a", "w2"], ["b"], "second"),
            helper.make_node("Transpose", ["b"], ["y"], "turn", perm=[0, 2, 1]),
        ]
    else:
        nodes = [
            helper.make_node("Conv", ["x", "w1"], ["a"], "first"),
            helper.make_node("Unique", ["a"], ["u"], "distinct", sorted=1),
            helper.make_node("ReduceMax", ["u"], ["m"], "largest", keepdims=0),
            helper.make_node("Add", ["a", "m"], ["s"], "sum"),
            helper.make_node("Conv", ["s", "w2"], ["y"], "second"),
        ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [1, 3, 16])],
        [helper.make_tensor_value_info("y", kind, None)],
        weights,
    )
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    ).SerializeToString()


def bundle(ready: Path, data: bytes, provider: str, precision: str = "fp32") -> Bundle:
    """A bundle in memory around a graph: only what an engine reads of it is true."""
    manifest = open_bundle(ready).manifest
    dtype = "float16" if precision == "fp16" else "float32"
    engine = msgspec.structs.replace(
        manifest.engines[0],
        precision=precision,
        inputs=(TensorSpec(name="x", dtype=dtype, shape=(1, 3, 16)),),
        outputs=(TensorSpec(name="y", dtype=dtype, shape=(1, 4, 12)),),
    )
    key = msgspec.structs.replace(manifest.key, flags={"providers": provider})
    changed: Manifest = msgspec.structs.replace(manifest, engines=(engine,), key=key)
    return Bundle(Path("made"), changed, b"", {engine.file: data})


@pytest.mark.parametrize("provider", OTHERS)
@pytest.mark.parametrize("listed", ["{}", "{},CPUExecutionProvider"])
def test_a_provider_that_lacks_an_operator_is_refused(ready_bundle: Path, provider: str, listed: str) -> None:
    made = bundle(ready_bundle, graph(), listed.format(provider))
    with pytest.raises(ProviderUnavailable, match=r"distinct \(Unique\) on CPUExecutionProvider in fp32"):
        open_engine(made, EngineOptions())
    engine = open_engine(made, EngineOptions(strict=False))
    assert engine.requested == provider
    nodes = engine.placement()
    assert {node.provider for node in nodes if not node.fallback} <= {provider}
    fallen = [node for node in nodes if node.fallback]
    assert "distinct" in [node.node for node in fallen]
    assert {node.provider for node in fallen} == {"CPUExecutionProvider"}
    # accepted, it computes: the same as the CPU provider alone
    x = np.random.default_rng(1).standard_normal((1, 3, 16)).astype(np.float32)
    plain = open_engine(bundle(ready_bundle, graph(), "CPUExecutionProvider"), EngineOptions())
    np.testing.assert_allclose(engine.run([x])[0], plain.run([x])[0], atol=1e-4)
    assert not any(node.fallback for node in plain.placement())


def test_fp16_without_kernels_is_refused(ready_bundle: Path) -> None:
    made = bundle(ready_bundle, graph(half=True), "CPUExecutionProvider", "fp16")
    nodes = open_engine(made, EngineOptions(strict=False)).placement()
    fallen = {node.node: node.precision for node in nodes if node.fallback}
    if not fallen:
        pytest.skip("this CPU's onnxruntime has fp16 kernels for convolutions")
    assert fallen == {"first": "fp32", "second": "fp32"}
    assert ("Transpose", "fp16", False) in {(node.op, node.precision, node.fallback) for node in nodes}
    with pytest.raises(
        ProviderUnavailable,
        match=r"2 of \d nodes do not run on CPUExecutionProvider in fp16: first \(Conv\) on CPUExecutionProvider in fp32",
    ):
        open_engine(made, EngineOptions())


def test_int8_nodes_are_told_from_the_others(ready_bundle: Path) -> None:
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    scale = helper.make_tensor("s", TensorProto.FLOAT, [], [0.05])
    zero = helper.make_tensor("z", TensorProto.INT8, [], [0])
    weight = onnx.numpy_helper.from_array(rng.integers(-127, 127, (4, 3, 3)).astype(np.int8), "w")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], "q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xf"], "dq"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"], "dqw"),
        helper.make_node("Conv", ["xf", "wf"], ["c"], "conv"),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"], "q2"),
        helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["cf"], "dq2"),
        helper.make_node("Erf", ["cf"], ["y"], "erf"),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 14])],
        [scale, zero, weight],
    )
    data = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    engine = open_engine(
        bundle(ready_bundle, data.SerializeToString(), "CPUExecutionProvider", "int8"), EngineOptions()
    )
    placed = {node.op: node.precision for node in engine.placement()}
    assert placed["QLinearConv"] in (
        "int8",
        "uint8",
    )  # on x86 onnxruntime turns signed activations into unsigned
    assert placed["Erf"] == "fp32"


def test_names_of_number_types() -> None:
    assert [precision_name(name) for name in ("float", "f32", "bfloat16", "i8", "u1")] == [
        "fp32",
        "fp32",
        "bf16",
        "int8",
        "u1",
    ]


def test_the_sentence_names_eight_nodes_and_counts_the_rest() -> None:
    nodes = [NodePlacement(f"n{i}", "Op", "CPU", "fp32", fallback=i > 0) for i in range(12)]
    text = str(fallback_problem(nodes, "NPU"))
    assert text.startswith("11 of 12 nodes do not run on NPU: n1 (Op) on CPU in fp32, n2 (Op)")
    assert text.endswith("n8 (Op) on CPU in fp32, and 3 more")
    assert fallback_problem(nodes[:1], "NPU") is None


def test_inspect_lists_provider_and_precision(ready_bundle: Path) -> None:
    found = CliRunner().invoke(cli, ["inspect", str(ready_bundle), "--placement", "--json"])
    nodes = json.loads(found.stdout)
    assert {node["provider"] for node in nodes} == {"CPUExecutionProvider"}
    assert "fp32" in {node["precision"] for node in nodes}
    assert not any(node["fallback"] for node in nodes)
    text = CliRunner().invoke(cli, ["inspect", str(ready_bundle), "--placement"]).stdout
    assert text.splitlines()[-1].startswith(f"{len(nodes)} nodes: ")


@pytest.mark.skipif("AzureExecutionProvider" not in OTHERS, reason="this onnxruntime has no Azure provider")
def test_inspect_marks_what_zoo_run_refuses(ready_bundle: Path, tmp_path: Path) -> None:
    from zoo.bundle import write_bundle

    opened = open_bundle(ready_bundle)
    key = msgspec.structs.replace(opened.manifest.key, flags={"providers": "AzureExecutionProvider"})
    contents = {file.path: opened.read(file.path) for file in opened.manifest.files}
    path = write_bundle(tmp_path / "azure", msgspec.structs.replace(opened.manifest, key=key), contents)
    with pytest.raises(ProviderUnavailable, match="nodes do not run on AzureExecutionProvider: "):
        zoo.load(path)
    script = Path(sys.executable).parent / "zoo"
    done = subprocess.run(
        [str(script), "inspect", str(path), "--placement"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "FALLBACK" in done.stdout
    assert "zoo run refuses this bundle here" in done.stderr


def test_an_int8_product_with_a_bias_is_computed_in_integers(ready_bundle: Path) -> None:
    # As the exporter writes a dense layer of a Transformer: data and weights through Q/DQ, the bias in float.
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    constants = {
        "xs": np.array(0.03, np.float32),
        "xz": np.array(0, np.int8),
        "wq": rng.integers(-127, 128, (16, 8)).astype(np.int8),
        "ws": rng.uniform(0.001, 0.01, 8).astype(np.float32),
        "wz": np.zeros(8, np.int8),
        "b": rng.standard_normal(8).astype(np.float32),
    }
    made = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"], "q"),
            helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"], "dq"),
            helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], "weights", axis=1),
            helper.make_node("MatMul", ["xd", "wd"], ["p"], "product"),
            helper.make_node("Add", ["p", "b"], ["a"], "bias"),
            helper.make_node("Relu", ["a"], ["y"], "relu"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    data = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    ).SerializeToString()
    engine = open_engine(bundle(ready_bundle, data, "CPUExecutionProvider", "int8"), EngineOptions())
    kinds = {node.op for node in engine.placement()}
    assert "MatMulIntegerToFloat" in kinds
    assert not kinds & {"Gemm", "MatMul"}
    x = rng.standard_normal((1, 3, 16)).astype(np.float32)
    quantized = np.clip(np.rint(x / constants["xs"]), -128, 127) * constants["xs"]
    expected = np.maximum(quantized @ (constants["wq"] * constants["ws"]) + constants["b"], 0)
    np.testing.assert_allclose(engine.run([x])[0], expected, rtol=1e-4, atol=1e-4)
