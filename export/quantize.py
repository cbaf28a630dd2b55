# SPDX-License-Identifier: Apache-2.0
"""INT8 as explicit Q/DQ pairs that onnxruntime, OpenVINO, TensorRT and TensorRT-RTX all take.

Only the data and weight inputs of convolutions, matrix products and recurrent nodes are quantised. Constants of
elementwise nodes stay float (TensorRT-RTX refuses them quantised), biases stay float (TensorRT refuses an
int32 DequantizeLinear), zero points are 0 (TensorRT takes no others). onnxruntime.quantization is not used:
it quantises those constants, keeps every activation of every input in memory, and logs to the console.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from zoo.errors import ZooError
from zoo.export import rewrites
from zoo.export.inputs import Features
from zoo.export.session import Session

_LEVELS = 127


@dataclass(frozen=True)
class Layer:
    """A node that can be quantised: its data inputs (tensor names) and weights (name to channel axis)."""

    node: str
    op: str
    data: tuple[str, ...]
    weights: Mapping[str, int]


def layers(model: onnx.ModelProto) -> list[Layer]:
    """Every node that can be quantised, in graph order."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        weights = {
            node.input[index]: axis
            for index, axis in _weight_inputs(node, constants).items()
            if index < len(node.input) and node.input[index] in constants
        }
        count = 2 if node.op_type == "MatMul" else 1
        data = tuple(name for name in node.input[:count] if name not in constants)
        if node.op_type in _OPS and data and (weights or node.op_type == "MatMul"):
            found.append(Layer(node.name, node.op_type, data, weights))
    return found


def quantize(
    model: onnx.ModelProto, limits: Mapping[str, float], kept: Collection[str] = ()
) -> onnx.ModelProto:
    """A copy with Q/DQ pairs.

    Parameters
    ----------
    model : ModelProto
        float32 graph.
    limits : mapping
        Data tensor to the absolute value that becomes 127 (see :mod:`zoo.export.calibrate`).
    kept : collection of str
        Nodes that stay in float.

    Raises
    ------
    ZooError
        A tensor has no limit, ``kept`` names no such node, or nothing is left to quantise.
    """
    every = layers(model)
    unknown = sorted(set(kept) - {layer.node for layer in every})
    if unknown:
        raise ZooError(f"layers to keep in float are not in the graph: {', '.join(unknown)}")
    chosen = {layer.node: layer for layer in every if layer.node not in kept}
    if not chosen:
        raise ZooError("no layer is left to quantise; export fp32 instead")
    missing = sorted({name for layer in chosen.values() for name in layer.data} - set(limits))
    if missing:
        raise ZooError(f"no calibration range for {', '.join(missing[:5])}")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    arrays = {tensor.name: np.array(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    made: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, value: NDArray[Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def data_pair(tensor: str) -> str:
        if tensor not in made:
            scale = constant(f"{tensor}/scale", np.array(limits[tensor] / _LEVELS, np.float32))
            zero = constant(f"{tensor}/zero", np.array(0, np.int8))
            nodes.append(
                helper.make_node(
                    "QuantizeLinear", [tensor, scale, zero], [f"{tensor}/q"], f"{tensor}/QuantizeLinear"
                )
            )
            nodes.append(
                helper.make_node(
                    "DequantizeLinear",
                    [f"{tensor}/q", scale, zero],
                    [f"{tensor}/dq"],
                    f"{tensor}/DequantizeLinear",
                )
            )
            made[tensor] = f"{tensor}/dq"
        return made[tensor]

    def weight_pair(tensor: str, axis: int) -> str:
        key = f"{tensor}#{axis}"
        if key not in made:
            values, scales = quantize_weight(arrays[tensor], axis)
            base = tensor if tensor not in made else key.replace("#", "/axis")
            q = constant(f"{base}/q", values)
            scale = constant(f"{base}/scale", scales)
            zero = constant(f"{base}/zero", np.zeros(scales.shape, np.int8))
            nodes.append(
                helper.make_node(
                    "DequantizeLinear",
                    [q, scale, zero],
                    [f"{base}/dq"],
                    f"{base}/DequantizeLinear",
                    axis=axis,
                )
            )
            made[tensor] = made[key] = f"{base}/dq"
        return made[key]

    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        layer = chosen.get(node.name)
        if layer is not None:
            for index, name in enumerate(node.input):
                if name in layer.weights and index > 0:
                    node.input[index] = weight_pair(name, layer.weights[name])
                elif name in layer.data and index < 2:
                    node.input[index] = data_pair(name)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    rewrites.drop_unused(result)
    rewrites.strip(result)
    onnx.checker.check_model(result)
    return result


def quantize_weight(weight: NDArray[Any], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 values in [-127, 127] and one scale for each index of ``axis``."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight.astype(np.float64)).max(axis=others)
    scales = np.where(largest > 0, largest / _LEVELS, 1.0).astype(np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    values = np.clip(np.rint(weight / scales.reshape(shape)), -_LEVELS, _LEVELS).astype(np.int8)
    return values, scales


def sensitivity(
    model: onnx.ModelProto, limits: Mapping[str, float], inputs: Sequence[Features]
) -> list[tuple[str, float]]:
    """Signal-to-quantisation-noise ratio (dB) of each layer's own quantisation, worst first.

    Beside each layer runs its quantised twin on the same float activations, so one pass over the inputs
    ranks all of them.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    quantized = quantize(model, limits)
    float_nodes = {node.name: node for node in model.graph.node}
    known = {tensor.name for tensor in probe.graph.initializer}
    probe.graph.initializer.extend(
        tensor for tensor in quantized.graph.initializer if tensor.name not in known
    )
    added: set[str] = set()
    wanted: dict[str, tuple[str, str]] = {}
    names = {layer.node for layer in layers(model)}
    nodes: list[onnx.NodeProto] = []
    for node in quantized.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.name not in float_nodes:
            nodes.append(node)
            continue
        nodes.append(float_nodes[node.name])
        if node.name in names and node.name not in added:
            added.add(node.name)
            twin = onnx.NodeProto()
            twin.CopyFrom(node)
            twin.name = f"{node.name}/twin"
            twin.output[:] = [f"{output}/twin" if output else "" for output in node.output]
            nodes.append(twin)
            out = next(output for output in node.output if output)
            wanted[node.name] = (f"{out}/signal", f"{out}/noise")
            nodes += [
                helper.make_node("Sub", [out, f"{out}/twin"], [f"{out}/error"], f"{node.name}/Sub"),
                helper.make_node(
                    "ReduceSumSquare", [out], [f"{out}/signal"], f"{node.name}/signal", keepdims=0
                ),
                helper.make_node(
                    "ReduceSumSquare", [f"{out}/error"], [f"{out}/noise"], f"{node.name}/noise", keepdims=0
                ),
            ]
    del probe.graph.node[:]
    probe.graph.node.extend(nodes)
    session = Session(probe, [name for pair in wanted.values() for name in pair])
    totals = {name: np.zeros(2) for name in wanted}
    for features in inputs:
        values = session.run(features)
        for name, (signal, noise) in wanted.items():
            totals[name] += (float(values[signal]), float(values[noise]))
    ratios = {
        name: 10 * float(np.log10(max(signal, 1e-30) / max(noise, 1e-30)))
        for name, (signal, noise) in totals.items()
    }
    return sorted(ratios.items(), key=lambda pair: (pair[1], pair[0]))


_OPS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "GRU", "LSTM", "RNN")


def _weight_inputs(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> dict[int, int]:
    """Index of each weight input to its output-channel axis."""
    attributes = {a.name: a for a in node.attribute}
    if node.op_type == "Conv":
        return {1: 0}
    if node.op_type == "ConvTranspose":
        # With groups the channel axis repeats, which a per-axis scale cannot say.
        return {1: 1} if "group" not in attributes or attributes["group"].i == 1 else {}
    if node.op_type == "Gemm":
        return {1: 0 if "transB" in attributes and attributes["transB"].i else 1}
    if node.op_type == "MatMul":
        weight = constants.get(node.input[1])
        return {} if weight is None or len(weight.dims) != 2 else {1: 1}
    if node.op_type in ("GRU", "LSTM", "RNN"):
        return {1: 1, 2: 1}
    return {}
