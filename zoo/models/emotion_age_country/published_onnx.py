# SPDX-License-Identifier: Apache-2.0
"""Weights out of the published ONNX file, by the structure of its graph.

An exporter renames, transposes and computes weights as it likes. What it cannot change is the order in which a signal
meets them: convolutions, norms and linear maps come in the order of the network's layers. The three maps of an attention
are told apart by which product, and which side of it, each one reaches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.models.emotion_age_country.model import CONVOLUTIONS

F32 = NDArray[np.float32]
#: What gives sizes, not values: a path through them is none of the signal's.
_SIZES = ("Shape", "Size")
#: Maps of a Transformer layer, and the three others: projection, dense and out_proj.
_LINEAR, _OTHERS = 6, 3


@dataclass(frozen=True)
class _Part:
    """A node with weights: ``conv``, ``norm`` or ``linear``; the weight as torch has it, and the bias."""

    kind: str
    weight: str
    bias: str
    turned: bool
    output: str


class _Graph:
    """A graph's nodes in order, and which tensors follow from constants alone."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self.nodes = list(model.graph.node)
        self._arrays: dict[str, NDArray[Any]] = {}
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._to_array = numpy_helper.to_array
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self.readers: dict[str, list[tuple[Any, int]]] = {}
        self.fixed = set(self._stored)
        for node in self.nodes:
            for index, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, index))
            if node.op_type == "Constant" or (node.input and all(n in self.fixed for n in node.input if n)):
                self.fixed.update(node.output)

    def array(self, name: str) -> NDArray[Any]:
        """A constant's value, computed where the graph computes it."""
        if name not in self._arrays:
            if name in self._stored:
                self._arrays[name] = self._to_array(self._stored[name])
            else:
                from onnx.reference import ReferenceEvaluator

                node = self.producers[name]
                feeds = {source: self.array(source) for source in node.input if source}
                values = ReferenceEvaluator(node).run(None, feeds)
                self._arrays.update(zip(node.output, map(np.asarray, values), strict=True))
        return self._arrays[name]

    def rank(self, name: str) -> int:
        """Number of dimensions of a constant; -1 for other tensors."""
        if name not in self.fixed:
            return -1
        return len(self._stored[name].dims) if name in self._stored else self.array(name).ndim

    def parts(self) -> Iterator[_Part]:
        """Nodes with weights, in order."""
        for node in self.nodes:
            data, fixed = [n for n in node.input if n not in self.fixed], self.fixed
            if not data or node.output[0] in fixed:
                continue
            if node.op_type == "Conv" and self.rank(node.input[1]) == 3 and len(node.input) > 2:
                yield _Part("conv", node.input[1], node.input[2], False, node.output[0])
            elif node.op_type == "LayerNormalization" and len(node.input) > 2:
                yield _Part("norm", node.input[1], node.input[2], False, node.output[0])
            elif node.op_type == "Gemm" and self.rank(node.input[1]) == 2 and len(node.input) > 2:
                across = any(a.name == "transB" and a.i for a in node.attribute)
                yield _Part("linear", node.input[1], node.input[2], not across, node.output[0])
            elif node.op_type == "MatMul" and self.rank(node.input[1]) == 2:
                added = self._added(node)
                if added is not None:
                    yield _Part("linear", node.input[1], added[0], True, added[1])
            elif node.op_type == "Mul":
                scale = next((name for name in node.input if self.rank(name) == 1), None)
                added = self._added(node)
                if scale is not None and added is not None:
                    yield _Part("norm", scale, added[0], False, added[1])

    def _added(self, node: Any) -> tuple[str, str] | None:
        """The constant vector that is added to a node's output, and the sum."""
        for reader, index in self.readers.get(node.output[0], ()):
            if reader.op_type == "Add" and self.rank(reader.input[1 - index]) == 1:
                return reader.input[1 - index], reader.output[0]
        return None

    def product(self, tensor: str) -> tuple[int, int]:
        """Which product of two signals a tensor reaches first: its place in the graph, and the side."""
        places = {id(node): place for place, node in enumerate(self.nodes)}
        todo, seen = [tensor], {tensor}
        while todo:
            name = todo.pop(0)
            for node, index in self.readers.get(name, ()):
                if node.op_type in ("MatMul", "Einsum") and not self.fixed.intersection(node.input):
                    return places[id(node)], index
                if node.op_type not in _SIZES:
                    fresh = [output for output in node.output if output not in seen]
                    seen.update(fresh)
                    todo += fresh
        return -1, -1


def read(path: Path) -> dict[str, F32]:
    """Tensors of an exported encoder with its regression head, named as in the official state dict.

    Raises
    ------
    DataError
        It is no ONNX file, or its weights come in another order than the encoder's.
    """
    import onnx

    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's and onnx's own errors have no common base
        raise DataError(f"{path}: not a readable ONNX file: {error}") from error
    graph = _Graph(model)
    parts = list(graph.parts())
    layers, left = divmod(sum(part.kind == "linear" for part in parts) - _OTHERS, _LINEAR)
    if layers < 1 or left:
        raise DataError(
            f"{path}: {sum(part.kind == 'linear' for part in parts)} linear maps with a bias in its graph; the encoder has "
            f"{_LINEAR} a layer and {_OTHERS} more"
        )
    names = list(_order(layers))
    for place, (part, (kind, name)) in enumerate(zip(parts, names, strict=False)):
        if part.kind != kind:
            raise DataError(
                f"{path}: weights {place + 1} of its graph, {part.weight}, are of a {part.kind}; the encoder has a {kind} "
                f"there, {name}"
            )
    if len(parts) != len(names):
        raise DataError(
            f"{path}: {len(parts)} nodes with weights in its graph; an encoder of {layers} layers has {len(names)}"
        )
    found: dict[str, F32] = {}
    for name, part in _named(graph, parts, [name for _, name in names], path).items():
        weight, bias = graph.array(part.weight), graph.array(part.bias)
        if part.turned:
            weight = weight.T
        if "pos_conv" in name:
            gain = np.sqrt(np.square(weight.astype(np.float64)).sum(axis=(0, 1), keepdims=True))
            found[f"{name}.weight_g"], found[f"{name}.weight_v"] = gain.astype(np.float32), weight
        else:
            found[f"{name}.weight"] = weight
        found[f"{name}.bias"] = bias
    return {name: np.array(value, np.float32, order="C") for name, value in found.items()}


def _order(layers: int) -> Iterator[tuple[str, str]]:
    """Kind and name of every module with weights, as a signal meets them."""
    for i in range(len(CONVOLUTIONS)):
        base = f"wav2vec2.feature_extractor.conv_layers.{i}"
        yield from (("conv", f"{base}.conv"), ("norm", f"{base}.layer_norm"))
    yield "norm", "wav2vec2.feature_projection.layer_norm"
    yield "linear", "wav2vec2.feature_projection.projection"
    yield "conv", "wav2vec2.encoder.pos_conv_embed.conv"
    for i in range(layers):
        base = f"wav2vec2.encoder.layers.{i}"
        yield "norm", f"{base}.layer_norm"
        yield from (("linear", f"{base}.attention.{kind}_proj") for kind in ("q", "k", "v", "out"))
        yield "norm", f"{base}.final_layer_norm"
        yield "linear", f"{base}.feed_forward.intermediate_dense"
        yield "linear", f"{base}.feed_forward.output_dense"
    yield "norm", "wav2vec2.encoder.layer_norm"
    yield from (("linear", "classifier.dense"), ("linear", "classifier.out_proj"))


def _named(graph: _Graph, parts: list[_Part], names: list[str], path: Path) -> Mapping[str, _Part]:
    """Names to parts, queries, keys and values sorted out."""
    named = dict(zip(names, parts, strict=True))
    for name in [name for name in names if name.endswith(".q_proj")]:
        base = name.removesuffix("q_proj")
        three = [named[f"{base}{kind}_proj"] for kind in ("q", "k", "v")]
        reached = {part: graph.product(part.output) for part in three}
        value = max(three, key=lambda part: reached[part])
        scores = sorted((part for part in three if part is not value), key=lambda part: reached[part][1])
        places = [reached[part] for part in (*scores, value)]
        if (
            [side for _, side in places] != [0, 1, 1]
            or places[0][0] != places[1][0]
            or places[1] >= places[2]
        ):
            raise DataError(f"{path}: {base}: queries, keys and values cannot be told apart in its graph")
        named.update(zip((f"{base}q_proj", f"{base}k_proj", f"{base}v_proj"), (*scores, value), strict=True))
    return named
