# SPDX-License-Identifier: Apache-2.0
"""float32 graph to float16 or bfloat16 by casting; what overflows float16 on real inputs stays float32."""

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
#: From here on every operator takes bfloat16.
_BFLOAT16_OPSET = 22


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
    return _cast(model, onnx.TensorProto.FLOAT16, "fp16", kept)


def to_bfloat16(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A copy (opset 22) that computes in bfloat16 between float32 inputs and outputs, and the nodes that stay float32.

    Those are the operators that ONNX does not define for bfloat16. Nothing overflows: the range is float32's.

    Raises
    ------
    TargetError
        As :func:`to_float16`.
    """
    try:
        later = onnx.version_converter.convert_version(model, _BFLOAT16_OPSET)
    except (onnx.version_converter.ConvertError, RuntimeError) as error:
        raise TargetError(f"the graph cannot be cast to bf16: {error}") from error
    kept = tuple(node.name for node in later.graph.node if not _takes_bfloat16(node))
    return _cast(later, onnx.TensorProto.BFLOAT16, "bf16", kept), kept


def _takes_bfloat16(node: onnx.NodeProto) -> bool:
    """Whether no input or output of the operator that may be float32 is barred from bfloat16."""
    schema = onnx.defs.get_schema(node.op_type, _BFLOAT16_OPSET, node.domain)
    return all(
        "tensor(bfloat16)" in formal.types or "tensor(float)" not in formal.types
        for formal in (*schema.inputs, *schema.outputs)
    )


def _cast(model: onnx.ModelProto, half: int, label: str, kept: Collection[str]) -> onnx.ModelProto:
    nested = [
        node.name for node in model.graph.node if any(a.HasField("g") or a.graphs for a in node.attribute)
    ]
    if nested:
        raise TargetError(f"the graph cannot be cast to {label}: node {nested[0]} has a graph of its own")
    dtype = helper.tensor_dtype_to_np_dtype(half)
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
    halved: set[str] = set()  # tensors that are of the half type under their own name
    casts: dict[tuple[str, int], str] = {}

    def as_type(name: str, wanted: int) -> str:
        if name not in floats:
            return name
        current = half if name in halved else float32
        if current == wanted:
            return name
        if (name, wanted) not in casts:
            suffix = label if wanted == half else "fp32"
            casts[name, wanted] = f"{name}/{suffix}"
            if name in constants:
                value = numpy_helper.to_array(constants[name]).astype(dtype)
                result.graph.initializer.append(numpy_helper.from_array(value, f"{name}/{suffix}"))
            else:
                nodes.append(
                    helper.make_node("Cast", [name], [f"{name}/{suffix}"], f"{name}/to_{suffix}", to=wanted)
                )
        return casts[name, wanted]

    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        wanted = float32 if node.name in kept else half
        converted = range(1) if node.op_type == "Resize" else range(len(node.input))
        for index in converted:
            node.input[index] = as_type(node.input[index], wanted)
        if wanted == half:
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i == float32:
                    attribute.i = half
                elif attribute.HasField("t") and attribute.t.data_type == float32:
                    value = numpy_helper.to_array(attribute.t).astype(dtype)
                    attribute.t.CopyFrom(numpy_helper.from_array(value))
        back: list[onnx.NodeProto] = []
        for index, name in enumerate(node.output):
            if wanted != half or name not in floats:
                continue
            halved.add(name)
            if name in outputs:
                node.output[index] = casts[name, half] = f"{name}/{label}"
                halved.discard(name)
                back.append(
                    helper.make_node("Cast", [f"{name}/{label}"], [name], f"{name}/to_fp32", to=float32)
                )
        nodes += [node, *back]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    rewrites.drop_unused(result)
    rewrites.strip(result)
    try:
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise TargetError(f"the graph cannot be cast to {label}: {error}") from error
    return result
