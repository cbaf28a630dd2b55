# SPDX-License-Identifier: Apache-2.0
"""float32 graph to float16 by casting; what overflows on real inputs stays float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from zoo.errors import TargetError
from zoo.export import rewrites
from zoo.export.inputs import Features
from zoo.export.session import Session

#: Largest finite float16. A tensor must stay below half of it: other inputs may be larger than those tried.
LARGEST = 65504.0
HEADROOM = 2.0


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


def to_float16(model: onnx.ModelProto, kept: Sequence[str] = ()) -> onnx.ModelProto:
    """A copy that computes in float16 between float32 inputs and outputs.

    Parameters
    ----------
    model : ModelProto
        float32 graph.
    kept : sequence of str
        Nodes that stay in float32.

    Raises
    ------
    TargetError
        The conversion does not give a valid graph.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        result: onnx.ModelProto = convert_float_to_float16(
            copy,
            keep_io_types=True,
            node_block_list=list(kept),
            op_block_list=["Resize", "NonMaxSuppression", "TopK"],
        )
        rewrites.strip(result)
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise TargetError(f"the graph cannot be cast to fp16: {error}") from error
    return result
