# SPDX-License-Identifier: Apache-2.0
"""The graph that onnxruntime computes in integers: which kernels it takes, what is rounded, and what stays in float."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.data import open_dataset
from zoo.errors import ZooError
from zoo.export import calibrate, placement, quantize
from zoo.export.exporter import Exporter
from zoo.export.gate import run_gate
from zoo.export.session import Session
from zoo.export.targets import find_target, load_targets
from zoo.export.weights import load_folds
from zoo.runtime.engines import onnxruntime as engine
from zoo.runtime.engines.onnxruntime import saturates


def limits_of(model: onnx.ModelProto, inputs) -> dict[str, float]:
    names = quantize.ranged(model, outputs=True)
    return calibrate.thresholds(calibrate.record(model, names, inputs), "minmax", placement.positive(model))


def array(model: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def kernels(model: onnx.ModelProto, path: Path) -> list[str]:
    """Operators that onnxruntime really runs."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(path).graph.node]


def net(*nodes: tuple[str, str, str], channels: int = 4, bias: np.ndarray | None = None) -> onnx.ModelProto:
    """Conv c1 from x to c, then (operator, inputs, output) each; the last one's output is y."""
    rng = np.random.default_rng(0)
    arrays = {
        "w1": rng.standard_normal((6, channels, 3, 3)) / 6,
        "b1": rng.standard_normal(6) if bias is None else bias,
        "w2": rng.standard_normal((5, 6, 3, 3)) / 7,
        "b2": rng.standard_normal(5),
    }
    made = [helper.make_node("Conv", ["x", "w1", "b1"], ["c"], "c1", pads=[1, 1, 1, 1])]
    for op, inputs, output in nodes:
        attributes = {"kernel_shape": [2, 2], "strides": [2, 2]} if op == "MaxPool" else {}
        name = "c2" if op == "Conv" else output
        made.append(helper.make_node(op, inputs.split(), [output], name, **attributes))
    graph = helper.make_graph(
        made,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, None, None, None])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    return model


def inputs_of(channels: int = 4) -> list[tuple[np.ndarray]]:
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((channels, 8, 8)).astype(np.float32),) for _ in range(4)]


POOLED = (("Relu", "c", "r"), ("MaxPool", "r", "p"), ("Conv", "p w2 b2", "d"), ("Sigmoid", "d", "y"))


def test_convolutions_and_the_dense_layer_become_integer_kernels(toy, tmp_path: Path) -> None:
    limits = limits_of(toy.graph.model, toy.inputs.features)
    plain = quantize.quantize(toy.graph.model, limits)
    assert not {"QLinearConv", "QGemm"} & set(kernels(plain, tmp_path / "plain.onnx"))
    model = quantize.quantize(toy.graph.model, limits, outputs=True)
    found = kernels(model, tmp_path / "model.onnx")
    assert found.count("QLinearConv") == 2
    assert found.count("QGemm") == 1
    assert not {"Conv", "FusedConv", "Gemm", "Relu"} & set(found)
    ratios = [quantize.output_ratio(toy.graph.model, made, toy.inputs.features) for made in (plain, model)]
    assert ratios[1] > ratios[0] - 2  # one tensor more is rounded, two others to 255 steps in place of 127


def test_scales_follow_from_the_limits(toy) -> None:
    graph = toy.graph.model
    limits = limits_of(graph, toy.inputs.features)
    model = quantize.quantize(graph, limits, outputs=True)
    positive = placement.positive(graph)
    places = placement.outputs(graph, quantize.layers(graph))
    assert list(places) == ["conv1", "conv2"]
    assert set(places.values()) <= positive  # each ends in its Relu
    for tensor, limit in limits.items():
        unsigned = tensor in positive
        assert array(model, f"{tensor}/scale") == np.float32(limit / (255 if unsigned else 127))
        zero = array(model, f"{tensor}/zero")
        assert (zero.dtype, int(zero)) == (np.uint8, 0 if unsigned else 128)
    for node in graph.graph.node:
        if node.name in ("conv1", "conv2", "dense"):
            data, weight = (array(model, f"{name}/scale") for name in node.input[:2])
            assert np.array_equal(array(model, f"{node.name}/bias/scale"), data * weight)
            bias = array(model, f"{node.name}/bias/q")
            assert bias.dtype == np.int32
            assert np.allclose(
                bias * (data * weight), array(graph, node.input[2]), atol=(data * weight).max()
            )
    assert quantize.quantize(graph, limits, outputs=True) == model


def test_pooling_selects_among_integers_without_another_rounding(tmp_path: Path) -> None:
    model, inputs = net(*POOLED), inputs_of()
    limits = limits_of(model, inputs) | {"p": 123.0}  # its own range does not matter
    made = quantize.quantize(model, limits, outputs=True)
    assert array(made, "p/scale") == array(made, "r/scale")
    session = Session(made, ["r/dq", "p/dq"], optimize=False)
    for features in inputs:
        values = session.run(features)
        pooled = values["r/dq"].reshape(1, 6, 4, 2, 4, 2).max((3, 5))
        assert np.array_equal(values["p/dq"], pooled)
    assert "Conv" not in kernels(made, tmp_path / "made.onnx")


def test_a_layer_in_float_reads_and_writes_float() -> None:
    model, inputs = net(*POOLED[:1], ("Conv", "r w2 b2", "d"), ("Sigmoid", "d", "y")), inputs_of()
    every = quantize.layers(model)
    assert placement.outputs(model, every) == {"c1": "r", "c2": "d"}
    # Nobody but c2 reads r, and c2 rounds it anyway.
    assert placement.rounded(model, every) == {"c2": "d"}
    assert placement.outputs(model, every, ["c2"]) == {}
    assert placement.outputs(model, every, ["c1"]) == {"c2": "d"}
    assert placement.outputs(model, every, ["output of c2"]) == {"c1": "r"}
    made = quantize.quantize(model, limits_of(model, inputs), ["output of c2"], outputs=True)
    nodes = {node.name: node for node in made.graph.node}
    assert nodes["y"].input == ["d"]
    assert nodes["c2"].input == ["r/dq", "w2/dq", "b2"]
    with pytest.raises(ZooError, match="layers to keep in float are not in the graph: output of c9"):
        quantize.quantize(model, limits_of(model, inputs), ["output of c9"], outputs=True)
    with pytest.raises(ZooError, match="no calibration range for d"):
        quantize.quantize(model, {"x": 1.0, "r": 1.0}, outputs=True)


def test_the_graphs_own_output_is_never_rounded() -> None:
    model = net(("Relu", "c", "y"))
    assert placement.outputs(model, quantize.layers(model)) == {}
    assert set(limits_of(model, inputs_of())) == {"x"}


def test_a_bias_that_dwarfs_its_weights_still_fits() -> None:
    """Folding a batch normalisation leaves channels of no weight and a bias, which int32 steps of theirs could not hold."""
    model, inputs = net(("Relu", "c", "r"), ("Sigmoid", "r", "y"), bias=np.full(6, 0.37)), inputs_of()
    weight = np.array(array(model, "w1"))
    weight[0] = 0
    weight[1] *= 1e-13
    for tensor in model.graph.initializer:
        if tensor.name == "w1":
            tensor.CopyFrom(numpy_helper.from_array(weight, "w1"))
    limits = limits_of(model, inputs)
    made = quantize.quantize(model, limits, outputs=True)
    bias = array(made, "c1/bias/q") * array(made, "c1/bias/scale").astype(np.float64)
    assert np.allclose(bias[:2], 0.37, rtol=1e-6)
    assert np.allclose(bias, 0.37, rtol=1e-3)
    found = Session(made, ["c"], optimize=False).run(inputs[0])["c"][0]
    assert np.allclose(found[:2], 0.37, atol=1e-5)
    for per_tensor in (False, True):
        again = quantize.quantize(model, limits, outputs=True, per_tensor=per_tensor)
        assert quantize.output_ratio(model, again, inputs) > 30


def test_thin_convolutions_are_named() -> None:
    assert placement.thin(net(*POOLED, channels=3)) == ["c1"]
    assert placement.thin(net(*POOLED)) == []
    grouped = net(*POOLED)
    for node in grouped.graph.node:
        if node.name == "c1":
            node.attribute.append(helper.make_attribute("group", 4))
    for tensor in grouped.graph.initializer:
        if tensor.name == "w1":
            tensor.CopyFrom(numpy_helper.from_array(array(grouped, "w1")[:4, :1].copy(), "w1"))
    assert placement.thin(grouped) == []


def waveform(*, channels: int = 1, group: int = 1, first: str = "Unsqueeze") -> onnx.ModelProto:
    """A convolution over samples, and one over what it gives."""
    rng = np.random.default_rng(3)
    arrays = {
        "axes": np.array([1], np.int64),
        "w1": rng.standard_normal((6, channels // group, 5)).astype(np.float32),
        "w2": rng.standard_normal((5, 6, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node(first, ["x", "axes"] if first == "Unsqueeze" else ["x"], ["signal"], "first"),
        helper.make_node("Conv", ["signal", "w1"], ["c"], "c1", group=group),
        helper.make_node("Conv", ["c", "w2"], ["y"], "c2"),
    ]
    shape = ["n", 40] if first == "Unsqueeze" else ["n", channels, 40]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5, "t"])],
        [numpy_helper.from_array(value, name) for name, value in arrays.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_convolutions_over_raw_samples_are_named() -> None:
    assert placement.raw(waveform()) == ["c1"]
    assert placement.raw(waveform(first="Relu")) == []  # no longer the samples themselves
    assert placement.raw(waveform(channels=2, first="Transpose")) == []
    assert placement.raw(net(*POOLED, channels=1)) == []  # an image


def test_quiet_samples_survive_where_the_convolution_over_them_stays_in_float() -> None:
    """A loud passage sets the scale: 8 bits leave nothing of a quiet one."""
    model = waveform()
    quiet = np.random.default_rng(4).standard_normal(40).astype(np.float32) * 1e-3
    limits = limits_of(model, [(quiet,)]) | {"signal": 1.0}
    kept = quantize.quantize(model, limits, placement.raw(model), outputs=False)
    whole = quantize.quantize(model, limits, outputs=False)
    inputs = [(quiet,)]
    assert quantize.output_ratio(model, kept, inputs) > quantize.output_ratio(model, whole, inputs) + 10


def test_only_onnxruntimes_cpu_targets_ask_for_it() -> None:
    asking = {
        name
        for name, target in load_targets().items()
        if any(options.quantize_outputs for options in target.precisions.values())
    }
    assert asking == {"cpu-arm64", "cpu-x86"}


def exporter(toy, name: str) -> Exporter:
    variant = toy.card.variant(name)
    dataset = open_dataset(toy.card, variant.data, toy.data)
    return Exporter(toy.card, variant, find_target("cpu-x86"), None, dataset, "minmax", 0.005, None)


def test_the_gate_returns_outputs_before_layers(toy) -> None:
    made = exporter(toy, "toy-outlier")
    assert made.dataset is not None
    folds = load_folds(made.card, made.variant)
    result = run_gate(made.card, made.recipe("int8"), made.dataset, folds, budget=0.005)
    # conv2's output is read by the float Mul; conv1's only by conv2, which rounds it anyway.
    assert result.kept == ("conv2", "output of conv2")
    assert [count for count, _ in result.tried] == [0, 1, 2]
    manifest, _ = made.bundle(made.cell("int8", result))
    assert manifest.engines[0].kept == result.kept
    assert any(note.startswith("1 outputs and 1 layers stay in fp32") for note in manifest.notes)


def test_ranges_learned_with_the_weights_get_the_pairs_they_were_learned_with(toy) -> None:
    made = exporter(toy, "toy")
    assert made.recipe("int8").outputs
    learned = made.recipe("int8", learned=True)
    assert not learned.outputs
    assert not learned.with_precision("int8").outputs
    other = copy.copy(made)
    other.weights = copy.copy(made.weights)
    object.__setattr__(other.weights, "limits", {"features": 1.0})
    assert not other.recipe("int8").outputs


def test_kernels_that_overflow_are_told_by_the_cpu() -> None:
    assert saturates("x86_64", "flags : fpu avx2 avx512f")
    assert saturates("AMD64", "")
    assert not saturates("x86_64", "flags : fpu avx2 avx512f avx512_vnni")
    assert not saturates("x86_64", "flags : avx2 avx_vnni")
    assert not saturates("aarch64", "Features : asimddp")


def test_uint8_by_int8_is_exact_in_the_runtime(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the remedy the engine computes the same integers where the CPU needs none."""
    made = exporter(toy, "toy")
    recipe = made.recipe("int8")
    lowered = made.lower(recipe, ())
    usual = recipe.runner(lowered)
    monkeypatch.setattr(engine, "saturates", lambda architecture, info: True)
    remedied = recipe.runner(lowered)
    exact = Session(lowered.graph.model, optimize=False)
    for features in made.inputs.features[:8]:
        wanted = exact.run(features)["probs"]
        assert np.abs(remedied(features)["probs"] - wanted).max() < 0.02
        assert np.abs(usual(features)["probs"] - wanted).max() < 0.02
