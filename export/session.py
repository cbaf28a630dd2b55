# SPDX-License-Identifier: Apache-2.0
"""onnxruntime on the CPU as a measuring instrument: any graph, any intermediate tensor.

Its CPU provider has hardly any bfloat16 kernels. A bfloat16 graph runs with float32 arithmetic between tensors that are
rounded to bfloat16, which is what an engine does that accumulates in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from zoo.errors import TargetError
from zoo.export.inputs import Features

_BFLOAT16 = onnx.TensorProto.BFLOAT16


class Session:
    """Runs a model on single inputs, one thread, no fusing across the tensors that are asked for.

    Parameters
    ----------
    model : ModelProto
        Not changed.
    extra : sequence of str
        Intermediate tensors to return after the model's own outputs.
    optimize : bool
        False: every node as it stands. Otherwise onnxruntime may move Q/DQ pairs, which changes roundings.

    Raises
    ------
    TargetError
        onnxruntime refuses the graph.
    """

    def __init__(self, model: onnx.ModelProto, extra: Sequence[str] = (), *, optimize: bool = True) -> None:
        copy = onnx.ModelProto()
        copy.CopyFrom(rounded(model) if computes_in_bfloat16(model) else model)
        present = {output.name for output in copy.graph.output}
        copy.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in dict.fromkeys(extra) if name not in present
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if weights_only(model):
            # Else onnxruntime rounds the activations of matrix products to int8, which these graphs do not say.
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = ort.InferenceSession(
                copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own exception types have no common base
            raise TargetError(f"onnxruntime {ort.__version__} refuses the graph: {error}") from error
        self.inputs = [value.name for value in model.graph.input]
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, features: Features) -> dict[str, NDArray[Any]]:
        """Outputs by name for one input, with the batch dimension."""
        feeds = {
            name: np.ascontiguousarray(array[None]) for name, array in zip(self.inputs, features, strict=True)
        }
        return dict(zip(self.outputs, self._session.run(None, feeds), strict=True))


def weights_only(model: onnx.ModelProto) -> bool:
    """Whether integers stand for weights, and for no activation."""
    kinds = {node.op_type for node in model.graph.node}
    return "DequantizeLinear" in kinds and "QuantizeLinear" not in kinds


def computes_in_bfloat16(model: onnx.ModelProto) -> bool:
    """Whether a node casts to bfloat16 or a constant is of that type."""
    return any(tensor.data_type == _BFLOAT16 for tensor in model.graph.initializer) or any(
        node.op_type == "Cast" and attribute.name == "to" and attribute.i == _BFLOAT16
        for node in model.graph.node
        for attribute in node.attribute
    )


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 copy of a bfloat16 graph in which every bfloat16 tensor holds a value of bfloat16."""
    inferred = onnx.shape_inference.infer_shapes(model)
    short = {v.name for v in inferred.graph.value_info if v.type.tensor_type.elem_type == _BFLOAT16}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.value_info[:]
    for tensor in result.graph.initializer:
        _widen(tensor)
    nodes: list[onnx.NodeProto] = []
    for node in result.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == _BFLOAT16:
                attribute.i = onnx.TensorProto.FLOAT
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in short:
                node.output[index] = f"{name}/exact"
                nodes += [
                    helper.make_node(
                        "Cast", [f"{name}/exact"], [f"{name}/short"], f"{name}/round", to=_BFLOAT16
                    ),
                    helper.make_node(
                        "Cast", [f"{name}/short"], [name], f"{name}/widen", to=onnx.TensorProto.FLOAT
                    ),
                ]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del result.graph.node[:]
    result.graph.node.extend(kept)
    return result


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == _BFLOAT16:
        value = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
