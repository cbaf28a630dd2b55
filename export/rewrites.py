# SPDX-License-Identifier: Apache-2.0
"""Graph rewrites, all in one place, each exact and each with a test. They change the model in place."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

#: Operators that only move values about.
_MOVES = ("Concat", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_SCOPES = "pkg.torch.onnx.name_scopes"


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


def name_by_scope(model: onnx.ModelProto) -> dict[str, str]:
    """Give nodes and tensors names that follow from the model's own modules, and return tensor -> module.

    Names are the same in every run: a layer with weights is called like its module, other nodes
    ``module/Op``; a repeated name gets a number. A tensor is listed only if it is what its module returns.
    """
    graph = model.graph
    scopes = [_scope(node) for node in graph.node]
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
        for prefix in _prefixes(scope):
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
    tensors = sorted(graph.initializer, key=lambda tensor: (order.get(tensor.name, len(order)), tensor.name))
    for tensor in tensors:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    raw = [numpy_helper.from_array(_array(tensor), tensor.name) for tensor in tensors]
    del graph.initializer[:]
    graph.initializer.extend(raw)


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove constants that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    used.update(output.name for output in model.graph.output)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


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
