# SPDX-License-Identifier: Apache-2.0
"""Rescaling keeps the function bit for bit, whatever the graph, and evens ranges out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from zoo.export import calibrate, quantize, rewrites
from zoo.export.graph import Graph
from zoo.export.inputs import Features
from zoo.export.rescale import RULES, Rule, rescale, sites
from zoo.export.session import Session


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int],
    arrays: Mapping[str, np.ndarray],
    outputs: Sequence[str] = ("y",),
) -> Graph:
    """A graph with one input ``x``, and outputs of the shapes that inference finds."""
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    rewrites.strip(model)
    onnx.checker.check_model(model, full_check=True)
    return Graph(model, {}, (), (), {})


def noise(seed: int, *shape: int) -> np.ndarray:
    """Channels (the first axis) of very different size."""
    rng = np.random.default_rng(seed)
    spread = np.exp2(rng.integers(-6, 7, shape[0])).reshape(-1, *[1] * (len(shape) - 1))
    return (rng.standard_normal(shape) * spread).astype(np.float32)


def inputs_of(*shape: int, count: int = 4) -> list[Features]:
    return [(np.random.default_rng(100 + i).standard_normal(shape).astype(np.float32),) for i in range(count)]


def convolutions() -> tuple[Graph, list[Features]]:
    """Full, depthwise and transposed convolutions with what a factor passes through in between."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], "one", pads=[1, 1]),
        helper.make_node("Relu", ["a"], ["ar"], "relu"),
        helper.make_node("MaxPool", ["ar"], ["am"], "pool", kernel_shape=[2], strides=[2]),
        helper.make_node("Conv", ["am", "w2", "b2"], ["b"], "depthwise", group=6, pads=[1, 1]),
        helper.make_node("LeakyRelu", ["b"], ["bl"], "leaky", alpha=0.1),
        helper.make_node("Pad", ["bl", "pads"], ["bp"], "pad"),
        helper.make_node("ConvTranspose", ["bp", "w3"], ["c"], "up", strides=[2]),
        helper.make_node("Add", ["c", "shift"], ["cs"], "shift_by"),
        helper.make_node("Mul", ["cs", "scale"], ["cm"], "scale_by"),
        helper.make_node("Conv", ["cm", "w4"], ["y"], "last"),
    ]
    arrays = {
        "w1": noise(1, 6, 4, 3),
        "b1": noise(2, 6),
        "w2": noise(3, 6, 1, 3),
        "b2": noise(4, 6),
        "pads": np.array([0, 0, 2, 0, 0, 1]),
        "w3": noise(5, 6, 5, 2),
        "shift": noise(6, 5, 1),
        "scale": noise(7, 5, 1),
        "w4": noise(8, 3, 5, 1),
    }
    return graph_of(nodes, (4, 16), arrays), inputs_of(4, 16)


def transformer() -> tuple[Graph, list[Features]]:
    """A block of attention and a perceptron: a normalisation read by three products, a product behind a ReLU."""
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g", "gb"], ["n"], "norm", axis=-1),
        *(helper.make_node("MatMul", ["n", f"w{k}"], [k], k) for k in "qkv"),
        helper.make_node("Add", ["v", "vb"], ["vs"], "v_bias"),
        helper.make_node("Transpose", ["k"], ["kt"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"], "scores"),
        helper.make_node("Softmax", ["s"], ["p"], "softmax", axis=-1),
        helper.make_node("MatMul", ["p", "vs"], ["m"], "mix"),
        helper.make_node("Add", ["x", "m"], ["r"], "residual"),
        helper.make_node("LayerNormalization", ["r", "g2"], ["n2"], "norm2", axis=-1),
        helper.make_node("MatMul", ["n2", "up"], ["u"], "up"),
        helper.make_node("Add", ["ub", "u"], ["us"], "up_bias"),
        helper.make_node("Relu", ["us"], ["ur"], "relu"),
        helper.make_node("MatMul", ["ur", "down"], ["d"], "down"),
        helper.make_node("Add", ["r", "d"], ["y"], "residual2"),
    ]
    arrays = {
        "g": noise(1, 8),
        "gb": noise(2, 8),
        **{f"w{k}": noise(i, 8, 8) for i, k in enumerate("qkv", 3)},
        "vb": noise(6, 8),
        "g2": noise(7, 8),
        "up": noise(8, 8, 16),
        "ub": noise(9, 16),
        "down": noise(10, 16, 8),
    }
    return graph_of(nodes, (5, 8), arrays), inputs_of(5, 8)


def recurrent() -> tuple[Graph, list[Features]]:
    """Features projected into an LSTM, its state into a dense layer."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "project"),
        helper.make_node("Add", ["a", "b"], ["ab"], "bias"),
        helper.make_node("Relu", ["ab"], ["ar"], "relu"),
        helper.make_node("Transpose", ["ar"], ["steps"], "turn", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "lw", "lr", "lb"], ["", "last", ""], "lstm", hidden_size=4),
        helper.make_node("Squeeze", ["last", "axis"], ["state"], "squeeze"),
        helper.make_node("Gemm", ["state", "dw", "db"], ["h"], "hidden", transB=1),
        helper.make_node("Gemm", ["h", "ow"], ["y"], "out"),
    ]
    arrays = {
        "w": noise(1, 6, 7),
        "b": noise(2, 7),
        "lw": noise(3, 1, 16, 7) / 8,
        "lr": noise(4, 1, 16, 4) / 8,
        "lb": noise(5, 1, 32) / 8,
        "axis": np.array([0]),
        "dw": noise(6, 5, 4),
        "db": noise(7, 5),
        "ow": noise(8, 5, 3),
    }
    return graph_of(nodes, (9, 6), arrays), inputs_of(9, 6)


GRAPHS: Mapping[str, tuple[Callable[[], tuple[Graph, list[Features]]], list[str]]] = {
    "convolutions": (convolutions, ["a", "b", "c"]),
    # v is multiplied by an activation, q and k by one another, and the residuals have two makers.
    "transformer": (transformer, ["n", "n2", "u"]),
    "recurrent": (recurrent, ["a", "h"]),
}


def assert_same(graph: Graph, other: Graph, inputs: Sequence[Features]) -> None:
    before, after = Session(graph.model), Session(other.model)
    for features in inputs:
        expected, found = before.run(features), after.run(features)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("rule", RULES)
def test_the_function_stays_bit_for_bit(name: str, rule: Rule) -> None:
    make, expected = GRAPHS[name]
    graph, inputs = make()
    assert [site.tensor for site in sites(graph.model)] == expected
    changed = rescale(graph, rule, inputs)
    assert changed.model != graph.model
    assert [node.op_type for node in changed.model.graph.node] == [
        node.op_type for node in graph.model.graph.node
    ]
    assert_same(graph, changed, inputs)
    both = rescale(rescale(graph, "equalize"), "smooth", inputs)
    assert_same(graph, both, inputs)
    assert rescale(graph, rule, inputs).data == changed.data


CHAIN = st.lists(
    st.sampled_from(["conv", "relu", "leaky", "pool", "average", "pad", "add", "mul", "sigmoid", "split"]),
    min_size=1,
    max_size=10,
)


@settings(max_examples=40)
@given(chain=CHAIN, seed=st.integers(0, 1000), output_inside=st.booleans())
def test_any_chain_stays_bit_for_bit(chain: list[str], seed: int, output_inside: bool) -> None:
    """Whatever lies between two layers: passed through exactly, or left alone."""
    nodes = [helper.make_node("Conv", ["x", "first"], ["t"], "first", pads=[1, 1])]
    arrays = {"first": noise(seed, 4, 4, 3), "pads": np.array([0, 0, 1, 0, 0, 1])}
    tensor = "t"
    for i, kind in enumerate(chain):
        name, out = f"n{i}", f"t{i}"
        simple = {"relu": "Relu", "leaky": "LeakyRelu", "sigmoid": "Sigmoid"}
        if kind in simple:
            nodes.append(helper.make_node(simple[kind], [tensor], [out], name))
        elif kind in ("pool", "average"):
            op = "MaxPool" if kind == "pool" else "AveragePool"
            nodes.append(helper.make_node(op, [tensor], [out], name, kernel_shape=[2]))
        elif kind == "pad":
            nodes.append(helper.make_node("Pad", [tensor, "pads"], [out], name))
        elif kind == "split":  # two readers, one of them a sum of activations
            nodes.append(helper.make_node("Relu", [tensor], [f"{out}r"], f"{name}r"))
            nodes.append(helper.make_node("Add", [tensor, f"{out}r"], [out], name))
        else:
            shape = (4, 4, 1) if kind == "conv" else (4, 1) if (seed + i) % 2 else (1,)
            arrays[f"c{i}"] = noise(seed + i + 1, *shape)
            op = {"conv": "Conv", "add": "Add", "mul": "Mul"}[kind]
            nodes.append(helper.make_node(op, [tensor, f"c{i}"], [out], name))
        tensor = out
    arrays["last"] = noise(seed + 50, 3, 4, 1)
    nodes.append(helper.make_node("Conv", [tensor, "last"], ["y"], "last"))
    graph = graph_of(nodes, (4, 24), arrays, ("y", tensor) if output_inside else ("y",))
    inputs = inputs_of(4, 24, count=2)
    for rule in RULES:
        assert_same(graph, rescale(graph, rule, inputs), inputs)


def constant(graph: Graph, node: str, index: int) -> np.ndarray:
    found = next(n for n in graph.model.graph.node if n.name == node)
    tensor = next(t for t in graph.model.graph.initializer if t.name == found.input[index])
    return np.array(numpy_helper.to_array(tensor))


def test_equalize_makes_both_sides_equally_large() -> None:
    graph, _ = convolutions()
    changed = rescale(graph, "equalize")
    made = np.abs(constant(changed, "up", 1)).max((0, 2))
    read = np.abs(constant(changed, "last", 1)).max((0, 2))
    before = np.abs(constant(graph, "up", 1)).max((0, 2)) / np.abs(constant(graph, "last", 1)).max((0, 2))
    assert np.abs(np.log2(before)).max() > 3
    assert np.abs(np.log2(made / read)).max() <= 1 + 1e-6  # factors are powers of two


def test_smooth_moves_what_is_large_into_the_weights() -> None:
    graph, inputs = transformer()
    changed = rescale(graph, "smooth", inputs)

    def spread(of: Graph, tensor: str) -> float:
        session = Session(of.model, [tensor])
        largest = np.max([np.abs(session.run(f)[tensor]).max((0, 1)) for f in inputs], axis=0)
        return float(largest.max() / largest.min())

    assert spread(changed, "n") < spread(graph, "n") / 4


def test_int8_loses_less_after_it() -> None:
    """What it is for: channels of very different size, which one scale for a tensor cannot serve."""
    for make, rule, per_tensor in ((transformer, "smooth", False), (convolutions, "equalize", True)):
        graph, inputs = make()
        ratios = []
        for candidate in (graph, rescale(graph, rule, inputs)):  # type: ignore[arg-type]
            names = dict.fromkeys(t for layer in quantize.layers(candidate.model) for t in layer.data)
            limits = calibrate.thresholds(calibrate.record(candidate.model, list(names), inputs), "minmax")
            lossy = quantize.quantize(candidate.model, limits, per_tensor=per_tensor)
            ratios.append(quantize.output_ratio(graph.model, lossy, inputs))
        assert ratios[1] > ratios[0] + 1  # decibels


def test_a_weight_that_two_layers_share_is_not_spoiled() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "one"),
        helper.make_node("Relu", ["a"], ["ar"], "relu"),
        helper.make_node("MatMul", ["ar", "w"], ["y"], "two"),
    ]
    graph = graph_of(nodes, (3, 6), {"w": noise(3, 6, 6).T.copy()})
    changed = rescale(graph, "equalize")
    assert changed.model != graph.model
    assert_same(graph, changed, inputs_of(3, 6))
    assert len(changed.model.graph.initializer) == 2


def test_modules_are_forgotten_where_their_tensor_changed(toy) -> None:
    changed = rescale(toy.graph, "equalize")
    assert set(changed.modules) < set(toy.graph.modules)
    assert_same(toy.graph, changed, toy.inputs.features[:4])
