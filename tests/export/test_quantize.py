# SPDX-License-Identifier: Apache-2.0
"""Explicit Q/DQ graphs: what is quantised, what is not, and that every builder takes them."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.errors import TargetError, ZooError
from zoo.export import builders, calibrate, quantize
from zoo.export.graph import Graph
from zoo.export.session import Session
from zoo.export.targets import find_target
from zoo.specs import DType, TensorSpec


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
    values, scales = quantize.quantize_weight(weight, None)
    assert scales.shape == ()
    assert scales == np.abs(weight).max() / np.float32(127)
    assert np.abs(values * scales - weight).max() <= scales / 2 + 1e-7


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


def wide_model() -> tuple[onnx.ModelProto, list[tuple[np.ndarray, ...]]]:
    """An embedding table, a convolution, a GRU, products with a constant and of two activations; 32 and 64 wide."""
    rng = np.random.default_rng(0)
    arrays = {
        "table": rng.standard_normal((20, 32)),
        "cw": rng.standard_normal((32, 32, 3)) / 10,
        "gw": rng.standard_normal((1, 96, 32)) / 6,
        "gr": rng.standard_normal((1, 96, 32)) / 6,
        "w": rng.standard_normal((32, 64)) / 6,
        "odd": rng.standard_normal((64, 5)) / 8,
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], "embed"),
        helper.make_node("Transpose", ["rows"], ["channels"], "turn", perm=[0, 2, 1]),
        helper.make_node("Conv", ["channels", "cw"], ["conv_out"], "conv", pads=[1, 1]),
        helper.make_node("Transpose", ["conv_out"], ["steps"], "turn2", perm=[2, 0, 1]),
        helper.make_node("GRU", ["steps", "gw", "gr"], ["", "state"], "gru", hidden_size=32),
        helper.make_node("Reshape", ["state", "flat"], ["vector"], "reshape"),
        helper.make_node("MatMul", ["vector", "w"], ["wide"], "dense"),
        helper.make_node("MatMul", ["wide", "odd"], ["y"], "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [
            *(numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()),
            numpy_helper.from_array(np.array([1, 32]), "flat"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model, [(rng.integers(0, 20, 6),) for _ in range(8)]


def with_restored_weights(quantised: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """The float graph with the weights that the DequantizeLinear nodes give, computed here."""
    constants = {t.name: np.array(numpy_helper.to_array(t)) for t in quantised.graph.initializer}
    restored = onnx.ModelProto()
    restored.CopyFrom(model)
    for node in quantised.graph.node:
        if node.op_type == "DequantizeLinear":
            attributes = {a.name: a.i for a in node.attribute}
            values, scales = constants[node.input[0]].astype(np.float32), constants[node.input[1]]
            axis = attributes["axis"]
            if "block_size" in attributes:
                scales = np.repeat(scales, attributes["block_size"], axis)
            else:
                scales = scales.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
            name = node.input[0].removesuffix("/q").split("/axis")[0]
            tensor = next(t for t in restored.graph.initializer if t.name == name)
            tensor.CopyFrom(numpy_helper.from_array(values * scales, name))
    return restored


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_alone(bits: quantize.Bits) -> None:
    """Nothing but weights is rounded: the graph computes what the float graph does with the restored weights."""
    model, inputs = wide_model()
    quantised = quantize.quantize(model, None, bits=bits)
    assert not any(node.op_type == "QuantizeLinear" for node in quantised.graph.node)
    stored = {t.name: t for t in quantised.graph.initializer if t.name.endswith("/q")}
    assert set(stored) == {f"{name}/q" for name in ("table", "cw", "gw", "gr", "w", "odd")}
    types = {t.data_type for t in stored.values()}
    assert types == ({TensorProto.INT8} if bits == 8 else {TensorProto.INT4})
    exact, found = Session(with_restored_weights(quantised, model)), Session(quantised)
    plain = Session(model)
    limit = {8: 0.03, 4: 0.4}[bits]
    for features in inputs:
        output, expected = found.run(features)["y"], plain.run(features)["y"]
        np.testing.assert_allclose(output, exact.run(features)["y"], atol=1e-5)
        assert 0 < np.abs(output - expected).max() < limit * np.abs(expected).max()
    ranking = quantize.sensitivity(model, None, inputs, bits=bits)
    assert {name for name, _ in ranking} == {"embed", "conv", "gru", "dense", "head"}
    kept = quantize.quantize(model, None, kept=["embed", "gru"], bits=bits)
    assert {t.name for t in kept.graph.initializer if t.name.endswith("/q")} == {"cw/q", "w/q", "odd/q"}


def test_weights_that_no_group_fits_get_eight_bits() -> None:
    model = mixed_model()
    quantised = quantize.quantize(model, None, bits=4)
    assert {t.data_type for t in quantised.graph.initializer if t.name.endswith("/q")} == {TensorProto.INT8}
    assert quantize.group_size(39) == 39  # TIM-Net's 39 channels: one group
    assert quantize.group_size(96) == 32
    assert quantize.group_size(40) == 40
    assert quantize.group_size(37 * 2) == 37
    assert quantize.group_size(7) is None
    # 39 by 39 is an odd number of half bytes, which TensorRT-RTX refuses.
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "odd")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 39])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 39])],
        [numpy_helper.from_array(np.eye(39, dtype=np.float32), "w")],
    )
    square = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    found = quantize.quantize(square, None, bits=4)
    assert [t.data_type for t in found.graph.initializer if t.name == "w/q"] == [TensorProto.INT8]


def test_groups_round_trip() -> None:
    rng = np.random.default_rng(1)
    weight = (rng.standard_normal((6, 64, 2)) * np.exp2(rng.integers(-8, 8, (6, 64, 1)) // 3)).astype(
        np.float32
    )
    weight[3] = 0
    values, scales = quantize.quantize_groups(weight, 1, 32)
    assert (values.shape, scales.shape) == ((6, 64, 2), (6, 2, 2))
    assert np.abs(values).max() == 7
    error = np.square(values * np.repeat(scales, 32, 1) - weight).sum()
    largest = np.abs(weight.reshape(6, 2, 32, 2)).max(2) / 7
    naive = np.where(largest > 0, largest, 1).repeat(32, 1)
    unclipped = np.square(np.rint(weight / naive) * naive - weight).sum()
    assert error < 0.95 * unclipped  # a scale that clips the largest value may lose less
    assert not values[3].any()


def engine_of(model: onnx.ModelProto, target: str, precision: str) -> builders.Built:
    found = find_target(target)
    package = {"cpu-x86": "onnxruntime", "openvino-cpu": "openvino", "tensorrt-rtx": "tensorrt_rtx"}[target]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    types: dict[int, DType] = {TensorProto.FLOAT: "float32", TensorProto.INT64: "int64"}
    specs = [
        tuple(
            TensorSpec(
                name=v.name,
                dtype=types[v.type.tensor_type.elem_type],
                shape=tuple(d.dim_value for d in v.type.tensor_type.shape.dim),
            )
            for v in side
        )
        for side in (model.graph.input, model.graph.output)
    ]
    graph = Graph(model, {}, specs[0], specs[1], {})
    module, name = builders.builder(found)
    options = found.options(precision)
    return module.build(builders.Request(graph, found, options, precision, {}), name)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["cpu-x86", "openvino-cpu", "tensorrt-rtx"])
@pytest.mark.parametrize("bits", [8, 4])
def test_every_builder_takes_weights_alone(target: str, bits: quantize.Bits) -> None:
    model, _ = wide_model()
    precision = f"int{bits}-weights"
    left = find_target(target).options(precision).float_ops
    kept = [layer.node for layer in quantize.layers(model) if layer.op in left]
    built = engine_of(quantize.quantize(model, None, kept, bits=bits), target, precision)
    assert built.spec.opset == (20 if bits == 8 else 21)
    smaller = sum(map(len, built.files.values()))
    plain = sum(map(len, engine_of(model, target, "fp32").files.values()))
    if target != "tensorrt-rtx":  # its plan is mostly kernels
        assert smaller < plain


def test_one_scale_for_a_whole_weight(toy) -> None:
    limits = limits_of(toy)
    model = quantize.quantize(toy.graph.model, limits, per_tensor=True)
    scales = {tuple(t.dims) for t in model.graph.initializer if t.name.endswith("/scale")}
    assert scales == {()}
    axes = [a for node in model.graph.node if "Linear" in node.op_type for a in node.attribute]
    assert not [a for a in axes if a.name == "axis"]
    inputs = toy.inputs.features[:16]
    assert 10 < quantize.output_ratio(toy.graph.model, model, inputs) < 60
    assert quantize.output_ratio(toy.graph.model, toy.graph.model, inputs) > 200
    for target in ("cpu-x86", "openvino-cpu", "tensorrt-rtx"):
        if importlib.util.find_spec({"tensorrt-rtx": "tensorrt_rtx"}.get(target, "openvino")) is not None:
            found = find_target(target)
            module, name = builders.builder(found)
            profile = found.profile(dict(toy.graph.profile), "int8")
            graph = toy.graph.with_model(model)
            built = module.build(builders.Request(graph, found, found.options("int8"), "int8", profile), name)
            assert all(built.files.values())


def test_corrected_biases_leave_no_mean_shift(toy) -> None:
    """Of each layer on the float activations; the head is a MatMul with its bias in an Add, as transformers have it."""
    for model, inputs in ((toy.graph.model, toy.inputs.features[:32]), biased_product()):
        names = dict.fromkeys(t for layer in quantize.layers(model) for t in layer.data)
        limits = calibrate.thresholds(calibrate.record(model, list(names), inputs), "minmax")
        coarse = {name: 4 * limit for name, limit in limits.items()}
        corrected, layers = quantize.correct_bias(model, coarse, inputs)
        assert set(layers) == {layer.node for layer in quantize.layers(model)}
        for layer in layers:
            others = [other for other in layers if other != layer]
            output = next(node.output[0] for node in model.graph.node if node.name == layer)
            reader = next((n for n in model.graph.node if n.op_type == "Add" and output in n.input), None)
            tensor = reader.output[0] if reader is not None else output
            shifts = []
            for candidate in (model, corrected_only(model, corrected, layer)):
                lossy = quantize.quantize(candidate, coarse, others)
                pair = Session(model, [tensor]), Session(lossy, [tensor])
                error = [pair[1].run(f)[tensor] - pair[0].run(f)[tensor] for f in inputs]
                axis = -1 if reader is not None or error[0].ndim == 2 else 1
                mean = np.moveaxis(np.concatenate(error), axis, -1).reshape(-1, error[0].shape[axis]).mean(0)
                shifts.append(float(np.abs(mean).max()))
            assert shifts[1] < 0.02 * shifts[0]
    kept_model, kept = quantize.correct_bias(
        toy.graph.model, limits_of(toy), toy.inputs.features[:4], ["dense"]
    )
    assert "dense" not in kept
    assert kept_model != toy.graph.model


def biased_product() -> tuple[onnx.ModelProto, list[tuple[np.ndarray, ...]]]:
    rng = np.random.default_rng(5)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"], "product"),
            helper.make_node("Add", ["b", "m"], ["y"], "bias"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 6])],
        [
            numpy_helper.from_array(rng.standard_normal((8, 6)).astype(np.float32), "w"),
            numpy_helper.from_array(rng.standard_normal(6).astype(np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model, [(rng.random((3, 8)).astype(np.float32),) for _ in range(8)]


def corrected_only(model: onnx.ModelProto, corrected: onnx.ModelProto, layer: str) -> onnx.ModelProto:
    """The float graph with the new bias of one layer."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    fresh = next(t for t in corrected.graph.initializer if t.name == f"{layer}/corrected_bias")
    result.graph.initializer.append(fresh)
    for node, new in zip(result.graph.node, corrected.graph.node, strict=True):
        if fresh.name in new.input:
            del node.input[:]
            node.input.extend(new.input)
    return result


def test_options_of_the_quantiser() -> None:
    assert quantize.check_options(["bias-correct", "equalize", "equalize"], "int8") == (
        "equalize",
        "bias-correct",
    )
    assert quantize.check_options([], "fp32") == ()
    with pytest.raises(
        TargetError, match="no option of the quantiser is called 'awq'; there are equalize, smooth"
    ):
        quantize.check_options(["awq"], "int8")
    with pytest.raises(TargetError, match="smooth: options of the int8 quantiser, int4-weights takes none"):
        quantize.check_options(["smooth"], "int4-weights")
