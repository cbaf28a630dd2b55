# SPDX-License-Identifier: Apache-2.0
"""float32 graph to float16 by casting; what overflows on real inputs stays float32."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from zoo.errors import TargetError
from zoo.export import rewrites
from zoo.export.inputs import Features
from zoo.export.session import Session

#: Largest finite float16. A tensor must stay below half of it: other inputs may be larger than those tried.
LARGEST = 65504.0
HEADROOM = 2.0
_HALF = onnx.TensorProto.FLOAT16


def overflowing(model: onnx.ModelProto, inputs: Sequence[Features]) -> list[str]:
    """Names of the nodes that read or give a tensor beyond the safe range of float16, in graph order.

    A node counts too if one of its constants does not fit.
    """
    floats = [output for node in model.graph.node for output in node.output if output]
    session = Session(model, floats)
    largest: dict[str, float] = {}
    for features in inputs:
        values = session.run(features) | dict(zip(session.inputs, features, strict=True))
        for name, value in values.items():
            if np.issubdtype(value.dtype, np.floating) and value.size:
                largest[name] = max(largest.get(name, 0.0), float(np.abs(value).max()))
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if np.issubdtype(value.dtype, np.floating) and value.size:
            largest[tensor.name] = float(np.abs(value).max())
    limit = LARGEST / HEADROOM
    return [
        node.name
        for node in model.graph.node
        if any(not largest.get(name, 0.0) <= limit for name in (*node.input, *node.output) if name)
    ]


def to_float16(model: onnx.ModelProto, kept: Collection[str] = ()) -> onnx.ModelProto:
    """A copy that computes in float16 between float32 inputs and outputs.

    Parameters
    ----------
    model : ModelProto
        float32 graph.
    kept : collection of str
        Nodes that stay in float32.

    Raises
    ------
    TargetError
        The graph has control flow, or the conversion does not give a valid graph.
    """
    nested = [
        node.name for node in model.graph.node if any(a.HasField("g") or a.graphs for a in node.attribute)
    ]
    if nested:
        raise TargetError(f"the graph cannot be cast to fp16: node {nested[0]} has a graph of its own")
    inferred = onnx.shape_inference.infer_shapes(model)
    float32 = onnx.TensorProto.FLOAT
    typed = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    floats = {value.name for value in typed if value.type.tensor_type.elem_type == float32}
    floats.update(tensor.name for tensor in model.graph.initializer if tensor.data_type == float32)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    outputs = {value.name for value in model.graph.output}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    half: set[str] = set()  # tensors that are float16 under their own name
    casts: dict[tuple[str, int], str] = {}

    def as_type(name: str, wanted: int) -> str:
        if name not in floats:
            return name
        current = _HALF if name in half else float32
        if current == wanted:
            return name
        if (name, wanted) not in casts:
            suffix = "fp16" if wanted == _HALF else "fp32"
            casts[name, wanted] = f"{name}/{suffix}"
            if name in constants:
                value = numpy_helper.to_array(constants[name]).astype(np.float16)
                result.graph.initializer.append(numpy_helper.from_array(value, f"{name}/{suffix}"))
            else:
                nodes.append(
                    helper.make_node("Cast", [name], [f"{name}/{suffix}"], f"{name}/to_{suffix}", to=wanted)
                )
        return casts[name, wanted]

    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        wanted = float32 if node.name in kept else _HALF
        converted = range(1) if node.op_type == "Resize" else range(len(node.input))
        for index in converted:
            node.input[index] = as_type(node.input[index], wanted)
        if wanted == _HALF:
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i == float32:
                    attribute.i = _HALF
                elif attribute.HasField("t") and attribute.t.data_type == float32:
                    value = numpy_helper.to_array(attribute.t).astype(np.float16)
                    attribute.t.CopyFrom(numpy_helper.from_array(value))
        back: list[onnx.NodeProto] = []
        for index, name in enumerate(node.output):
            if wanted != _HALF or name not in floats:
                continue
            half.add(name)
            if name in outputs:
                node.output[index] = casts[name, _HALF] = f"{name}/fp16"
                half.discard(name)
                back.append(helper.make_node("Cast", [f"{name}/fp16"], [name], f"{name}/to_fp32", to=float32))
        nodes += [node, *back]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    rewrites.drop_unused(result)
    rewrites.strip(result)
    try:
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise TargetError(f"the graph cannot be cast to fp16: {error}") from error
    return result
