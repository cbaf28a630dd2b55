# SPDX-License-Identifier: Apache-2.0
"""Each rewrite keeps what the graph computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.export import rewrites
from zoo.export.session import Session


def conv_bn(op: str, *, bias: bool, shared: bool = False, group: int = 1) -> onnx.ModelProto:
    """Layer + BatchNormalization + Relu; ``shared`` lets another node read the layer's output too."""
    rng = np.random.default_rng(0)
    shapes = {"Conv": (6, 4 // group, 3), "ConvTranspose": (4, 6 // group, 3), "Gemm": (4, 6)}
    values = {
        "w": rng.standard_normal(shapes[op]),
        "s": rng.uniform(0.5, 2, 6),
        "b": rng.standard_normal(6),
        "m": rng.standard_normal(6),
        "v": rng.uniform(0.1, 3, 6),
        "layer_bias": rng.standard_normal(6),
    }
    attributes = {"group": group} if op != "Gemm" else {}
    nodes = [
        helper.make_node(op, ["x", "w"] + (["layer_bias"] if bias else []), ["y"], "layer", **attributes),
        helper.make_node("BatchNormalization", ["y", "s", "b", "m", "v"], ["z"], "norm", epsilon=1e-3),
        helper.make_node("Relu", ["z"], ["out"], "relu"),
    ]
    if shared:
        nodes.append(helper.make_node("Abs", ["y"], ["out2"], "abs"))
    shape = ["n", 4] if op == "Gemm" else ["n", 4, "t"]
    shape_out = ["n", 6] if op == "Gemm" else ["n", 6, "u"]
    outputs = ["out", "out2"] if shared else ["out"]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape_out) for name in outputs],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
@pytest.mark.parametrize("bias", [False, True])
def test_batch_norm_is_folded_exactly(op: str, bias: bool) -> None:
    model = conv_bn(op, bias=bias)
    before = Session(model)
    assert rewrites.fold_batch_norm(model) == 1
    assert [node.op_type for node in model.graph.node] == [op, "Relu"]
    assert len(model.graph.initializer) == 2
    after = Session(model)
    for seed in range(4):
        shape = (4,) if op == "Gemm" else (4, 20)
        x = (np.random.default_rng(seed).standard_normal(shape).astype(np.float32),)
        np.testing.assert_allclose(after.run(x)["out"], before.run(x)["out"], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("case", [{"op": "Conv", "shared": True}, {"op": "ConvTranspose", "group": 2}])
def test_batch_norm_stays_where_folding_would_be_wrong(case: dict[str, object]) -> None:
    model = conv_bn(bias=True, **case)  # type: ignore[arg-type]
    assert rewrites.fold_batch_norm(model) == 0
    assert "BatchNormalization" in [node.op_type for node in model.graph.node]


def test_strip_leaves_nothing_but_the_graph() -> None:
    model = conv_bn("Conv", bias=True)
    plain = rewrites.serialize(model)
    entry = onnx.StringStringEntryProto(key="path", value="/secret/place")
    for owner in (model, model.graph, model.graph.node[0], model.graph.initializer[0], model.graph.input[0]):
        owner.metadata_props.append(entry)
        owner.doc_string = "/secret/place"
    model.producer_name = "secret"
    assert b"secret" in rewrites.serialize(model)
    rewrites.strip(model)
    again = onnx.load_model_from_string(plain)
    rewrites.strip(again)
    assert b"secret" not in rewrites.serialize(model)
    assert rewrites.serialize(model) == rewrites.serialize(again)
    onnx.checker.check_model(model)


def test_names_follow_from_modules() -> None:
    model = conv_bn("Conv", bias=True)
    for node, scopes in zip(
        model.graph.node, (["", "a", "a.conv", "x"], ["", "a", "a.bn", "y"], ["", "a", "z"]), strict=True
    ):
        node.metadata_props.append(
            onnx.StringStringEntryProto(key="pkg.torch.onnx.name_scopes", value=repr(scopes))
        )
    model.graph.initializer[0].name = "a.conv.weight"
    model.graph.node[0].input[1] = "a.conv.weight"
    modules = rewrites.name_by_scope(model)
    assert [node.name for node in model.graph.node] == ["a.conv", "a.bn/BatchNormalization", "a/Relu"]
    assert modules == {"a.conv_out": "a.conv", "a.bn/BatchNormalization_out": "a.bn", "out": "a"}
    onnx.checker.check_model(model)


def test_unused_constants_go() -> None:
    model = conv_bn("Conv", bias=False)
    rewrites.drop_unused(model)
    assert "layer_bias" not in [tensor.name for tensor in model.graph.initializer]


def moved_weights(*, tied: bool = False) -> onnx.ModelProto:
    """A dense layer whose weights are cut, joined, turned and reshaped, as torch hands them over; ``tied``: read elsewhere too."""
    rng = np.random.default_rng(0)
    values = {
        "w": rng.standard_normal((6, 4)).astype(np.float32),
        "b": rng.standard_normal(6).astype(np.float32),
        "zero": np.array([0]),
        "three": np.array([3]),
        "six": np.array([6]),
        "row": np.array([2]),
    }
    nodes = [
        helper.make_node("Slice", ["w", "zero", "three", "zero"], ["upper"], "upper"),
        helper.make_node("Slice", ["w", "three", "six", "zero"], ["lower"], "lower"),
        helper.make_node("Concat", ["lower", "upper"], ["joined"], "join", axis=0),
        helper.make_node("Unsqueeze", ["joined", "zero"], ["deep"], "deepen"),
        helper.make_node("Squeeze", ["deep", "zero"], ["flat"], "flatten"),
        helper.make_node("Transpose", ["flat"], ["turned"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["y"], "dense"),
        helper.make_node("Add", ["y", "b"], ["out"], "add"),
    ]
    if tied:
        nodes.append(helper.make_node("Gather", ["w", "row"], ["out2"], "gather"))
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 6])]
    if tied:
        outputs.append(helper.make_tensor_value_info("out2", TensorProto.FLOAT, [1, 4]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_weights_that_are_only_moved_become_constants() -> None:
    model = moved_weights()
    before = Session(model)
    assert rewrites.fold_weights(model) == 6
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Add"]
    assert sorted(tensor.name for tensor in model.graph.initializer) == ["b", "turned"]
    x = (np.random.default_rng(1).standard_normal(4).astype(np.float32),)
    np.testing.assert_array_equal(Session(model).run(x)["out"], before.run(x)["out"])
    assert rewrites.fold_weights(model) == 0


def test_a_weight_that_another_node_reads_is_not_stored_twice() -> None:
    model = moved_weights(tied=True)
    before = model.SerializeToString(deterministic=True)
    assert rewrites.fold_weights(model) == 0
    assert model.SerializeToString(deterministic=True) == before


def test_a_moved_constant_that_is_an_output_stays_a_node() -> None:
    graph = helper.make_graph(
        [helper.make_node("Transpose", ["w"], ["out"], "turn", perm=[1, 0])],
        "g",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [4, 6])],
        [numpy_helper.from_array(np.ones((6, 4), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert rewrites.fold_weights(model) == 0
