# SPDX-License-Identifier: Apache-2.0
"""Rescaling between layers: the same function, with ranges that int8 loses less in.

Channel ``c`` of a tensor is divided by a factor where it is made and multiplied by it in the weights that read it. Two
rules choose the factor: ``smooth`` moves what is large in the activations into the weights (SmoothQuant, Xiao et al.,
ICML 2023, with its exponent of one half), ``equalize`` makes the weights on both sides equally large (cross-layer
equalisation, Nagel et al., ICCV 2019). Nothing is added to the graph: a tensor is rescaled only where its
producer and all its readers have weights that take the factor. Factors are powers of two, so that every product keeps
its digits and the float32 outputs stay the same bit for bit, barring overflow and denormals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from zoo.export import rewrites
from zoo.export.graph import Graph
from zoo.export.inputs import Features
from zoo.export.session import Session

Rule = Literal["smooth", "equalize"]
#: In the order in which they are applied.
RULES: tuple[Rule, ...] = ("equalize", "smooth")
#: Largest factor, as a power of two.
_LARGEST = 16
#: They commute with a positive factor on each channel.
_HOMOGENEOUS = (
    "Relu",
    "LeakyRelu",
    "Identity",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Pad",
    "Transpose",
)
_RECURRENT = ("GRU", "LSTM", "RNN")


@dataclass(frozen=True)
class Operand:
    """A constant input of a node, and the axis of it that the channels lie on."""

    node: str
    index: int
    axis: int


@dataclass
class Site:
    """A tensor that can be rescaled: constants to divide and to multiply, and the tensors that change by it.

    ``weight`` is the producer's own weight, ``read`` the tensors that the readers' weights meet, with their channel
    axis.
    """

    tensor: str
    channels: int
    weight: Operand
    divided: list[Operand]
    multiplied: list[Operand] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    read: dict[str, int] = field(default_factory=dict)


def rescale(graph: Graph, rule: Rule, inputs: Sequence[Features] = ()) -> Graph:
    """The same function with other ranges between its layers.

    Parameters
    ----------
    rule : str
        ``smooth`` or ``equalize``.
    inputs : sequence of Features
        Real inputs that activations are measured on; ``equalize`` needs none.

    Returns
    -------
    Graph
        Tensors that were rescaled are no longer listed as what a module of the reference returns.
    """
    found = sites(graph.model)
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    constants = _Constants(model)
    largest = _channel_maxima(model, found, inputs) if rule == "smooth" else {}
    changed: set[str] = set()
    for site in found:
        weights = _strongest(constants, site.multiplied)
        other = largest[site.tensor] if rule == "smooth" else _strongest(constants, [site.weight])
        usable = (weights > 0) & (other > 0)
        # The rule's own factor is the root of this ratio in both cases; half its logarithm, rounded.
        ratio = np.log2(np.where(usable, other, 1.0)) - np.log2(np.where(usable, weights, 1.0))
        if rule == "smooth":
            # Only differences between channels matter to a scale for each tensor.
            ratio -= np.median(ratio[usable]) if usable.any() else 0.0
        power = np.clip(np.rint(np.where(usable, ratio / 2, 0.0)), -_LARGEST, _LARGEST)
        if not power.any():
            continue
        factor = np.exp2(power).astype(np.float32)
        for operand in site.divided:
            constants.multiply(operand, 1 / factor)
        for operand in site.multiplied:
            constants.multiply(operand, factor)
        changed.update(site.changed)
    rewrites.drop_unused(model)
    rewrites.strip(model)
    onnx.checker.check_model(model)
    modules = {tensor: module for tensor, module in graph.modules.items() if tensor not in changed}
    return Graph(model, modules, graph.inputs, graph.outputs, graph.profile)


def sites(model: onnx.ModelProto) -> list[Site]:
    """Every tensor that can be rescaled, in graph order."""
    inferred = onnx.shape_inference.infer_shapes(model)
    typed = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in typed}
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    readers = rewrites.readers_of(model)
    outputs = {output.name for output in model.graph.output}
    found = []
    for node in model.graph.node:
        made = _producer(node, constants, ranks)
        if made is None:
            continue
        site, axis = made
        todo, fits = [(node.output[0], axis)], True
        while todo and fits:
            tensor, axis = todo.pop()
            site.changed.append(tensor)
            fits = tensor not in outputs and tensor in ranks
            for reader, index in readers[tensor] if fits else ():
                step = _pass(reader, index, axis, ranks, constants, values, site)
                if step is not None:
                    todo.append((reader.output[0], step))
                    continue
                operand = _sink(reader, index, axis, ranks, constants, site.channels)
                if operand is None:
                    fits = False
                    break
                site.multiplied.append(operand)
                site.read[tensor] = axis
        if fits and site.multiplied:
            found.append(site)
    return found


class _Constants:
    """A model's constants, changed for one reader at a time: what others share with it stays as it is."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._nodes = {node.name: node for node in model.graph.node}
        self._arrays = {
            tensor.name: np.array(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer
        }

    def array(self, operand: Operand) -> NDArray[Any]:
        """The present value."""
        return self._arrays[self._nodes[operand.node].input[operand.index]]

    def multiply(self, operand: Operand, factor: NDArray[np.float32]) -> None:
        """Multiply along the operand's axis; a scalar or a length of one is spread over the channels."""
        node = self._nodes[operand.node]
        value = self.array(operand)
        if value.ndim == 0:
            value = value.reshape(1)
        shape = [1] * value.ndim
        shape[operand.axis] = -1
        name = f"{node.name}/{operand.index}/rescaled"
        fresh = numpy_helper.from_array((value * factor.reshape(shape)).astype(value.dtype), name)
        self._arrays[name] = np.array(numpy_helper.to_array(fresh))
        for tensor in self._graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(fresh)
                break
        else:
            self._graph.initializer.append(fresh)
        node.input[operand.index] = name


def _strongest(constants: _Constants, operands: Sequence[Operand]) -> NDArray[np.float64]:
    """Largest absolute weight of each channel."""
    rows = []
    for operand in operands:
        value = np.abs(constants.array(operand).astype(np.float64))
        rows.append(value.max(axis=tuple(i for i in range(value.ndim) if i != operand.axis % value.ndim)))
    result: NDArray[np.float64] = np.max(rows, axis=0)
    return result


def _channel_maxima(
    model: onnx.ModelProto, found: Sequence[Site], inputs: Sequence[Features]
) -> Mapping[str, NDArray[np.float64]]:
    """Largest absolute activation of each channel where weights meet it, for each site's tensor."""
    largest = {site.tensor: np.zeros(site.channels) for site in found}
    session = Session(model, [tensor for site in found for tensor in site.read])
    for features in inputs:
        values = session.run(features)
        for site in found:
            for tensor, axis in site.read.items():
                value = np.moveaxis(np.abs(values[tensor]), axis, -1).reshape(-1, site.channels)
                largest[site.tensor] = np.maximum(largest[site.tensor], value.max(0))
    return largest


def _producer(
    node: onnx.NodeProto, constants: Mapping[str, tuple[int, ...]], ranks: Mapping[str, int]
) -> tuple[Site, int] | None:
    """A site with the producer's own constants, and the channel axis of its output."""
    attributes = {a.name: a for a in node.attribute}
    if not node.output or any(node.output[1:]) or node.output[0] not in ranks or len(node.input) < 2:
        return None
    shape, axis, place = constants.get(node.input[1]), 1, 0
    if shape is None or not node.name:
        return None
    if node.op_type == "ConvTranspose":
        if "group" in attributes and attributes["group"].i != 1:
            return None
        place = 1
    elif node.op_type == "Gemm":
        place = 0 if "transB" in attributes and attributes["transB"].i else 1
    elif node.op_type == "MatMul":
        axis, place = ranks[node.output[0]] - 1, 1
        if len(shape) != 2:
            return None
    elif node.op_type == "LayerNormalization":
        if attributes["axis"].i not in (-1, ranks[node.output[0]] - 1) if "axis" in attributes else False:
            return None
        axis = ranks[node.output[0]] - 1
    elif node.op_type != "Conv":
        return None
    weight = Operand(node.name, 1, place)
    divided = [weight]
    if len(node.input) > 2 and node.input[2]:
        if constants.get(node.input[2]) != (shape[place],):
            return None
        divided.append(Operand(node.name, 2, 0))
    return Site(node.output[0], shape[place], weight, divided), axis


def _pass(
    node: onnx.NodeProto,
    index: int,
    axis: int,
    ranks: Mapping[str, int],
    constants: Mapping[str, tuple[int, ...]],
    values: Mapping[str, onnx.TensorProto],
    site: Site,
) -> int | None:
    """The channel axis after a node that the factor passes through; an added constant is noted in ``site``."""
    attributes = {a.name: a for a in node.attribute}
    if any(node.output[1:]) or node.output[0] not in ranks:
        return None
    if node.op_type == "Pad":
        mode = attributes["mode"].s if "mode" in attributes else b"constant"
        filling = node.input[2] if len(node.input) > 2 else ""
        pads = values.get(node.input[1])
        if mode != b"constant" or len(node.input) > 3 or pads is None:
            return None
        rank = ranks[node.output[0]]
        widths = numpy_helper.to_array(pads)
        if len(widths) != 2 * rank or widths[axis] or widths[axis + rank]:
            return None
        if filling and (filling not in values or numpy_helper.to_array(values[filling]).any()):
            return None
        return axis if index == 0 else None
    if node.op_type == "Transpose":
        order = list(attributes["perm"].ints) if "perm" in attributes else None
        return order.index(axis) if order is not None else ranks[node.output[0]] - 1 - axis
    if node.op_type in ("MaxPool", "AveragePool", "GlobalAveragePool") and axis != 1:
        return None
    if node.op_type in _HOMOGENEOUS:
        return axis
    if node.op_type not in ("Add", "Mul"):
        return None
    shape = constants.get(node.input[1 - index])
    rank = ranks[node.output[0]]
    if shape is None or len(shape) > rank or ranks.get(node.input[index]) != rank:
        return None
    if node.op_type == "Add":
        place = axis - rank + max(len(shape), 1)
        if place < 0 or (shape and shape[place] not in (1, site.channels)):
            return None
        site.divided.append(Operand(node.name, 1 - index, place))
    return axis


def _sink(
    node: onnx.NodeProto,
    index: int,
    axis: int,
    ranks: Mapping[str, int],
    constants: Mapping[str, tuple[int, ...]],
    channels: int,
) -> Operand | None:
    """The weight that takes the factor of the tensor a layer reads."""
    shape = constants.get(node.input[1]) if len(node.input) > 1 else None
    if index != 0 or shape is None or not node.name:
        return None
    attributes = {a.name: a for a in node.attribute}
    place = None
    if node.op_type == "Conv" and axis == 1:
        groups = attributes["group"].i if "group" in attributes else 1
        if groups == 1:
            place = 1
        elif groups == channels == shape[0]:
            place = 0  # one filter for each channel
    elif node.op_type == "ConvTranspose" and axis == 1:
        place = 0 if "group" not in attributes or attributes["group"].i == 1 else None
    elif node.op_type == "Gemm" and axis == 1 and not ("transA" in attributes and attributes["transA"].i):
        place = 1 if "transB" in attributes and attributes["transB"].i else 0
    elif node.op_type == "MatMul" and len(shape) == 2 and axis == ranks.get(node.input[0], 0) - 1:
        place = 0
    elif node.op_type in _RECURRENT and axis == 2:
        place = 2
    return Operand(node.name, 1, place) if place is not None and shape[place] == channels else None
