# SPDX-License-Identifier: Apache-2.0
"""Explicit Q/DQ graphs: what is quantised, what is not, and that every builder takes them."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.errors import ZooError
from zoo.export import builders, calibrate, quantize
from zoo.export.session import Session
from zoo.export.targets import find_target


def limits_of(toy) -> dict[str, float]:
    names = dict.fromkeys(name for layer in quantize.layers(toy.graph.model) for name in layer.data)
    return calibrate.thresholds(calibrate.record(toy.graph.model, list(names), toy.inputs.features), "minmax")


def test_only_data_and_weights_of_layers_are_quantised(toy) -> None:
    model = quantize.quantize(toy.graph.model, limits_of(toy))
    assert all(tensor.data_type != TensorProto.INT32 for tensor in model.graph.initializer)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        inputs = [producers.get(name) for name in node.input]
        quantised = [source is not None and source.op_type == "DequantizeLinear" for source in inputs]
        if node.op_type in ("Conv", "Gemm"):
            assert quantised[:2] == [True, True]
            assert not any(quantised[2:])  # the bias stays float
            assert node.input[2] in constants
        elif node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            assert not any(quantised)
        else:
            zero = numpy_helper.to_array(constants[node.input[2]])
            assert zero.dtype == np.int8
            assert not zero.any()
    assert any(node.op_type == "Mul" and "scale" in node.input for node in model.graph.node)
    scales = {
        tuple(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.name.endswith("weight.folded/scale")
    }
    assert scales == {(8,)}  # per channel
    assert quantize.quantize(toy.graph.model, limits_of(toy)) == model


def test_weights_round_trip() -> None:
    weight = np.random.default_rng(0).standard_normal((5, 4, 3)).astype(np.float32)
    weight[2] = 0
    for axis in range(3):
        values, scales = quantize.quantize_weight(weight, axis)
        shape = [1, 1, 1]
        shape[axis] = -1
        restored = values * scales.reshape(shape)
        assert np.abs(restored - weight).max() <= scales.max() / 2 + 1e-7
        assert values.min() >= -127
        assert (scales > 0).all()


def test_layers_can_stay_in_float(toy) -> None:
    limits = limits_of(toy)
    model = quantize.quantize(toy.graph.model, limits, kept=["conv2"])
    kept = next(node for node in model.graph.node if node.name == "conv2")
    assert not any("/dq" in name for name in kept.input)
    with pytest.raises(ZooError, match="layers to keep in float are not in the graph: conv9"):
        quantize.quantize(toy.graph.model, limits, kept=["conv9"])
    with pytest.raises(ZooError, match="no layer is left to quantise"):
        quantize.quantize(toy.graph.model, limits, kept=["conv1", "conv2", "dense"])
    with pytest.raises(ZooError, match="no calibration range for"):
        quantize.quantize(toy.graph.model, {})


def test_sensitivity_finds_the_layer_that_suffers(toy) -> None:
    limits = limits_of(toy)
    ranking = quantize.sensitivity(toy.graph.model, limits, toy.inputs.features[:8])
    assert {name for name, _ in ranking} == {"conv1", "conv2", "dense"}
    assert [ratio for _, ratio in ranking] == sorted(ratio for _, ratio in ranking)
    data = {layer.node: layer.data[0] for layer in quantize.layers(toy.graph.model)}
    spoiled = {**limits, data["conv2"]: limits[data["conv2"]] * 200}
    assert quantize.sensitivity(toy.graph.model, spoiled, toy.inputs.features[:8])[0][0] == "conv2"


def mixed_model() -> onnx.ModelProto:
    """MatMul with a constant and with two activations, a transposed convolution, a GRU, an elementwise constant."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((6, 8)),
        "up": rng.standard_normal((8, 4, 2)),
        "gw": rng.standard_normal((1, 15, 4)) / 2,
        "gr": rng.standard_normal((1, 15, 5)) / 2,
        "factor": rng.standard_normal((5,)),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "project"),
        helper.make_node("Transpose", ["a"], ["at"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["a", "at"], ["scores"], "attend"),
        helper.make_node("MatMul", ["scores", "a"], ["mixed"], "mix"),
        helper.make_node("Transpose", ["mixed"], ["mt"], "turn2", perm=[0, 2, 1]),
        helper.make_node("ConvTranspose", ["mt", "up"], ["wide"], "up_conv", strides=[2]),
        helper.make_node("Transpose", ["wide"], ["steps"], "turn3", perm=[2, 0, 1]),
        helper.make_node("GRU", ["steps", "gw", "gr"], ["", "last"], "gru", hidden_size=5),
        helper.make_node("Mul", ["last", "factor"], ["y"], "weigh"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 7, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_other_layers_are_quantised_too() -> None:
    model = mixed_model()
    found = {layer.node: layer for layer in quantize.layers(model)}
    assert set(found) == {"project", "attend", "mix", "up_conv", "gru"}
    assert found["attend"].data == ("a", "at")
    assert found["gru"].weights == {"gw": 1, "gr": 1}
    inputs = [(np.random.default_rng(i).standard_normal((7, 6)).astype(np.float32),) for i in range(8)]
    names = dict.fromkeys(name for layer in found.values() for name in layer.data)
    limits = calibrate.thresholds(calibrate.record(model, list(names), inputs), "minmax")
    quantised = quantize.quantize(model, limits)
    plain, lossy = Session(model), Session(quantised)
    for features in inputs:
        expected, output = plain.run(features)["y"], lossy.run(features)["y"]
        assert np.abs(output - expected).max() < 0.15 * np.abs(expected).max()
    assert len(quantize.sensitivity(model, limits, inputs)) == 5


@pytest.mark.parametrize("target", ["cpu-x86", "openvino-cpu", "tensorrt-rtx"])
def test_every_builder_takes_the_same_graph(toy, target: str) -> None:
    found = find_target(target)
    package = {"cpu-x86": "onnxruntime", "openvino-cpu": "openvino", "tensorrt-rtx": "tensorrt_rtx"}[target]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    graph = toy.graph.with_model(quantize.quantize(toy.graph.model, limits_of(toy)))
    profile = found.profile(dict(toy.graph.profile), "int8")
    module, name = builders.builder(found)
    built = module.build(builders.Request(graph, found, found.options("int8"), "int8", profile), name)
    assert all(built.files.values())
    assert built.spec.file in built.files
