# SPDX-License-Identifier: Apache-2.0
"""The PyTorch reference computing what its INT8 graph computes, with gradients.

The reference is captured by torch.export and run node by node; each convolution, matrix product and recurrent node
that :func:`zoo.export.quantize.layers` names gets the same Q/DQ pairs as in the ONNX graph. Which call is which layer
is found by its data, on a real input, so nothing here knows any model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import ZooError
from zoo.export import quantize
from zoo.export.graph import Graph, capture
from zoo.export.inputs import Features
from zoo.export.parity import Reference
from zoo.export.session import Session
from zoo.models.training import one_thread

if TYPE_CHECKING:
    from zoo.card import Card, Variant
    from zoo.export.weights import Tensors

_LEVELS = 127
#: Two tensors are the same one if sum and maximum of their absolute values are, but for rounding.
_SAME = 1e-4

#: A call of the captured reference: node name, and which of the layers that one call makes.
Site = tuple[str, int]


@dataclass(frozen=True)
class Print:
    """What a tensor is known by, whatever its layout, and whether zeros are padded to it or not."""

    total: float
    largest: float

    @staticmethod
    def of(values: NDArray[Any]) -> Print:
        """Of a tensor's values."""
        magnitude = np.abs(values.astype(np.float64))
        return Print(float(magnitude.sum()), float(magnitude.max(initial=0.0)))

    def same(self, other: Print) -> bool:
        """Whether both are of the same tensor."""
        return all(
            math.isclose(a, b, rel_tol=_SAME, abs_tol=1e-12)
            for a, b in ((self.total, other.total), (self.largest, other.largest))
        )


@dataclass
class Plan:
    """One quantised call: operand index to data tensor of the ONNX graph, and whether its weights are quantised."""

    node: str
    data: dict[int, str]
    weights: bool


class _Round(torch.autograd.Function):
    """Round half to even; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


def _round(x: Tensor) -> Tensor:
    return cast("Tensor", _Round.apply(x))  # type: ignore[no-untyped-call]


def fake_quantize(x: Tensor, limit: Tensor) -> Tensor:
    """QuantizeLinear and DequantizeLinear to int8 with ``limit`` at 127.

    The gradient passes inside the range; ``limit`` gets that of a learned step size.
    """
    scale = limit / _LEVELS
    return _round(torch.clamp(x / scale, -_LEVELS - 1, _LEVELS)) * scale


def fake_quantize_weights(weights: Sequence[Tensor], axis: int) -> list[Tensor]:
    """:func:`zoo.export.quantize.quantize_weight` and back; the tensors share one scale for each index of ``axis``."""
    others = [i for i in range(weights[0].ndim) if i != axis]
    with torch.no_grad():
        largest = torch.stack([weight.abs().amax(others) for weight in weights]).amax(0)
        scale = torch.where(largest > 0, largest / _LEVELS, torch.ones_like(largest))
        shape = [1] * weights[0].ndim
        shape[axis] = -1
        scale = scale.reshape(shape)
    return [_round(torch.clamp(weight / scale, -_LEVELS, _LEVELS)) * scale for weight in weights]


class FakeQuantized(torch.fx.Interpreter):
    """The reference in evaluation mode with the Q/DQ pairs of its INT8 graph.

    Parameters
    ----------
    card, variant, tensors
        The reference and its weights.
    graph : Graph
        The float32 ONNX graph of the same weights.
    limits : mapping
        Data tensor of the graph to the absolute value that becomes 127.
    features : Features
        One real input that layers are told apart on.

    Raises
    ------
    ZooError
        A layer of the graph is not found among the reference's calls.
    """

    def __init__(
        self,
        card: Card,
        variant: Variant,
        tensors: Tensors,
        graph: Graph,
        limits: Mapping[str, float],
        features: Features,
    ) -> None:
        from zoo.export.weights import build_reference

        program = capture(card, variant, build_reference(card, variant, tensors))
        super().__init__(program)
        self._outputs = [spec.name for spec in card.engine_outputs(variant)]
        self._plans: dict[Site, Plan] = {}
        self._prints: dict[Site, dict[int, Print]] | None = None
        self._active = False
        #: Natural logarithms of the limits: they stay positive, and a step means the same for small and large ones.
        self.log_limits = {
            name: torch.tensor(math.log(value), dtype=torch.float32) for name, value in limits.items()
        }
        self._match(variant.name, graph, features)
        used = {tensor for plan in self._plans.values() for tensor in plan.data.values()}
        self.log_limits = {name: value for name, value in self.log_limits.items() if name in used}

    def forward(self, inputs: Sequence[Tensor], *, quantized: bool = True) -> dict[str, Tensor]:
        """Outputs by name for batched engine inputs, with or without the Q/DQ pairs."""
        self._active = quantized
        found = self.run(*inputs)
        arrays = (found,) if isinstance(found, Tensor) else found
        return dict(zip(self._outputs, arrays, strict=True))

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The reference's parameters that take gradients, by their names in its state dict."""
        return {name: value for name, value in self.module.named_parameters() if value.requires_grad}

    def limits(self) -> dict[str, float]:
        """The current limits; float32 values."""
        return {name: float(torch.exp(value.detach())) for name, value in self.log_limits.items()}

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run a node; those with a rule go through it."""
        rule = _RULES.get(_name(n.target)) if n.op == "call_function" else None
        if rule is None:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        return rule(_Call(self, n), args, kwargs)

    def _match(self, name: str, graph: Graph, features: Features) -> None:
        layers = quantize.layers(graph.model)
        wanted = list(dict.fromkeys(tensor for layer in layers for tensor in layer.data))
        inputs = [value.name for value in graph.model.graph.input]
        values = Session(graph.model, [tensor for tensor in wanted if tensor not in inputs]).run(features)
        values.update({key: array[None] for key, array in zip(inputs, features, strict=True)})
        expected = {tensor: Print.of(values[tensor]) for tensor in wanted}
        self._prints = {}
        with torch.no_grad():
            self.forward([torch.from_numpy(np.array(array[None])) for array in features], quantized=False)
        sites, self._prints = self._prints, None
        missing = []
        for layer in layers:
            for site, prints in sites.items():
                if site in self._plans:
                    continue
                data: dict[int, str] = {}
                for tensor in layer.data:
                    index = next(
                        (i for i, p in prints.items() if i not in data and p.same(expected[tensor])), None
                    )
                    if index is not None:
                        data[index] = tensor
                if len(data) == len(layer.data):
                    self._plans[site] = Plan(layer.node, data, bool(layer.weights))
                    break
            else:
                missing.append(f"{layer.node} ({layer.op})")
        if missing:
            raise ZooError(
                f"{name}: quantisation-aware training does not find {len(missing)} layers of the INT8 graph in the "
                f"reference: {', '.join(missing[:5])}; write them as plain convolutions, matrix products or recurrent "
                "layers, or export without it"
            )


@dataclass
class _Call:
    """One call of the captured reference while it runs. A call that makes several layers numbers them in order."""

    net: FakeQuantized
    node: torch.fx.Node
    index: int = field(default=-1)

    def layer(self) -> _Call:
        """Begin the call's next layer."""
        self.index += 1
        return self

    def operand(self, i: int, tensor: Tensor, axis: int | None = None) -> Tensor:
        """The layer's operand ``i`` as the INT8 graph has it; as a weight its channels lie along ``axis``."""
        net, site = self.net, (self.node.name, self.index)
        if net._prints is not None:
            net._prints.setdefault(site, {})[i] = Print.of(tensor.detach().numpy())
            return tensor
        plan = net._plans.get(site) if net._active else None
        if plan is None:
            return tensor
        if i in plan.data:
            return fake_quantize(tensor, torch.exp(net.log_limits[plan.data[i]]))
        if plan.weights and axis is not None:
            return fake_quantize_weights([tensor], axis)[0]
        return tensor

    def weights(self, tensors: Sequence[Tensor], axis: int) -> list[Tensor]:
        """Weights that are one tensor of the INT8 graph."""
        plan = self.net._plans.get((self.node.name, self.index)) if self.net._active else None
        if plan is None or not plan.weights:
            return list(tensors)
        return fake_quantize_weights(tensors, axis)

    def compute(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The call itself."""
        return cast("Callable[..., Any]", self.node.target)(*args, **kwargs)


_Rule = Callable[[_Call, Sequence[Any], Mapping[str, Any]], Any]


def _product(first: int, axis: int | None) -> _Rule:
    """A call whose operands ``first`` and ``first + 1`` are multiplied; ``axis`` of the second holds the channels."""

    def rule(call: _Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        layer, changed = call.layer(), list(args)
        changed[first] = layer.operand(0, args[first])
        changed[first + 1] = layer.operand(1, args[first + 1], axis)
        return call.compute(changed, kwargs)

    return rule


def _conv_transpose(call: _Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
    return _product(0, 1 if groups == 1 else None)(call, args, kwargs)


def _attention(call: _Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Scaled dot product as torch's ONNX exporter writes it: the root of the scale on either side, two products."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    query, key, value = given["query"], given["key"], given["value"]
    if given.get("enable_gqa"):
        return call.compute(args, kwargs)
    scale = given.get("scale")
    root = math.sqrt(scale if scale is not None else 1 / math.sqrt(query.shape[-1]))
    layer = call.layer()
    scores = torch.matmul(layer.operand(0, query * root), layer.operand(1, key.transpose(-2, -1) * root))
    mask = given.get("attn_mask")
    if given.get("is_causal"):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    layer = call.layer()
    return torch.matmul(layer.operand(0, torch.softmax(scores, -1)), layer.operand(1, value))


def _recurrent(call: _Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """An LSTM, GRU or RNN, layer by layer: each is one node of the ONNX graph."""
    x, state, params, biased, layers, dropout, train, both, batch_first = args
    single = isinstance(state, Tensor)
    states = [state] if single else list(state)
    sides, step = (2 if both else 1), (4 if biased else 2)
    ends: list[list[Tensor]] = [[] for _ in states]
    for k in range(layers):
        layer = call.layer()
        own = list(params[k * sides * step : (k + 1) * sides * step])
        for kind in (0, 1):
            own[kind::step] = layer.weights(own[kind::step], 0)
        begin = [value[k * sides : (k + 1) * sides] for value in states]
        x, *end = call.compute(
            (
                layer.operand(0, x),
                begin[0] if single else begin,
                own,
                biased,
                1,
                dropout,
                train,
                both,
                batch_first,
            ),
            kwargs,
        )
        for found, value in zip(ends, end, strict=True):
            found.append(value)
    return (x, *(torch.cat(found) for found in ends))


_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "linear"), _product(0, 0)),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _conv_transpose),
    **dict.fromkeys(("matmul", "mm", "bmm"), _product(0, 1)),
    **dict.fromkeys(("addmm", "baddbmm"), _product(1, 1)),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    "scaled_dot_product_attention": _attention,
}


def _name(target: Any) -> str:
    """Name of an aten operator without its overload; empty for anything else."""
    packet = getattr(target, "overloadpacket", None)
    return "" if packet is None else str(packet.__name__)


class TunedReference(Reference):
    """The tuned model as the reference of its INT8 artifact: its weights mean little without the Q/DQ pairs."""

    def __init__(self, net: FakeQuantized) -> None:
        self._tuned = net

    def run(self, features: Features) -> dict[str, NDArray[Any]]:
        """Outputs by name, with the batch dimension."""
        with one_thread(), torch.no_grad():
            found = self._tuned.forward([torch.from_numpy(np.array(array[None])) for array in features])
        return {name: value.numpy() for name, value in found.items()}

    def modules(self, features: Features) -> dict[str, NDArray[Any]]:
        """Empty: a captured graph has no modules."""
        return {}
