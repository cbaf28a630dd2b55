# SPDX-License-Identifier: Apache-2.0
"""INT8, and integer weights alone, as explicit Q/DQ pairs that onnxruntime, OpenVINO, TensorRT and TensorRT-RTX all take.

Only the data and weight inputs of convolutions, matrix products and recurrent nodes are quantised. Constants of
elementwise nodes stay float (TensorRT-RTX refuses them quantised), biases stay float (TensorRT refuses an
int32 DequantizeLinear), zero points are 0 (TensorRT takes no others). With ``outputs`` the graph is for onnxruntime alone,
which computes convolutions in integers only then (:mod:`zoo.export.placement`). onnxruntime.quantization is not used: it quantises those constants, keeps every activation of every input in memory, and logs to the console.

Integer weights alone (``int8-weights``, ``int4-weights``) are a DequantizeLinear before each float layer: int8 with
one scale a channel; int4 with one scale for each group of 16 to 64 values along the layer's inputs (opset 21), int8 where no group fits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from zoo.errors import TargetError, ZooError
from zoo.export import placement, rewrites
from zoo.export.inputs import Features
from zoo.export.session import Session
from zoo.specs import QuantizeOption

_LEVELS = 127
#: Of a tensor without negative values where zero points may differ.
_UNSIGNED_LEVELS = 255
_LEVELS4 = 7
#: Shares of a group's largest value that may become 7.
_SHARES4 = tuple(1 - 0.04 * step for step in range(13))
#: Least and greatest group of int4 values that share a scale, and the size that is aimed at.
_GROUPS = (16, 64, 32)
_INT4_OPSET = 21

Bits = Literal[4, 8]
#: Bits of the weights in the precisions that quantise them.
BITS: Mapping[str, Bits] = {"int8": 8, "int8-weights": 8, "int4-weights": 4}


def check_options(options: Sequence[str], precision: str) -> tuple[QuantizeOption, ...]:
    """The options in the order in which they act, each once.

    Raises
    ------
    TargetError
        There is no such option, or the precision takes none.
    """
    known = get_args(QuantizeOption)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise TargetError(
            f"no option of the quantiser is called {unknown[0]!r}; there are {', '.join(known)}"
        )
    if options and precision not in ("int8", "auto"):
        raise TargetError(
            f"{', '.join(options)}: options of the int8 quantiser, {precision} takes none; leave out --quantize"
        )
    return tuple(cast("QuantizeOption", option) for option in known if option in options)


@dataclass(frozen=True)
class Layer:
    """A node that can be quantised: its data inputs (tensor names) and weights (name to channel axis)."""

    node: str
    op: str
    data: tuple[str, ...]
    weights: Mapping[str, int]


def layers(model: onnx.ModelProto, *, weights_only: bool = False) -> list[Layer]:
    """Every node that can be quantised, in graph order.

    With ``weights_only`` those whose weights can: embedding tables too, but no product of two activations.
    """
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
        if node.op_type in _OPS and data and (weights or (node.op_type == "MatMul" and not weights_only)):
            found.append(Layer(node.name, node.op_type, data, weights))
        elif weights_only and node.op_type == "Gather" and _is_table(node, constants):
            found.append(Layer(node.name, node.op_type, (), {node.input[0]: 0}))
    return found


def quantize(
    model: onnx.ModelProto,
    limits: Mapping[str, float] | None,
    kept: Collection[str] = (),
    *,
    bits: Bits = 8,
    per_tensor: bool = False,
    outputs: bool = False,
) -> onnx.ModelProto:
    """A copy with Q/DQ pairs.

    Parameters
    ----------
    model : ModelProto
        float32 graph.
    limits : mapping or None
        Tensor of :func:`ranged` to the absolute value that becomes 127 (see :mod:`zoo.export.calibrate`). None quantises
        weights only.
    kept : collection of str
        Nodes that stay in float; with ``outputs`` also ``output of NODE``.
    bits : int
        Of the weights. 4 needs ``limits`` None; weights that no group size divides, or of an odd number of values
        (two share a byte, and TensorRT-RTX takes no half byte), get 8.
    per_tensor : bool
        One scale for a whole 8-bit weight in place of one for each output channel.
    outputs : bool
        Q/DQ pairs on outputs of convolutions too, uint8 activations (255 where none is negative) and int32 biases.

    Raises
    ------
    ZooError
        A tensor has no limit, or ``kept`` names no such node.
    TargetError
        Nothing is left to quantise.
    """
    every = layers(model, weights_only=limits is None)
    known = {layer.node for layer in every}
    known |= {placement.OUTPUT + name for name in placement.outputs(model, every)} if outputs else set()
    unknown = sorted(set(kept) - known)
    if unknown:
        raise ZooError(f"layers to keep in float are not in the graph: {', '.join(unknown)}")
    chosen = {layer.node: layer for layer in every if layer.node not in kept}
    if not chosen:
        raise TargetError("no layer is left to quantise; export fp32 instead")
    places = placement.outputs(model, every, kept) if outputs else {}
    ends, positive = set(places.values()), placement.positive(model) if outputs else set()
    origin = placement.selected(model, ends)
    if limits is not None:
        missing = sorted(({name for layer in chosen.values() for name in layer.data} | ends) - set(limits))
        if missing:
            raise ZooError(f"no calibration range for {', '.join(missing[:5])}")
    result = onnx.ModelProto()
    if bits == 8:
        result.CopyFrom(model)
    else:
        result.CopyFrom(onnx.version_converter.convert_version(model, _INT4_OPSET))
    graph = result.graph
    arrays = {tensor.name: np.array(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    biased = {
        node.name
        for node in model.graph.node
        if outputs and node.name in chosen and placement.integer_bias(node, arrays, places)
    }
    made: dict[str, str] = {}
    weight_scales: dict[str, NDArray[np.float32]] = {}
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, value: NDArray[Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def data_scale(tensor: str) -> np.float32:
        assert limits is not None
        tensor = origin.get(tensor, tensor)
        return np.float32(limits[tensor] / (_UNSIGNED_LEVELS if tensor in positive else _LEVELS))

    def data_pair(tensor: str) -> str:
        if tensor not in made:
            scale = constant(f"{tensor}/scale", np.array(data_scale(tensor)))
            middle = np.array(0 if tensor in positive else 128, np.uint8)
            zero = constant(f"{tensor}/zero", middle if outputs else np.array(0, np.int8))
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

    def group_pair(tensor: str, axis: int, group: int) -> str:
        key = f"{tensor}#{axis}"
        if key not in made:
            values, scales = quantize_groups(arrays[tensor], axis, group)
            base = tensor if tensor not in made else key.replace("#", "/axis")
            graph.initializer.append(
                helper.make_tensor(
                    f"{base}/q", onnx.TensorProto.INT4, values.shape, _packed(values), raw=True
                )
            )
            scale = constant(f"{base}/scale", scales)
            nodes.append(
                helper.make_node(
                    "DequantizeLinear",
                    [f"{base}/q", scale],
                    [f"{base}/dq"],
                    f"{base}/DequantizeLinear",
                    axis=axis,
                    block_size=group,
                )
            )
            made[tensor] = made[key] = f"{base}/dq"
        return made[key]

    def weight_pair(tensor: str, axis: int, node: onnx.NodeProto) -> str:
        least = None
        if node.name in biased:
            least = placement.least_scales(arrays[node.input[2]], float(data_scale(node.input[0])))
        values, scales = quantize_weight(arrays[tensor], None if per_tensor else axis, least)
        key = f"{tensor}#{axis}"
        if key in made and not np.array_equal(weight_scales[made[key]], scales):
            key += f"#{node.name}"
        if key not in made:
            base = tensor if tensor not in made else key.replace("#", "/axis", 1).replace("#", "/")
            q = constant(f"{base}/q", values)
            scale = constant(f"{base}/scale", scales)
            zero = constant(f"{base}/zero", np.zeros(scales.shape, np.int8))
            nodes.append(
                helper.make_node(
                    "DequantizeLinear",
                    [q, scale, zero],
                    [f"{base}/dq"],
                    f"{base}/DequantizeLinear",
                    axis=None if per_tensor else axis,
                )
            )
            made[tensor] = made[key] = f"{base}/dq"
            weight_scales[made[key]] = scales
        return made[key]

    def bias_dequantized(node: onnx.NodeProto, weight: str) -> str:
        base, scales = f"{node.name}/bias", data_scale(node.input[0]) * weight_scales[weight]
        values = np.rint(arrays[node.input[2]] / scales.astype(np.float64)).astype(np.int32)
        inputs = [constant(f"{base}/q", values), constant(f"{base}/scale", np.asarray(scales, np.float32))]
        nodes.append(
            helper.make_node(
                "DequantizeLinear",
                inputs,
                [f"{base}/dq"],
                f"{base}/DequantizeLinear",
                axis=None if per_tensor else 0,
            )
        )
        return f"{base}/dq"

    for original in list(result.graph.node):
        node = onnx.NodeProto()
        node.CopyFrom(original)
        layer = chosen.get(node.name)
        for index, name in enumerate(original.input):
            if layer is not None and name in layer.weights and (index > 0 or layer.op == "Gather"):
                inner = _input_axis(node, arrays[name].ndim, layer.weights[name])
                even = arrays[name].size % 2 == 0
                group = group_size(arrays[name].shape[inner]) if bits == 4 and even else None
                node.input[index] = (
                    weight_pair(name, layer.weights[name], original)
                    if group is None
                    else group_pair(name, inner, group)
                )
            elif name in ends or (
                layer is not None and limits is not None and name in layer.data and index < 2
            ):
                node.input[index] = data_pair(name)
            elif index == 2 and node.name in biased:
                node.input[2] = bias_dequantized(original, node.input[1])
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    rewrites.drop_unused(result)
    rewrites.strip(result)
    onnx.checker.check_model(result)
    return result


def quantize_weight(
    weight: NDArray[Any], axis: int | None, least: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 values in [-127, 127] and one scale for each index of ``axis``, or a single one (shape ()) for None.

    No scale is below that of its channel in ``least``.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    wanted = np.abs(weight.astype(np.float64)).max(axis=others) / _LEVELS
    if least is not None:
        wanted = np.maximum(wanted, least if axis is not None else least.max())
    scales = np.where(wanted > 0, wanted, 1.0).astype(np.float32)
    shape = [1] * weight.ndim
    if axis is not None:
        shape[axis] = -1
    values = np.clip(np.rint(weight / scales.reshape(shape)), -_LEVELS, _LEVELS).astype(np.int8)
    return values, scales


def group_size(size: int) -> int | None:
    """Number of int4 values that share a scale on an axis of ``size``: a divisor of it from 16 to 64, next to 32."""
    least, most, wanted = _GROUPS
    fitting = [group for group in range(least, most + 1) if size % group == 0]
    return min(fitting, key=lambda group: (abs(group - wanted), group), default=None)


def quantize_groups(
    weight: NDArray[Any], axis: int, group: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int4 values in [-7, 7] (held as int8), and one scale for each ``group`` values along ``axis``.

    Of several scales, which clip the largest values or do not, a group gets the one with the least squared error.
    """
    moved = np.moveaxis(weight.astype(np.float64), axis, -1)
    parts = moved.reshape(*moved.shape[:-1], -1, group)
    largest = np.abs(parts).max(-1)
    scales = np.ones(largest.shape, np.float32)
    values = np.zeros(parts.shape, np.int8)
    least = np.full(largest.shape, np.inf)
    for share in _SHARES4:
        tried = np.where(largest > 0, largest * share / _LEVELS4, 1.0).astype(np.float32)
        rounded = np.clip(np.rint(parts / tried[..., None]), -_LEVELS4, _LEVELS4)
        error = np.square(rounded * tried[..., None] - parts).sum(-1)
        better = error < least
        least = np.where(better, error, least)
        scales = np.where(better, tried, scales)
        values = np.where(better[..., None], rounded.astype(np.int8), values)
    restored = np.ascontiguousarray(np.moveaxis(values.reshape(moved.shape), -1, axis))
    return restored, np.ascontiguousarray(np.moveaxis(scales, -1, axis))


def _packed(values: NDArray[np.int8]) -> bytes:
    """Two int4 values a byte, the first in the low half, as ONNX stores them."""
    flat = values.ravel().astype(np.uint8) & 0x0F
    flat = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    return (flat[::2] | (flat[1::2] << 4)).tobytes()


def ranged(model: onnx.ModelProto, *, outputs: bool = False) -> list[str]:
    """Tensors that :func:`quantize` needs a limit for, in graph order."""
    every = layers(model)
    names = dict.fromkeys(name for layer in every for name in layer.data)
    if outputs:
        names |= dict.fromkeys(placement.outputs(model, every).values())
    return list(names)


def sensitivity(
    model: onnx.ModelProto,
    limits: Mapping[str, float] | None,
    inputs: Sequence[Features],
    *,
    bits: Bits = 8,
    per_tensor: bool = False,
    outputs: bool = False,
) -> list[tuple[str, float]]:
    """Signal-to-quantisation-noise ratio (dB) of each layer's own quantisation, worst first.

    Beside each layer runs its quantised twin on the same float activations, so one pass over the inputs
    ranks all of them. With ``outputs`` also each ``output of NODE`` that others than quantised layers read.
    """
    probe, compared = _with_twins(model, limits, bits, per_tensor, outputs)
    if outputs:
        for name, tensor in placement.rounded(model, layers(model)).items():
            error = f"{tensor}/rounding"
            probe.graph.node.append(helper.make_node("Sub", [tensor, f"{tensor}/dq"], [error], error))
            compared[placement.OUTPUT + name] = tensor, error
    wanted: dict[str, tuple[str, str]] = {}
    for name, pair in compared.items():
        wanted[name] = (f"{name}/signal", f"{name}/noise")
        for source, sum_of in zip(pair, wanted[name], strict=True):
            probe.graph.node.append(
                helper.make_node("ReduceSumSquare", [source], [sum_of], sum_of, keepdims=0)
            )
    session = Session(probe, [name for pair in wanted.values() for name in pair])
    totals = {name: np.zeros(2) for name in wanted}
    for features in inputs:
        values = session.run(features)
        for name, (signal, noise) in wanted.items():
            totals[name] += (float(values[signal]), float(values[noise]))
    ratios = {name: _decibel(signal, noise) for name, (signal, noise) in totals.items()}
    return sorted(ratios.items(), key=lambda pair: (pair[1], pair[0]))


def output_ratio(plain: onnx.ModelProto, lossy: onnx.ModelProto, inputs: Sequence[Features]) -> float:
    """Signal-to-quantisation-noise ratio (dB) of the worst output of ``lossy``, over all ``inputs``."""
    reference, session = Session(plain), Session(lossy)
    names = [output.name for output in plain.graph.output]
    totals = {name: np.zeros(2) for name in names}
    for features in inputs:
        expected, found = reference.run(features), session.run(features)
        for name in names:
            exact = expected[name].astype(np.float64)
            totals[name] += np.square(exact).sum(), np.square(found[name] - exact).sum()
    return min(_decibel(signal, noise) for signal, noise in totals.values())


def _decibel(signal: float, noise: float) -> float:
    return 10 * float(np.log10(max(signal, 1e-30) / max(noise, 1e-30)))


def correct_bias(
    model: onnx.ModelProto,
    limits: Mapping[str, float],
    inputs: Sequence[Features],
    kept: Collection[str] = (),
    *,
    per_tensor: bool = False,
    outputs: bool = False,
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A copy of the float graph whose biases make up for the mean shift of each layer's own quantisation.

    The shift of a channel is the mean, over ``inputs`` and positions, of float output minus quantised output on the
    same float activations. It goes into the bias of a Conv, ConvTranspose or Gemm, or into the constant that is added
    to a MatMul; recurrent layers and bare products have no such place.

    Returns
    -------
    (ModelProto, tuple of str)
        The graph to quantise, and the layers that were corrected.
    """
    probe, compared = _with_twins(model, limits, 8, per_tensor, outputs)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    arrays = {tensor.name: np.array(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    places = {
        node.name: place
        for node in result.graph.node
        if node.name in compared and node.name not in kept
        for place in [_bias_place(node, result, arrays)]
        if place is not None
    }
    session = Session(probe, [compared[name][1] for name in places])
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    for features in inputs:
        values = session.run(features)
        for name, (_, _, axis) in places.items():
            error = np.moveaxis(values[compared[name][1]].astype(np.float64), axis, -1)
            flat = error.reshape(-1, error.shape[-1])
            sums[name] = sums.get(name, 0.0) + flat.sum(0)
            counts[name] = counts.get(name, 0) + len(flat)
    for name, (owner, index, _) in places.items():
        shift = sums[name] / counts[name]
        old = arrays[owner.input[index]].astype(np.float64) if index < len(owner.input) else 0.0
        fresh = f"{name}/corrected_bias"
        result.graph.initializer.append(numpy_helper.from_array((old + shift).astype(np.float32), fresh))
        if index < len(owner.input):
            owner.input[index] = fresh
        else:
            owner.input.append(fresh)
    rewrites.drop_unused(result)
    rewrites.strip(result)
    return result, tuple(places)


def _bias_place(
    node: onnx.NodeProto, model: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]
) -> tuple[onnx.NodeProto, int, int] | None:
    """Node and input that hold a layer's bias, and the channel axis of the layer's output; None without one."""
    if node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        if any(a.name == "beta" and a.f != 1.0 for a in node.attribute):
            return None
        if len(node.input) > 2 and (node.input[2] not in arrays or arrays[node.input[2]].ndim != 1):
            return None
        return node, 2, 1
    readers = rewrites.readers_of(model)[node.output[0]]
    if node.op_type != "MatMul" or len(readers) != 1 or readers[0][0].op_type != "Add":
        return None
    if node.output[0] in {output.name for output in model.graph.output}:
        return None
    add, index = readers[0]
    weight, bias = arrays.get(node.input[1]), arrays.get(add.input[1 - index])
    if weight is None or bias is None or bias.ndim != 1 or weight.ndim != 2 or len(bias) != weight.shape[1]:
        return None
    return add, 1 - index, -1


def _with_twins(
    model: onnx.ModelProto, limits: Mapping[str, float] | None, bits: Bits, per_tensor: bool, outputs: bool
) -> tuple[onnx.ModelProto, dict[str, tuple[str, str]]]:
    """The float graph with a quantised twin of each layer on the same activations.

    Returns the graph, and for each layer its first output tensor and that minus the twin's.
    """
    quantized = quantize(model, limits, bits=bits, per_tensor=per_tensor, outputs=outputs)
    probe = onnx.ModelProto()
    probe.CopyFrom(quantized)
    del probe.graph.initializer[:]
    probe.graph.initializer.extend(model.graph.initializer)
    float_nodes = {node.name: node for node in model.graph.node}
    known = {tensor.name for tensor in probe.graph.initializer}
    probe.graph.initializer.extend(
        tensor for tensor in quantized.graph.initializer if tensor.name not in known
    )
    added: set[str] = set()
    compared: dict[str, tuple[str, str]] = {}
    names = {layer.node for layer in layers(model, weights_only=limits is None)}
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
            compared[node.name] = out, f"{out}/error"
            nodes.append(helper.make_node("Sub", [out, f"{out}/twin"], [f"{out}/error"], f"{node.name}/Sub"))
    del probe.graph.node[:]
    probe.graph.node.extend(nodes)
    return probe, compared


_OPS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "GRU", "LSTM", "RNN")


def _is_table(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether a Gather looks rows up in a constant table of float32 by indices that are not constant."""
    table = constants.get(node.input[0])
    along = next((a.i for a in node.attribute if a.name == "axis"), 0)
    return (
        table is not None
        and along == 0
        and len(table.dims) == 2
        and table.data_type == onnx.TensorProto.FLOAT
        and node.input[1] not in constants
    )


def _input_axis(node: onnx.NodeProto, ndim: int, channel: int) -> int:
    """Axis of a weight along which a layer sums over its inputs; of an embedding table the row itself."""
    return 2 if node.op_type in ("GRU", "LSTM", "RNN") else 1 - channel


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
