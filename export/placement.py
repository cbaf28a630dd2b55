# SPDX-License-Identifier: Apache-2.0
"""Where onnxruntime needs more than quantised inputs to compute a layer in integers.

Its CPU provider makes a convolution a QLinearConv only where data and output are quantised to one type, the bias is
int32 with the product of both scales, and a Relu between convolution and QuantizeLinear adds nothing to what that clips:
the zero point is the type's least value. So activations become uint8, those that cannot be negative with zero point 0
(and 255 steps in place of 127), all others with 128. A Gemm needs the integer bias alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from zoo.export import rewrites

if TYPE_CHECKING:
    from zoo.export.quantize import Layer

#: An entry of the list of what stays in float begins so where it is the output of a layer, not the layer.
OUTPUT = "output of "
#: Largest bias in steps: as much again is left of int32 for the sum of products.
MAX_BIAS = 2**30

#: Fewer input channels are too few.
_CHANNELS = 4
_POSITIVE = ("Relu", "Sigmoid", "Softmax")
#: Their outputs hold values of their first input and no others.
_SELECTS = ("Flatten", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_KEEPS_SIGN = (*_SELECTS, "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMax", "ReduceMean")


def positive(model: onnx.ModelProto) -> set[str]:
    """Tensors of which no value can be negative, whatever the input."""
    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type in _POSITIVE or (node.op_type in _KEEPS_SIGN and node.input[0] in found):
            found.add(node.output[0])
    return found


def thin(model: onnx.ModelProto) -> list[str]:
    """Convolutions in two or more dimensions over so few channels that integers make them slower.

    The kernel gathers each position's values channels last, one to three at a time. Measured (AVX-512 with VNNI, 3 × 3, 32
    outputs), against the same layer left in float: 1.42 with one channel, 1.22, 1.10, then 0.66 with four. In one
    dimension, and channel by channel (depthwise), they are not slower or what surrounds them would be.
    """
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv"
        and len(shapes.get(node.input[1], ())) > 3
        and shapes[node.input[1]][1] < _CHANNELS
        and not any(a.name == "group" and a.i > 1 for a in node.attribute)
    ]


def raw(model: onnx.ModelProto) -> list[str]:
    """Convolutions over the samples of a signal itself: one channel, one dimension, read from the graph's input.

    Quiet and loud samples have one scale, so 8 bits leave little of the quiet ones, and one channel is hardly any work.
    Measured on a wav2vec 2.0 encoder of 4 layers with random weights: cosine of its embedding to float's 0.9980 at least
    with this layer quantised, 0.9999 without, at the same speed.
    """
    samples = {value.name for value in model.graph.input}
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type in _SELECTS and node.input[0] in samples:
            samples.add(node.output[0])
        elif node.op_type == "Conv" and node.input[0] in samples:
            dims = shapes.get(node.input[1], ())
            if (
                len(dims) == 3
                and dims[1] == 1
                and not any(a.name == "group" and a.i > 1 for a in node.attribute)
            ):
                found.append(node.name)
    return found


def outputs(model: onnx.ModelProto, layers: Sequence[Layer], kept: Collection[str] = ()) -> dict[str, str]:
    """Convolutions that onnxruntime can compute in integers, each with the tensor that its output becomes one in.

    That is the output of a Relu where nothing else reads the convolution. Left out are outputs of the graph, those that
    ``kept`` names, and those that a layer in ``kept`` reads or writes: it stays in float on both sides.
    """
    chosen = {layer.node: layer for layer in layers if layer.node not in kept}
    lasting = {tensor for layer in layers if layer.node in kept for tensor in layer.data}
    lasting |= {value.name for value in model.graph.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    readers = rewrites.readers_of(model)
    found = {}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.name not in chosen or OUTPUT + node.name in kept:
            continue
        tensor = node.output[0]
        after = readers[tensor]
        if tensor not in lasting and len(after) == 1 and after[0][0].op_type == "Relu":
            tensor = after[0][0].output[0]
        fixed = len(node.input) < 3 or node.input[2] in constants
        if fixed and readers[tensor] and tensor not in lasting:
            found[node.name] = tensor
    return found


def selected(model: onnx.ModelProto, ends: Collection[str]) -> dict[str, str]:
    """Tensors that hold values of one in ``ends`` and no others, with that one.

    With its scale they are quantised without another rounding, and onnxruntime selects among the integers.
    """
    found = {name: name for name in ends}
    for node in model.graph.node:
        if node.op_type in _SELECTS and node.input[0] in found and node.output[0] not in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def rounded(model: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, str]:
    """Those of :func:`outputs` that somebody else reads too: without them these readers have the exact values."""
    wanted = {(layer.node, tensor) for layer in layers for tensor in layer.data}
    readers = rewrites.readers_of(model)
    return {
        name: tensor
        for name, tensor in outputs(model, layers).items()
        if any((node.name, tensor) not in wanted for node, _ in readers[tensor])
    }


def integer_bias(node: onnx.NodeProto, arrays: Mapping[str, NDArray[Any]], places: Mapping[str, str]) -> bool:
    """Whether a layer's bias has to be an integer, for ``places`` of :func:`outputs`."""
    if len(node.input) < 3 or node.input[2] not in arrays or arrays[node.input[2]].ndim != 1:
        return False
    if node.op_type == "Gemm":
        return not any(a.name == "beta" and a.f != 1.0 for a in node.attribute)
    return node.name in places


def least_scales(bias: NDArray[Any], scale: float) -> NDArray[np.float64]:
    """Least scale of each channel's weights with which its bias fits into an int32; ``scale`` is that of the data."""
    return np.abs(bias.astype(np.float64)) / (scale * MAX_BIAS)


def described(kept: Collection[str]) -> str:
    """How many layers and outputs a list of what stays in float has, in words."""
    count = sum(name.startswith(OUTPUT) for name in kept)
    layers = f"{len(kept) - count} layers"
    return f"{count} outputs and {layers}" if count else layers
