# SPDX-License-Identifier: Apache-2.0
"""Graph rewrites, all in one place, each exact unless it says otherwise, and each with a test. They change the model in place."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

#: Operators that only move values about.
_MOVES = ("Concat", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
#: Operators that compute from constants what a layer could as well be given, such as a weight from direction and gain.
_COMPUTES = ("Abs", "Add", "Div", "Mul", "Neg", "Pow", "Reciprocal", "ReduceL2", "ReduceSum", "Sqrt", "Sub")
_SCOPES = "pkg.torch.onnx.name_scopes"
#: Domain of the operators that onnxruntime has beyond ONNX.
_ONNXRUNTIME = "com.microsoft"


def fold_batch_norm(model: onnx.ModelProto) -> int:
    """Fold each BatchNormalization into the Conv, ConvTranspose or Gemm before it; returns how many.

    Computed in float64 and rounded once. A normalisation stays where the layer's output has another reader,
    its weights are not constants, or a ConvTranspose has groups.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    folded = 0
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        layer = producers.get(norm.input[0])
        axis = None if layer is None else _channel_axis(layer)
        if layer is None or axis is None or readers[norm.input[0]] != 1:
            continue
        names = [*norm.input[1:5], *layer.input[1:]]
        if any(name not in constants for name in names) or any(norm.output[1:]) or len(layer.output) != 1:
            continue
        scale, shift, mean, var = (_array(constants[name]).astype(np.float64) for name in norm.input[1:5])
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(var + epsilon)
        weight = _array(constants[layer.input[1]])
        bias = (
            _array(constants[layer.input[2]]) if len(layer.input) > 2 else np.zeros(len(factor), weight.dtype)
        )
        shape = [1] * weight.ndim
        shape[axis] = -1
        # New names: another layer may share the old weights.
        fresh_weight, fresh_bias = f"{layer.input[1]}.folded", f"{layer.input[1]}.folded_bias"
        if fresh_weight in constants:
            continue
        for name, value in (
            (fresh_weight, weight.astype(np.float64) * factor.reshape(shape)),
            (fresh_bias, shift + (bias.astype(np.float64) - mean) * factor),
        ):
            tensor = numpy_helper.from_array(value.astype(weight.dtype), name)
            constants[name] = tensor
            graph.initializer.append(tensor)
        layer.input[1:] = [fresh_weight, fresh_bias]
        layer.output[0] = norm.output[0]
        del layer.metadata_props[:]
        layer.metadata_props.extend(norm.metadata_props)  # the layer now ends where the normalisation did
        producers[norm.output[0]] = layer
        graph.node.remove(norm)
        folded += 1
    drop_unused(model)
    return folded


def fold_weights(model: onnx.ModelProto) -> int:
    """Compute what only moves constants about, so that layers read their weights directly; returns how many nodes.

    torch hands an LSTM its weights through Slice, Concat and Unsqueeze, and some dense layers through Transpose; its own
    optimiser folds small ones only. The quantiser finds weights among the constants. Left alone is what would store a
    constant twice, since a node that computes reads it too.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    computed = {
        name for node in graph.node if node.op_type not in _MOVES or node.domain for name in node.input
    }
    computed.update(output.name for output in graph.output)
    sources = computed & set(constants)
    folded = 0
    for node in list(graph.node):
        moved = node.op_type in _MOVES and not node.domain and len(node.output) == 1
        if not moved or any(name and name not in constants for name in node.input):
            continue
        if node.input[0] in sources or node.output[0] in {output.name for output in graph.output}:
            continue
        feeds = {name: _array(constants[name]) for name in node.input if name}
        (value,) = ReferenceEvaluator(node).run(None, feeds)
        tensor = numpy_helper.from_array(np.ascontiguousarray(value), node.output[0])
        constants[tensor.name] = tensor
        graph.initializer.append(tensor)
        graph.node.remove(node)
        folded += 1
    drop_unused(model)
    return folded


def fold_arithmetic(model: onnx.ModelProto) -> int:
    """Compute what follows from float constants alone and is not larger than they are; returns how many nodes.

    torch's own optimiser folds small ones only. A weight norm left in the graph is computed in each run, and the
    quantiser does not find the weight.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {output.name for output in graph.output}
    folded = []
    for node in graph.node:
        if node.op_type not in _COMPUTES or node.domain or len(node.output) != 1 or node.output[0] in outputs:
            continue
        if any(name and name not in constants for name in node.input):
            continue
        feeds = {name: _array(constants[name]) for name in node.input if name}
        (result,) = ReferenceEvaluator(node).run(None, feeds)
        value = np.asarray(result)
        if value.dtype.kind != "f" or value.size > max(array.size for array in feeds.values()):
            continue
        tensor = numpy_helper.from_array(np.ascontiguousarray(value), node.output[0])
        constants[tensor.name] = tensor
        graph.initializer.append(tensor)
        folded.append(node)
    for node in folded:
        graph.node.remove(node)
    if folded:
        drop_unused(model)
    return len(folded)


def plain_matrix_products(model: onnx.ModelProto) -> int:
    """Replace each float32 MatMul, Gemm and Einsum by operators that are no matrix product; returns how many.

    With a constant matrix it becomes a convolution with a kernel of one; otherwise an elementwise product that is summed,
    which needs memory for the product where the engine does not fuse the two. Left as they are: vectors, more than five
    dimensions, a Gemm with factors or a transposed input, an Einsum of other than two operands or with a diagonal.
    """
    typed = onnx.shape_inference.infer_shapes(model).graph
    values = {
        value.name: value.type.tensor_type for value in (*typed.value_info, *typed.input, *typed.output)
    }
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    rewriter = _MatrixProducts(
        model.graph,
        {name: len(kind.shape.dim) for name, kind in values.items() if kind.HasField("shape")}
        | {name: len(tensor.dims) for name, tensor in constants.items()},
        {name for name, kind in values.items() if kind.elem_type == onnx.TensorProto.FLOAT}
        | {name for name, tensor in constants.items() if tensor.data_type == onnx.TensorProto.FLOAT},
        constants,
    )
    return rewriter.run(model)


class _MatrixProducts:
    """One graph's rewriting: new nodes in order, and what was made before for the same tensor."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        ranks: dict[str, int],
        floats: set[str],
        constants: dict[str, onnx.TensorProto],
    ) -> None:
        self.graph, self.ranks, self.floats, self.constants = graph, ranks, floats, constants
        self.nodes: list[onnx.NodeProto] = []
        self.made: dict[tuple[object, ...], str] = {}

    def run(self, model: onnx.ModelProto) -> int:
        done = 0
        for node in list(self.graph.node):
            replaced = self._replace(node) if node.op_type in ("MatMul", "Gemm", "Einsum") else False
            done += replaced
            if not replaced:
                self.nodes.append(node)
        _replace_nodes(self.graph, self.nodes)
        drop_unused(model)
        return done

    def _replace(self, node: onnx.NodeProto) -> bool:
        first, second = node.input[0], node.input[1] if len(node.input) > 1 else ""
        if not {first, second} <= self.floats or not {first, second} <= set(self.ranks):
            return False
        if node.op_type == "Einsum":
            return self._einsum(node)
        matrix = second in self.constants and self.ranks[second] == 2 and first not in self.constants
        if matrix and self._convolution(node):
            return True
        if node.op_type == "Gemm" or min(self.ranks[first], self.ranks[second]) < 2:
            return False
        left = self._node("Unsqueeze", [first, self._ints(-1)], node, "left")
        right = self._node("Unsqueeze", [second, self._ints(-3)], node, "right")
        self._sum(node, left, right, [-2])
        return True

    def _convolution(self, node: onnx.NodeProto) -> bool:
        attributes = {a.name: a for a in node.attribute}
        rank = self.ranks[node.input[0]]
        plain = all(attributes[name].f == 1.0 for name in ("alpha", "beta") if name in attributes)
        transposed = "transA" in attributes and attributes["transA"].i
        bias = list(node.input[2:3]) if len(node.input) > 2 and node.input[2] else []
        if not plain or transposed or not 2 <= rank <= 5:
            return False
        if any(name not in self.constants or self.ranks[name] != 1 for name in bias):
            return False
        matrix = _array(self.constants[node.input[1]])
        if not ("transB" in attributes and attributes["transB"].i):
            matrix = matrix.T
        if bias and self.constants[bias[0]].dims[0] != matrix.shape[0]:
            return False
        weight = self._constant(
            f"{node.input[1]}.kernel", matrix.reshape(*matrix.shape, *[1] * max(rank - 2, 1))
        )
        if rank == 2:
            spread = self._node("Unsqueeze", [node.input[0], self._ints(2)], node, "in")
            result = self._fresh(node, "out")
            self._append("Conv", [spread, weight, *bias], [result], node.name, node)
            self._append("Squeeze", [result, self._ints(2)], list(node.output), f"{node.name}/last", node)
            return True
        forth = [0, rank - 1, *range(1, rank - 1)]
        back = [0, *range(2, rank), 1]
        channels = self._node("Transpose", [node.input[0]], node, "in", perm=forth)
        result = self._fresh(node, "out")
        self._append("Conv", [channels, weight, *bias], [result], node.name, node)
        self._append("Transpose", [result], list(node.output), f"{node.name}/last", node, perm=back)
        return True

    def _einsum(self, node: onnx.NodeProto) -> bool:
        equation = next(a.s for a in node.attribute if a.name == "equation").decode().replace(" ", "")
        terms, arrow, wanted = equation.partition("->")
        operands = terms.split(",")
        simple = all(len(set(term)) == len(term) and term.isalpha() for term in operands)
        if len(node.input) != 2 or len(operands) != 2 or not arrow or not simple:
            return False
        summed = [label for label in dict.fromkeys("".join(operands)) if label not in wanted]
        order = [*wanted, *summed]
        aligned = []
        for side, name, term in zip(("left", "right"), node.input, operands, strict=True):
            perm = sorted(range(len(term)), key=lambda axis, t=term: order.index(t[axis]))  # type: ignore[misc]
            missing = [axis for axis, label in enumerate(order) if label not in term]
            turned = self._node("Transpose", [name], node, f"{side}_turned", perm=perm)
            aligned.append(
                self._node("Unsqueeze", [turned, self._ints(*missing)], node, side) if missing else turned
            )
        self._sum(node, aligned[0], aligned[1], list(range(len(wanted), len(order))))
        return True

    def _sum(self, node: onnx.NodeProto, left: str, right: str, axes: list[int]) -> None:
        if not axes:
            self._append("Mul", [left, right], list(node.output), node.name, node)
            return
        product = self._fresh(node, "product")
        self._append("Mul", [left, right], [product], f"{node.name}/product", node)
        self._append(
            "ReduceSum", [product, self._ints(*axes)], list(node.output), node.name, node, keepdims=0
        )

    def _node(
        self, op: str, inputs: list[str], origin: onnx.NodeProto, suffix: str, **attributes: Any
    ) -> str:
        """Made once: nodes that read the same tensor share it, so that it is also quantised once."""
        key = (op, *inputs, *(tuple(value) for value in attributes.values()))
        if key not in self.made:
            self.made[key] = self._fresh(origin, suffix)
            self._append(op, inputs, [self.made[key]], f"{origin.name}/{suffix}", origin, **attributes)
        return self.made[key]

    def _append(
        self,
        op: str,
        inputs: list[str],
        outputs: list[str],
        name: str,
        origin: onnx.NodeProto,
        **attributes: Any,
    ) -> None:
        node = helper.make_node(op, inputs, outputs, name, **attributes)
        node.metadata_props.extend(origin.metadata_props)
        self.nodes.append(node)

    def _fresh(self, node: onnx.NodeProto, suffix: str) -> str:
        return f"{node.output[0]}/{suffix}"

    def _ints(self, *axes: int) -> str:
        return self._constant("axes_" + "_".join(str(axis) for axis in axes), np.array(axes, np.int64))

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        key = ("constant", name, value.shape)
        if key not in self.made:
            taken = name if name not in self.constants else f"{name}_{value.ndim}"
            self.made[key] = taken
            tensor = numpy_helper.from_array(np.ascontiguousarray(value), taken)
            self.constants[taken] = tensor
            self.graph.initializer.append(tensor)
        return self.made[key]


def drop_zero_states(model: onnx.ModelProto) -> int:
    """Take initial states that are zero off recurrent nodes, whose default they are; returns how many.

    torch makes them with ConstantOfShape for the batch at hand, always in float32, which fp16 graphs do not take.
    """
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}

    def zero(name: str) -> bool:
        node = producers.get(name)
        while node is not None and node.op_type in ("Slice", "Expand", "Identity", "Unsqueeze", "Squeeze"):
            node = producers.get(node.input[0])
        if node is None or node.op_type != "ConstantOfShape":
            return False
        return all(not _array(attribute.t).any() for attribute in node.attribute if attribute.name == "value")

    done = 0
    for node in graph.node:
        if node.op_type not in ("GRU", "LSTM", "RNN"):
            continue
        for index in (5, 6):
            if index < len(node.input) and node.input[index] and zero(node.input[index]):
                node.input[index] = ""
                done += 1
        while node.input and not node.input[-1]:
            del node.input[-1]
    if done:
        _drop_dead_nodes(graph)
        drop_unused(model)
    return done


def squeeze_directions(model: onnx.ModelProto) -> int:
    """Take the axis of directions off recurrent nodes of one direction in one step; returns how many.

    torch hands their output on through a Transpose and a Reshape to a shape that nine nodes compute: a third of the nodes of a
    recurrent network, which take time in every run. The shape is tried out before it is replaced.
    """
    graph = model.graph
    readers = readers_of(model)
    outputs = {value.name for value in graph.output}
    squeezed: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        if node.op_type not in ("GRU", "LSTM", "RNN") or not node.output[0]:
            continue
        if any(a.name == "direction" and a.s == b"bidirectional" for a in node.attribute):
            continue
        turned = [reader for reader, _ in readers.get(node.output[0], [])]
        if len(turned) != 1 or turned[0].op_type != "Transpose" or node.output[0] in outputs:
            continue
        if list(turned[0].attribute[0].ints) != [0, 2, 1, 3]:
            continue
        shaped = [reader for reader, index in readers.get(turned[0].output[0], []) if index == 0]
        reshape = next((reader for reader in shaped if reader.op_type == "Reshape"), None)
        if reshape is not None and _drops_third(graph, turned[0].output[0], reshape):
            squeezed[reshape.name] = node
    if not squeezed:
        return 0
    axis = "recurrent/directions"
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), axis))
    nodes = [
        helper.make_node("Squeeze", [squeezed[node.name].output[0], axis], list(node.output), node.name)
        if node.name in squeezed
        else node
        for node in graph.node
    ]
    _replace_nodes(graph, nodes)
    _drop_dead_nodes(graph)
    drop_unused(model)
    return len(squeezed)


def _drops_third(graph: onnx.GraphProto, data: str, reshape: onnx.NodeProto) -> bool:
    """Whether a Reshape of ``data`` (a, b, 1, c) gives (a, b, c), by running what computes its shape on some of them."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    nodes: list[onnx.NodeProto] = []
    read: set[str] = set()
    waiting = [reshape.input[1]]
    while waiting:
        name = waiting.pop()
        if name == data or name in constants or name in read:
            continue
        read.add(name)
        if name not in producers:
            return False  # it depends on an input of the graph
        node = producers[name]
        nodes.append(node)
        waiting += node.input
    order = {node.name: place for place, node in enumerate(graph.node)}
    nodes.sort(key=lambda node: order[node.name])
    probe = helper.make_model(
        helper.make_graph(
            [*nodes, reshape],
            "probe",
            [helper.make_tensor_value_info(data, onnx.TensorProto.FLOAT, None)],
            [helper.make_tensor_value_info(reshape.output[0], onnx.TensorProto.FLOAT, None)],
            [
                constants[n]
                for n in dict.fromkeys(i for x in (*nodes, reshape) for i in x.input)
                if n in constants
            ],
        )
    )
    runner = ReferenceEvaluator(probe)
    for shape in ((5, 2, 1, 3), (1, 7, 1, 4), (6, 1, 1, 2)):
        given = np.zeros(shape, np.float32)
        (found,) = runner.run(None, {data: given})
        if np.shape(found) != (*shape[:2], shape[3]):
            return False
    return True


def shield_recurrent(model: onnx.ModelProto) -> int:
    """Keep quantisation out of the loops of recurrent nodes; returns how many were changed.

    Weights become the float32 constants that their DequantizeLinear gives, and an Identity holds the one of the data back.
    TensorRT-RTX 1.7 moves both into the loop, where it computes in float32 all the same, and then fails on a step's shape.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    dequantized = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    nodes: list[onnx.NodeProto] = []
    done = 0
    for node in graph.node:
        sources = {index: dequantized.get(name) for index, name in enumerate(node.input[:3])}
        found = {index: source for index, source in sources.items() if source is not None}
        if node.op_type in ("GRU", "LSTM", "RNN") and found:
            for index, source in found.items():
                if index == 0:
                    nodes.append(
                        helper.make_node(
                            "Identity", [node.input[0]], [f"{node.name}/data"], f"{node.name}/shield"
                        )
                    )
                    node.input[0] = f"{node.name}/data"
                elif all(name in constants for name in source.input):
                    name = f"{source.output[0]}/float"
                    if name not in constants:
                        value = _dequantize(source, constants)
                        constants[name] = numpy_helper.from_array(value, name)
                        graph.initializer.append(constants[name])
                    node.input[index] = name
            done += 1
        nodes.append(node)
    read = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    _replace_nodes(graph, [n for n in nodes if n.op_type != "DequantizeLinear" or n.output[0] in read])
    drop_unused(model)
    return done


def integer_lstms(model: onnx.ModelProto) -> int:
    """Hand each LSTM with int8 weights to onnxruntime's own integer operator; returns how many.

    Between Q/DQ pairs onnxruntime computes an LSTM in float. Its DynamicQuantizeLSTM takes the same integers and scales, and
    rounds its data and each step's state to 8 bits by their range at hand, so the data needs no fixed range. That is the range
    of the whole batch (:func:`mixes_batch`).
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    done = 0
    for node in graph.node:
        if node.op_type != "LSTM" or node.domain or any(a.name == "layout" and a.i for a in node.attribute):
            continue
        weights = [producers.get(name) for name in node.input[1:3]]
        taken = [_integers(weight, constants) for weight in weights]
        if any(found is None for found in taken):
            continue
        scales: list[str] = []
        for index, found in enumerate(taken):
            assert found is not None
            values, scale = found
            name = f"{node.name}/{'wr'[index]}"
            parts = {"integers": values, "scale": scale, "zero": np.zeros_like(scale, np.int8)}
            graph.initializer.extend(
                numpy_helper.from_array(np.ascontiguousarray(part), f"{name}/{what}")
                for what, part in parts.items()
            )
            node.input[1 + index] = f"{name}/integers"
            scales += [f"{name}/scale", f"{name}/zero"]
        data = producers.get(node.input[0])
        if data is not None and data.op_type == "DequantizeLinear":
            rounded = producers.get(data.input[0])
            if rounded is not None and rounded.op_type == "QuantizeLinear":
                node.input[0] = rounded.input[0]
        node.input.extend([""] * (8 - len(node.input)))
        node.input.extend(scales)
        node.op_type, node.domain = "DynamicQuantizeLSTM", _ONNXRUNTIME
        for attribute in [a for a in node.attribute if a.name == "layout"]:
            node.attribute.remove(attribute)
        done += 1
    if done:
        if all(opset.domain != _ONNXRUNTIME for opset in model.opset_import):
            model.opset_import.append(helper.make_opsetid(_ONNXRUNTIME, 1))
        _drop_dead_nodes(graph)
        drop_unused(model)
    return done


def mixes_batch(model: onnx.ModelProto) -> bool:
    """Whether an operator rounds by the range of a whole batch, so that an item's result depends on those beside it."""
    return any(node.op_type == "DynamicQuantizeLSTM" for node in model.graph.node)


def _integers(
    node: onnx.NodeProto | None, constants: Mapping[str, onnx.TensorProto]
) -> tuple[NDArray[np.int8], NDArray[np.float32]] | None:
    """An LSTM's weights (directions, inputs, 4 * size) and their scales (directions[, 4 * size]); None unless they are int8
    with a scale for all or for each row of a gate.
    """
    if node is None or node.op_type != "DequantizeLinear" or any(n not in constants for n in node.input):
        return None
    values, scale = (_array(constants[name]) for name in node.input[:2])
    attributes = {a.name: a.i for a in node.attribute}
    along = scale.ndim == 1 and attributes.get("axis", 1) == 1 and not attributes.get("block_size", 0)
    if values.dtype != np.int8 or scale.dtype != np.float32 or not (scale.ndim == 0 or along):
        return None
    if len(node.input) > 2 and _array(constants[node.input[2]]).any():
        return None
    return values.transpose(0, 2, 1), np.broadcast_to(scale, (values.shape[0], *scale.shape))


def dequantize_tables(model: onnx.ModelProto) -> int:
    """Let a table of int8 rows with a scale each be dequantised before a row is taken out of it; returns how many.

    ``Cast(Gather(rows, i)) * Gather(scales, i)`` becomes ``Gather(DequantizeLinear(rows, scales), i)``, the same product.
    TensorRT takes int8 constants in front of a DequantizeLinear only, and fuses the two; an engine that does not would
    dequantise the whole table in each run.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    done = 0
    for product in [node for node in graph.node if node.op_type == "Mul"]:
        for left, right in (product.input, reversed(product.input)):
            cast, scale = producers.get(left), producers.get(right)
            rows = producers.get(cast.input[0]) if cast is not None and cast.op_type == "Cast" else None
            if rows is None or scale is None or (rows.op_type, scale.op_type) != ("Gather", "Gather"):
                continue
            table, scales = constants.get(rows.input[0]), constants.get(scale.input[0])
            if table is None or scales is None or rows.input[1] != scale.input[1]:
                continue
            if table.data_type != onnx.TensorProto.INT8 or list(scales.dims) != [table.dims[0], 1]:
                continue
            if any(a.name == "axis" and a.i != 0 for node in (rows, scale) for a in node.attribute):
                continue
            values = _array(scales).ravel()
            if not (values > 0).all():
                continue  # TensorRT takes positive scales only
            flat = numpy_helper.from_array(values, f"{scales.name}/flat")
            if flat.name not in constants:
                constants[flat.name] = flat
                graph.initializer.append(flat)
            whole = f"{product.name}/table"
            dequantize = helper.make_node(
                "DequantizeLinear", [table.name, flat.name], [whole], f"{product.name}/dequantize", axis=0
            )
            gather = helper.make_node(
                "Gather", [whole, rows.input[1]], list(product.output), product.name, axis=0
            )
            gather.metadata_props.extend(product.metadata_props)
            at = next(i for i, node in enumerate(graph.node) if node is product or node.name == product.name)
            del graph.node[at]
            graph.node.insert(at, gather)
            graph.node.insert(at, dequantize)
            done += 1
            break
    if done:
        _drop_dead_nodes(graph)
        drop_unused(model)
    return done


def plain_layer_norms(model: onnx.ModelProto) -> int:
    """Write each float32 LayerNormalization over the last axis out as its definition; returns how many.

    For parsers older than opset 17. Left as they are: other axes, and those whose mean or deviation is read.
    """
    graph = model.graph
    taken = {tensor.name for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    done = 0
    for node in graph.node:
        attributes = {a.name: a for a in node.attribute}
        last = "axis" not in attributes or attributes["axis"].i == -1
        if node.op_type != "LayerNormalization" or node.domain or not last or any(node.output[1:]):
            nodes.append(node)
            continue
        epsilon, two = f"{node.name}/epsilon", f"{node.name}/two"
        for name, value in (
            (epsilon, attributes["epsilon"].f if "epsilon" in attributes else 1e-5),
            (two, 2.0),
        ):
            if name not in taken:
                taken.add(name)
                graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
        steps = [
            ("ReduceMean", [node.input[0]], "mean"),
            ("Sub", [node.input[0], "mean"], "centred"),
            ("Pow", ["centred", two], "square"),
            ("ReduceMean", ["square"], "variance"),
            ("Add", ["variance", epsilon], "shifted"),
            ("Sqrt", ["shifted"], "deviation"),
            ("Div", ["centred", "deviation"], "normal"),
            ("Mul", ["normal", node.input[1]], "scaled"),
        ]
        if len(node.input) > 2 and node.input[2]:
            steps.append(("Add", ["scaled", node.input[2]], "biased"))
        made = {step[2] for step in steps}
        for k, (op, inputs, output) in enumerate(steps):
            names = [f"{node.name}/{name}" if name in made else name for name in inputs]
            result = node.output[0] if k == len(steps) - 1 else f"{node.name}/{output}"
            if op == "ReduceMean":
                axes = f"{node.name}/axes"
                if axes not in taken:
                    taken.add(axes)
                    graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), axes))
                names.append(axes)
            written = helper.make_node(op, names, [result], f"{node.name}/{output}")
            written.metadata_props.extend(node.metadata_props)
            nodes.append(written)
        done += 1
    if done:
        _replace_nodes(graph, nodes)
    return done


def _drop_dead_nodes(graph: onnx.GraphProto) -> None:
    while True:
        used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
        dead = [node for node in graph.node if not used.intersection(node.output)]
        if not dead:
            return
        for node in dead:
            graph.node.remove(node)


#: Rewrites that a target's file may ask for by name.
PASSES: Mapping[str, Callable[[onnx.ModelProto], int]] = {
    "dequantize_tables": dequantize_tables,
    "integer_lstms": integer_lstms,
    "plain_layer_norms": plain_layer_norms,
    "plain_matrix_products": plain_matrix_products,
    "shield_recurrent": shield_recurrent,
}


def name_by_scope(model: onnx.ModelProto) -> dict[str, str]:
    """Give nodes and tensors names that follow from the model's own modules, and return tensor -> module.

    Names are the same in every run: a layer with weights is called like its module, other nodes
    ``module/Op``; a repeated name gets a number. A tensor is listed only if it is what its module returns, so not the sizes that a
    graph of free length works out beside it.
    """
    graph = model.graph
    scopes = [_scope(node) for node in graph.node]
    sizes = {
        value.name for value in graph.value_info if value.type.tensor_type.elem_type == onnx.TensorProto.INT64
    }
    counted = [all(output in sizes for output in node.output) for node in graph.node]
    constants = {tensor.name for tensor in graph.initializer}
    fixed = {value.name for value in (*graph.input, *graph.output)}
    taken: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    for node, scope in zip(graph.node, scopes, strict=True):
        base = _weight_owner(node, constants) or (f"{scope}/{node.op_type}" if scope else node.op_type)
        taken[base] += 1
        node.name = base if taken[base] == 1 else f"{base}_{taken[base]}"
        for k, output in enumerate(node.output):
            if output and output not in fixed:
                renamed[output] = f"{node.name}_out" + (str(k) if k else "")
    order = [name for node in graph.node for name in node.input if name in constants]
    anonymous = [name for name in dict.fromkeys(order) if "." not in name and name.startswith("val_")]
    renamed.update({name: f"const_{i}" for i, name in enumerate(anonymous)})
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    last: dict[str, int] = {}
    for index, scope in enumerate(scopes):
        for prefix in () if counted[index] else _prefixes(scope):
            last[prefix] = index
    return {
        graph.node[index].output[0]: scope
        for scope, index in last.items()
        if scope and scopes[index] == scope
    }


def strip(model: onnx.ModelProto) -> None:
    """Remove everything that no engine needs: documentation, metadata, traces, intermediate types, tool names."""
    graph = model.graph
    for owner in (model, graph):
        owner.doc_string = ""
        del owner.metadata_props[:]
    graph.name = "model"
    model.producer_name, model.producer_version = "affect-zoo", ""
    model.domain, model.model_version = "", 0
    del graph.value_info[:]
    del graph.quantization_annotation[:]
    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.doc_string = ""
        kept = sorted(node.attribute, key=lambda attribute: attribute.name)
        del node.attribute[:]
        node.attribute.extend(kept)
    order = {name: i for i, name in reversed(list(enumerate(n for node in graph.node for n in node.input)))}
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
        if not tensor.HasField("raw_data"):
            tensor.CopyFrom(numpy_helper.from_array(_array(tensor), tensor.name))
    # In place: protobuf gives the memory of what is replaced back with the whole model only.
    graph.initializer.sort(key=lambda tensor: (order.get(tensor.name, len(order)), tensor.name))


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove constants that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    used.update(output.name for output in model.graph.output)
    tensors = model.graph.initializer
    for index in reversed(range(len(tensors))):
        if tensors[index].name not in used:
            del tensors[index]


def compact(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without the memory of what was taken out of it, which protobuf keeps as long as the model."""
    fresh: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    return fresh


def serialize(model: onnx.ModelProto) -> bytes:
    """The model's bytes, the same in every run."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def readers_of(model: onnx.ModelProto) -> dict[str, list[tuple[onnx.NodeProto, int]]]:
    """Tensor name to the (node, input index) pairs that read it."""
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            readers[name].append((node, index))
    return readers


def _replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Set a graph's nodes, some of which are its own: clearing the list would empty those."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _dequantize(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> NDArray[Any]:
    """What a DequantizeLinear of constants gives, in the precision of its scale."""
    values, scale = (_array(constants[name]) for name in node.input[:2])
    zero = _array(constants[node.input[2]]) if len(node.input) > 2 else np.zeros(scale.shape, values.dtype)
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    shape = [1] * values.ndim
    if scale.ndim:
        shape[axis] = -1
    difference = values.astype(np.int32) - zero.astype(np.int32).reshape(shape)
    return np.asarray(difference.astype(scale.dtype) * scale.reshape(shape))


def _array(tensor: onnx.TensorProto) -> NDArray[Any]:
    return np.array(numpy_helper.to_array(tensor))


def _channel_axis(node: onnx.NodeProto) -> int | None:
    """Axis of the weight that holds the output channels, None where a normalisation cannot be folded."""
    attributes = {a.name: a for a in node.attribute}
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if "group" not in attributes or attributes["group"].i == 1 else None
    if node.op_type == "Gemm":
        scaled = any(name in attributes and attributes[name].f != 1.0 for name in ("alpha", "beta"))
        return None if scaled else 0 if "transB" in attributes and attributes["transB"].i else 1
    return None


def _weight_owner(node: onnx.NodeProto, constants: set[str]) -> str | None:
    if (
        len(node.input) < 2
        or node.input[1] not in constants
        or node.op_type not in ("Conv", "ConvTranspose", "Gemm")
    ):
        return None
    owner, _, _ = node.input[1].partition(".weight")
    return owner if owner != node.input[1] else None


def _scope(node: onnx.NodeProto) -> str:
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            try:
                scopes = [str(scope) for scope in ast.literal_eval(entry.value)]
            except (ValueError, SyntaxError):
                return ""
            return next((scope for scope in reversed(scopes[:-1]) if scope), "")
    return ""


def _prefixes(scope: str) -> Iterator[str]:
    parts = scope.split(".")
    for i in range(1, len(parts) + 1):
        yield ".".join(parts[:i])
