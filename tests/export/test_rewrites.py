# SPDX-License-Identifier: Apache-2.0
"""Each rewrite keeps what the graph computes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.export import quantize, rewrites
from zoo.export.recipe import Recipe
from zoo.export.session import Session
from zoo.export.targets import Rewrite, find_target


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


def test_a_size_worked_out_in_a_module_is_not_what_it_returns() -> None:
    """Norm folded into the convolution before it: of the norm's scope only the arithmetic of the length is left, in int64."""
    model = conv_bn("Conv", bias=True)
    model.graph.node.insert(2, helper.make_node("Shape", ["x"], ["length"], "size"))
    model.graph.value_info.append(helper.make_tensor_value_info("length", TensorProto.INT64, [3]))
    scopes = (["", "a", "a.conv", "x"], ["", "a", "a.bn", "y"], ["", "a", "a.conv", "s"], ["", "a", "z"])
    for node, scope in zip(model.graph.node, scopes, strict=True):
        node.metadata_props.append(
            onnx.StringStringEntryProto(key="pkg.torch.onnx.name_scopes", value=repr(scope))
        )
    modules = rewrites.name_by_scope(model)
    assert {module: tensor for tensor, module in modules.items()} == {
        "a.conv": "a.conv/Conv_out",
        "a.bn": "a.bn/BatchNormalization_out",
        "a": "out",
    }


def test_unused_constants_go() -> None:
    model = conv_bn("Conv", bias=False)
    rewrites.drop_unused(model)
    assert "layer_bias" not in [tensor.name for tensor in model.graph.initializer]


def products(case: str) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """One product, of a float32 input ``x`` (batch in front) with a constant or with itself."""
    rng = np.random.default_rng(1)
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "matmul2": ((4,), (4, 6)),
        "matmul3": ((7, 4), (4, 6)),
        "matmul4": ((3, 7, 4), (4, 6)),
        "matmul5": ((2, 3, 7, 4), (4, 6)),
        "matmul6": ((2, 1, 3, 7, 4), (4, 6)),
        "batched": ((3, 7, 4), (3, 4, 5)),
        "left": ((4, 5), (6, 4)),
        "gemm": ((4,), (4, 6)),
        "gemm_transposed": ((4,), (6, 4)),
        "einsum_pool": ((7,), (2, 7, 5)),
        "einsum_matmul": ((7, 4), (4, 6)),
        "einsum_outer": ((7,), (5,)),
        "einsum_turned": ((3, 4), (6, 4, 3)),
        "shared": ((7, 4), (4, 6)),
        "attention": ((7, 4), (1,)),
    }
    own, other = shapes[case]
    nodes = {
        "left": [helper.make_node("MatMul", ["w", "x"], ["y"], "layer")],
        "gemm": [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "layer")],
        "gemm_transposed": [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "layer", transB=1)],
        "einsum_pool": [helper.make_node("Einsum", ["x", "w"], ["y"], "layer", equation="nt, ntc -> nc")],
        "einsum_matmul": [helper.make_node("Einsum", ["x", "w"], ["y"], "layer", equation="ntc,cd->ntd")],
        "einsum_outer": [helper.make_node("Einsum", ["x", "w"], ["y"], "layer", equation="nt,d->ntd")],
        "einsum_turned": [helper.make_node("Einsum", ["x", "w"], ["y"], "layer", equation="ntc,dct->dn")],
        "shared": [
            helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
            helper.make_node("MatMul", ["x", "w"], ["b2"], "second"),
            helper.make_node("Add", ["a", "b2"], ["y"], "add"),
        ],
        "attention": [
            helper.make_node("Transpose", ["x"], ["t"], "turn", perm=[0, 2, 1]),
            helper.make_node("MatMul", ["x", "t"], ["scores"], "scores"),
            helper.make_node("MatMul", ["scores", "x"], ["y"], "layer"),
        ],
    }.get(case, [helper.make_node("MatMul", ["x", "w"], ["y"], "layer")])
    values = {"w": rng.standard_normal(other), "b": rng.standard_normal(6)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *own])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    rewrites.drop_unused(model)
    return onnx.shape_inference.infer_shapes(model), own


@pytest.mark.parametrize(
    "case",
    [
        *(f"matmul{rank}" for rank in range(2, 7)),
        *("batched", "left", "gemm", "gemm_transposed", "shared", "attention"),
        *("einsum_pool", "einsum_matmul", "einsum_outer", "einsum_turned"),
    ],
)
def test_products_without_a_matrix_product_are_equal(case: str) -> None:
    model, shape = products(case)
    before = Session(model)
    names = [node.name for node in model.graph.node]
    assert rewrites.plain_matrix_products(model) == (2 if case in ("shared", "attention") else 1)
    found = [node.op_type for node in model.graph.node]
    assert not {"MatMul", "Gemm", "Einsum"} & set(found)
    assert ("Conv" in found) == (
        case in ("matmul2", "matmul3", "matmul4", "matmul5", "gemm", "gemm_transposed", "shared")
    )
    assert found.count("Transpose") == {"shared": 3}.get(case, found.count("Transpose"))
    assert set(names) <= {node.name for node in model.graph.node}  # who looks for a layer finds it
    rewrites.strip(model)
    onnx.checker.check_model(model, full_check=True)
    after = Session(model)
    for seed in range(3):
        x = (np.random.default_rng(seed).standard_normal(shape).astype(np.float32),)
        np.testing.assert_allclose(after.run(x)["y"], before.run(x)["y"], rtol=2e-5, atol=2e-5)
    assert rewrites.plain_matrix_products(model) == 0


@pytest.mark.parametrize(
    ("op", "attributes"),
    [("Gemm", {"alpha": 0.5}), ("Gemm", {"transA": 1}), ("Einsum", {"equation": "ab,bb->a"})],
)
def test_products_that_would_change_stay(op: str, attributes: dict[str, object]) -> None:
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], "layer", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((4, 4), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    plain = rewrites.serialize(model)
    assert rewrites.plain_matrix_products(model) == 0
    assert rewrites.serialize(model) == plain


def recurrent(op: str, *, both: bool = False) -> onnx.ModelProto:
    """A recurrent node and a projection, float32: x [n, t, 5] to y [t, directions, n, 6]."""
    rng = np.random.default_rng(2)
    gates, directions = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 2 if both else 1
    values = {
        "w": rng.standard_normal((directions, gates * 6, 5)),
        "r": rng.standard_normal((directions, gates * 6, 6)) / 3,
        "b": rng.standard_normal((directions, gates * 12)) / 3,
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], "turn", perm=[1, 0, 2]),
        helper.make_node(
            op,
            ["steps", "w", "r", "b"],
            ["y"],
            "rnn",
            hidden_size=6,
            direction="bidirectional" if both else "forward",
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "time", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["time", directions, "batch", 6])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("both", [False, True])
def test_a_shielded_recurrent_node_is_equal(op: str, both: bool) -> None:
    model = quantize.quantize(recurrent(op, both=both), {"steps": 3.0})
    before = Session(model, ["w/dq", "r/dq"])
    assert rewrites.shield_recurrent(model) == 1
    found = [node.op_type for node in model.graph.node]
    assert found == ["Transpose", "QuantizeLinear", "DequantizeLinear", "Identity", op]
    onnx.checker.check_model(model, full_check=True)
    x = (np.random.default_rng(3).standard_normal((9, 5)).astype(np.float32),)
    wanted = before.run(x)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name in ("w/dq", "r/dq"):
        np.testing.assert_array_equal(constants[f"{name}/float"], wanted[name])
    # onnxruntime packs constant weights, and then adds in another order.
    np.testing.assert_allclose(Session(model).run(x)["y"], wanted["y"], rtol=0, atol=1e-6)
    assert rewrites.shield_recurrent(recurrent(op)) == 0


def joined(op: str, *, both: bool = False, last: str = "features") -> onnx.ModelProto:
    """A recurrent node with its directions joined as torch does it: y (time, batch, directions * size), with ``last`` another
    pair of them.
    """
    model = recurrent(op, both=both)
    ends = {f"at{place}": place for place in range(5)}
    cut = [
        helper.make_node("Slice", ["shape", f"at{i}", f"at{i + 1}"], [f"dim{i}"], f"dim{i}") for i in range(4)
    ]
    first, second, order = {
        "features": ("dim2", "dim3", ["dim0", "dim1", "joined"]),
        "batch": ("dim1", "dim2", ["dim0", "joined", "dim3"]),
        "first": ("dim0", "dim1", ["joined", "dim2", "dim3"]),
    }[last]
    model.graph.node.extend(
        [
            helper.make_node("Transpose", ["y"], ["turned"], "turned", perm=[0, 2, 1, 3]),
            helper.make_node("Shape", ["turned"], ["shape"], "shape"),
            *cut,
            helper.make_node("Mul", [first, second], ["joined"], "joined"),
            helper.make_node("Concat", order, ["wanted"], "wanted", axis=0),
            helper.make_node("Reshape", ["turned", "wanted"], ["flat"], "flat"),
        ]
    )
    model.graph.initializer.extend(numpy_helper.from_array(np.array([at]), name) for name, at in ends.items())
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["a", "b", "c"]))
    return model


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_one_direction_is_squeezed(op: str) -> None:
    model = joined(op)
    x = (np.random.default_rng(3).standard_normal((9, 5)).astype(np.float32),)
    wanted = Session(model).run(x)["flat"]
    assert rewrites.squeeze_directions(model) == 1
    assert [node.op_type for node in model.graph.node] == ["Transpose", op, "Squeeze"]
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(Session(model).run(x)["flat"], wanted)
    assert rewrites.squeeze_directions(model) == 0


@pytest.mark.parametrize(("both", "last"), [(True, "features"), (True, "batch"), (False, "first")])
def test_what_is_no_squeeze_stays(both: bool, last: str) -> None:
    model = joined("LSTM", both=both, last=last)
    before = model.SerializeToString()
    assert rewrites.squeeze_directions(model) == 0
    assert model.SerializeToString() == before


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("per_tensor", [False, True])
def test_an_lstm_of_int8_weights_runs_in_integers(both: bool, per_tensor: bool) -> None:
    # Oracle: the float graph. Tolerance: what int8 weights and 8-bit states cost in nine steps, seen at up to 0.04.
    plain = recurrent("LSTM", both=both)
    model = quantize.quantize(plain, {"steps": 3.0}, per_tensor=per_tensor)
    assert not rewrites.mixes_batch(model)
    assert rewrites.integer_lstms(model) == 1
    assert [node.op_type for node in model.graph.node] == ["Transpose", "DynamicQuantizeLSTM"]
    assert rewrites.mixes_batch(model)
    # An item's result depends on its neighbours in a batch, so that the cell takes none.
    cell: Any = SimpleNamespace(profile={"batch": (1, 1, 64), "time": (1, 24, 512)})
    for made, batch in ((plain, (1, 1, 64)), (model, (1, 1, 1))):
        lowered: Any = SimpleNamespace(graph=SimpleNamespace(model=made))
        assert Recipe._profile(cell, lowered) == {"batch": batch, "time": (1, 24, 512)}
    onnx.checker.check_model(model)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["rnn/w/integers"] == kinds["rnn/r/integers"] == TensorProto.INT8
    x = (np.random.default_rng(3).standard_normal((9, 5)).astype(np.float32),)
    np.testing.assert_allclose(Session(model).run(x)["y"], Session(plain).run(x)["y"], rtol=0, atol=0.05)
    assert rewrites.integer_lstms(model) == 0


@pytest.mark.parametrize("op", ["GRU", "RNN", "LSTM"])
def test_other_recurrent_nodes_and_float_lstms_stay(op: str) -> None:
    model = recurrent(op) if op == "LSTM" else quantize.quantize(recurrent(op), {"steps": 3.0})
    before = model.SerializeToString()
    assert rewrites.integer_lstms(model) == 0
    assert model.SerializeToString() == before


def test_targets_name_every_rewrite() -> None:
    annotation = get_type_hints(Rewrite)["name"]
    assert set(get_args(annotation)) == set(rewrites.PASSES)
    target = find_target("tensorrt-rtx")
    turing = target.for_capability("7.5")
    assert turing.passes("fp32") == ("dequantize_tables", "plain_matrix_products")
    assert turing.passes("int8") == ("dequantize_tables", "plain_matrix_products", "shield_recurrent")
    assert target.passes("int8") == ("dequantize_tables", "shield_recurrent")
    for name in ("cpu-x86", "cpu-arm64"):
        assert find_target(name).passes("int8") == ("integer_lstms",)
        assert find_target(name).passes("fp32") == ()
    assert target.passes("fp16") == turing.passes("fp16") == ("dequantize_tables",)


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


def weight_norm(**options: object) -> onnx.ModelProto:
    """A convolution whose weight is computed from a direction and a gain; ``spread``: and a constant made larger."""
    rng = np.random.default_rng(2)
    arrays = {
        "v": rng.standard_normal((6, 4, 3)).astype(np.float32),
        "g": rng.uniform(0.5, 2, (1, 1, 3)).astype(np.float32),
        "axes": np.array([0, 1], np.int64),
        "column": rng.standard_normal((6, 1)).astype(np.float32),
        "row": rng.standard_normal((1, 9)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Mul", ["v", "v"], ["squares"], "squares"),
        helper.make_node("ReduceSum", ["squares", "axes"], ["sum"], "sum", keepdims=1),
        helper.make_node("Sqrt", ["sum"], ["norm"], "norm"),
        helper.make_node("Div", ["g", "norm"], ["gain"], "gain"),
        helper.make_node("Mul", ["v", "gain"], ["w"], "weight"),
        helper.make_node("Conv", ["x", "w"], ["y"], "conv"),
    ]
    if options.get("spread"):
        nodes += [
            helper.make_node("Mul", ["column", "row"], ["outer"], "outer"),
            helper.make_node("Sub", ["y", "outer"], ["out"], "last"),
        ]
    else:
        nodes.append(helper.make_node("Relu", ["y"], ["out"], "last"))
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 11])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 6, 9])],
        [numpy_helper.from_array(value, name) for name, value in arrays.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_weight_that_is_computed_becomes_a_constant() -> None:
    model = weight_norm()
    before = Session(model, optimize=False)
    assert rewrites.fold_arithmetic(model) == 5
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Relu"]
    assert [tensor.name for tensor in model.graph.initializer] == ["w"]
    x = (np.random.default_rng(1).standard_normal((4, 11)).astype(np.float32),)
    np.testing.assert_allclose(Session(model).run(x)["out"], before.run(x)["out"], atol=1e-6)
    assert [layer.node for layer in quantize.layers(model)] == ["conv"]
    assert rewrites.fold_arithmetic(model) == 0


def test_what_would_grow_stays_a_node() -> None:
    model = weight_norm(spread=True)
    assert rewrites.fold_arithmetic(model) == 5
    assert [node.name for node in model.graph.node] == ["conv", "outer", "last"]


def test_compact_keeps_the_model_and_drops_what_was_replaced() -> None:
    model = weight_norm()
    rewrites.fold_arithmetic(model)
    assert rewrites.compact(model).SerializeToString(deterministic=True) == rewrites.serialize(model)


def table_lookup(scale: float = 0.5) -> onnx.ModelProto:
    """Rows of an int8 table with a scale each."""
    rng = np.random.default_rng(0)
    scales = rng.uniform(0.1, 1, (20, 1)).astype(np.float32)
    scales[3] = scale
    nodes = [
        helper.make_node("Gather", ["rows", "ids"], ["taken"], "rows"),
        helper.make_node("Cast", ["taken"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Gather", ["scales", "ids"], ["scale"], "scales"),
        helper.make_node("Mul", ["cast", "scale"], ["out"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", "t", 7])],
        [
            numpy_helper.from_array(rng.integers(-127, 128, (20, 7)).astype(np.int8), "rows"),
            numpy_helper.from_array(scales, "scales"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_table_is_dequantised_before_rows_are_taken() -> None:
    model = table_lookup()
    before = Session(model)
    assert rewrites.dequantize_tables(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["DequantizeLinear", "Gather"]
    ids = (np.random.default_rng(1).integers(0, 20, 9),)
    np.testing.assert_array_equal(Session(model).run(ids)["out"], before.run(ids)["out"])
    assert rewrites.dequantize_tables(model) == 0


def test_a_table_with_a_scale_of_zero_stays() -> None:
    assert rewrites.dequantize_tables(table_lookup(scale=0.0)) == 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_zero_states_of_recurrent_layers_go(value: float) -> None:
    rng = np.random.default_rng(0)
    start = numpy_helper.from_array(np.array([value], np.float32))
    nodes = [
        helper.make_node("Shape", ["x"], ["batch"], "batch", start=1, end=2),
        helper.make_node("Concat", ["one", "batch", "hidden"], ["size"], "size", axis=0),
        helper.make_node("ConstantOfShape", ["size"], ["state"], "state", value=start),
        helper.make_node("LSTM", ["x", "w", "r", "", "", "state", "state"], ["y"], "lstm", hidden_size=5),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["t", "n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["t", 1, "n", 5])],
        [
            numpy_helper.from_array(rng.standard_normal((1, 20, 3)).astype(np.float32), "w"),
            numpy_helper.from_array(rng.standard_normal((1, 20, 5)).astype(np.float32), "r"),
            numpy_helper.from_array(np.array([1]), "one"),
            numpy_helper.from_array(np.array([5]), "hidden"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    before = Session(model)
    assert rewrites.drop_zero_states(model) == (0 if value else 2)
    onnx.checker.check_model(model, full_check=True)
    assert next(node.op_type for node in model.graph.node) == ("Shape" if value else "LSTM")
    x = (rng.standard_normal((1, 3)).astype(np.float32),)
    np.testing.assert_array_equal(Session(model).run(x)["y"], before.run(x)["y"])


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norms_are_written_out(bias: bool) -> None:
    rng = np.random.default_rng(0)
    constants = [numpy_helper.from_array(rng.standard_normal(6).astype(np.float32), name) for name in "sb"]
    inputs = ["x", "s", "b"] if bias else ["x", "s"]
    graph = helper.make_graph(
        [helper.make_node("LayerNormalization", inputs, ["y"], "norm", axis=-1, epsilon=1e-3)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5, 6])],
        constants[: len(inputs) - 1],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    before = Session(model)
    assert rewrites.plain_layer_norms(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert "LayerNormalization" not in {node.op_type for node in model.graph.node}
    for scale in (1.0, 1e3):
        x = ((rng.standard_normal((5, 6)) * scale).astype(np.float32),)
        np.testing.assert_allclose(Session(model).run(x)["y"], before.run(x)["y"], rtol=0, atol=2e-5)
    assert rewrites.plain_layer_norms(model) == 0
