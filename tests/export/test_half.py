# SPDX-License-Identifier: Apache-2.0
"""float16 graphs: values, overflow, what stays float32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.errors import TargetError
from zoo.export.half import overflowing, to_bfloat16, to_float16
from zoo.export.session import Session


def types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model)
    return {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}


def test_the_cast_graph_is_close_and_keeps_its_interface(toy) -> None:
    model = to_float16(toy.graph.model)
    assert [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)] == [
        1,
        1,
        1,
    ]
    assert {tensor.data_type for tensor in model.graph.initializer} <= {
        TensorProto.FLOAT16,
        TensorProto.INT64,
    }
    assert types(model)["conv1_out"] == TensorProto.FLOAT16
    for features in toy.inputs.features[:8]:
        np.testing.assert_allclose(
            Session(model).run(features)["probs"], Session(toy.graph.model).run(features)["probs"], atol=0.02
        )
    assert to_float16(toy.graph.model) == model


def test_what_overflows_stays_float32(toy) -> None:
    assert overflowing(toy.graph.model, toy.inputs.features[:4]) == []
    large = onnx.ModelProto()
    large.CopyFrom(toy.graph.model)
    node = next(node for node in large.graph.node if node.name == "conv2")
    tensor = next(tensor for tensor in large.graph.initializer if tensor.name == node.input[1])
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e6), tensor.name))
    names = overflowing(large, toy.inputs.features[:4])
    assert names[0] == "conv2"
    model = to_float16(large, names)
    assert types(model)["conv2_out"] == TensorProto.FLOAT
    assert types(model)["conv1_out"] == TensorProto.FLOAT16
    found = Session(model).run(toy.inputs.features[0])
    assert np.isfinite(found["logits"]).all()
    expected = Session(large).run(toy.inputs.features[0])["logits"]
    np.testing.assert_allclose(found["logits"], expected, atol=0.02 * np.abs(expected).max())


def test_casts_constants_and_outputs_read_inside() -> None:
    """A Cast to float, a constant in an attribute, and an output that another node reads."""
    nodes = [
        helper.make_node("Cast", ["i"], ["f"], "cast", to=TensorProto.FLOAT),
        helper.make_node(
            "ConstantOfShape", ["shape"], ["c"], "fill", value=helper.make_tensor("v", 1, [1], [0.5])
        ),
        helper.make_node("Add", ["f", "c"], ["y"], "add"),
        helper.make_node("Mul", ["y", "x"], ["z"], "mul"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ["n", 3]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("y", "z")],
        [numpy_helper.from_array(np.array([1, 3]), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    features = (np.array([1, 2, 3]), np.array([0.5, 0.25, 2], np.float32))
    for kept in ((), ("add",), ("mul",), ("cast", "fill")):
        found = Session(to_float16(model, kept)).run(features)
        assert found["y"].tolist() == [[1.5, 2.5, 3.5]]
        assert found["z"].tolist() == [[0.75, 0.625, 7.0]]


def test_control_flow_is_refused() -> None:
    body = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["o"])], "b", [], [helper.make_tensor_value_info("o", 1, None)]
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], "choose", then_branch=body, else_branch=body)],
        "g",
        [
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", 1, [1]),
        ],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    with pytest.raises(TargetError, match="node choose has a graph of its own"):
        to_float16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def to_bf16(array: np.ndarray) -> np.ndarray:
    """Round to nearest, ties to even, on the bits: an implementation of its own."""
    bits = array.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def test_a_bfloat16_graph_rounds_every_tensor(toy) -> None:
    model, kept = to_bfloat16(toy.graph.model)
    assert kept == ()
    assert model.opset_import[0].version == 22
    assert {t.data_type for t in model.graph.initializer} <= {TensorProto.BFLOAT16, TensorProto.INT64}
    assert [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)] == [1, 1, 1]
    assert types(model)["conv1_out"] == TensorProto.BFLOAT16
    inside = [node.output[0] for node in model.graph.node if node.output[0] in types(model)]
    session, plain = Session(model, inside), Session(toy.graph.model)
    for features in toy.inputs.features[:8]:
        found, expected = session.run(features), plain.run(features)
        for name in inside:
            np.testing.assert_array_equal(found[name], to_bf16(found[name]))
        assert np.abs(found["probs"] - expected["probs"]).max() < 0.05
        assert (found["logits"] != expected["logits"]).any()
    assert to_bfloat16(toy.graph.model)[0] == model


def test_what_onnx_does_not_define_for_bfloat16_stays_float32() -> None:
    nodes = [
        helper.make_node("Add", ["x", "x"], ["d"], "double"),
        helper.make_node("Einsum", ["d", "w"], ["e"], "sum", equation="bt,t->b"),
        helper.make_node("Add", ["e", "tiny"], ["y"], "shift"),
    ]
    weights = np.array([1, 1 + 2**-9, 2**-9], np.float32)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(np.array([2**-9], np.float32), "tiny"),
        ],
    )
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model, kept = to_bfloat16(source)
    assert kept == ("sum",)
    x = np.array([1 + 2**-9, 0.5, 4], np.float32)
    # x rounds to bf16, so does the doubling; the weights of the sum do not; its result does, and the last sum again.
    total = np.float32((2 * to_bf16(x)) @ weights)
    expected = to_bf16(to_bf16(total[None]) + np.float32(2**-9))
    assert Session(model).run((x,))["y"].tolist() == expected.tolist()
