# SPDX-License-Identifier: Apache-2.0
"""PyTorch reference to ONNX: traced once, then finished for any set of weights in a fraction of the time."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch.export._patches import (
    register_gru_while_loop_decomposition,
    register_lstm_while_loop_decomposition,
)

from zoo.errors import TargetError, ZooError
from zoo.export import rewrites
from zoo.export.weights import IGNORED
from zoo.specs import Dim, DType, Range3, TensorSpec

if TYPE_CHECKING:
    from zoo.card import Card, Variant
    from zoo.export.weights import Tensors

OPSET = 20

_DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "int64": torch.int64,
    "int32": torch.int32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
_ELEMENTS: Mapping[int, DType] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.BOOL: "bool",
}


@dataclass(frozen=True)
class Graph:
    """An ONNX model, and for the tensors that a module of the reference returns, that module's name."""

    model: onnx.ModelProto
    modules: Mapping[str, str]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profile: Mapping[str, Range3]

    @property
    def data(self) -> bytes:
        """The serialised model."""
        return rewrites.serialize(self.model)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of ``data``."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def opset(self) -> int:
        """Version of the ONNX operators: ``OPSET``, or later where the precision needs it."""
        version: int = next(entry.version for entry in self.model.opset_import if entry.domain == "")
        return version

    def with_model(self, model: onnx.ModelProto) -> Graph:
        """The same tensors around another model (quantised, cast)."""
        return Graph(model, self.modules, self.inputs, self.outputs, self.profile)


class Trace:
    """The reference's graph with the original parameters as initialisers.

    Parameters
    ----------
    card, variant
        What to trace.

    Raises
    ------
    ZooError
        The card's profile lacks a dynamic dimension, or torch cannot export the reference.
    TargetError
        The reference has an operation that ONNX does not have.
    """

    def __init__(self, card: Card, variant: Variant) -> None:
        self.profile = shape_profile(card, variant)
        self._name = variant.name
        inputs = card.file.engine_inputs
        net = card.build(variant.config).eval()
        examples, shapes = _examples(card, self.profile)
        with _quiet(), _free_time():
            try:
                program = torch.onnx.export(
                    net,
                    examples,
                    dynamo=True,
                    opset_version=OPSET,
                    input_names=[spec.name for spec in inputs],
                    output_names=[spec.name for spec in card.engine_outputs(variant)],
                    dynamic_shapes=shapes,
                    optimize=False,
                    verbose=False,
                )
            except torch.onnx.errors.OnnxExporterError as error:
                raise TargetError(
                    f"{variant.name}: torch cannot export the reference to ONNX: {_first(error)}"
                ) from error
        assert program is not None
        model = program.model_proto
        names = {name for name in net.state_dict() if not name.endswith(IGNORED)}
        del program, net
        # Weights are filled in by finish: a second copy of large ones would only take memory.
        for tensor in model.graph.initializer:
            if tensor.name in names:
                tensor.ClearField("raw_data")
        self._model: onnx.ModelProto = rewrites.compact(model)
        declared = [spec.name for spec in card.engine_outputs(variant)]
        actual = [value.name for value in self._model.graph.output]
        if declared != actual:
            raise ZooError(
                f"{variant.name}: the card declares outputs {declared}, the reference returns {len(actual)}"
            )

    def finish(self, tensors: Tensors) -> Graph:
        """The optimised graph with these weights (checked before; see :mod:`zoo.export.weights`).

        Raises
        ------
        ZooError
            A foldable BatchNormalization is left, or the result is not valid ONNX.
        """
        import onnxscript.optimizer

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for tensor in model.graph.initializer:
            if tensor.name in tensors:
                dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
                tensor.raw_data = (
                    np.ascontiguousarray(tensors[tensor.name]).astype(dtype, copy=False).tobytes()
                )
        rewrites.fold_batch_norm(model)
        with _quiet():
            optimized = onnxscript.optimizer.optimize(model)
        assert isinstance(optimized, onnx.ModelProto)
        del model
        rewrites.fold_batch_norm(optimized)
        rewrites.drop_unused(optimized)
        modules = rewrites.name_by_scope(optimized)
        rewrites.drop_zero_states(optimized)
        rewrites.fold_weights(optimized)
        rewrites.squeeze_directions(optimized)
        rewrites.fold_arithmetic(optimized)
        rewrites.strip(optimized)
        data = rewrites.serialize(optimized)
        del optimized  # with all that the rewrites replaced
        try:
            onnx.checker.check_model(data, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ZooError(f"{self._name}: the exported graph is not valid ONNX: {_first(error)}") from error
        finished = onnx.ModelProto.FromString(data)
        return Graph(
            finished,
            modules,
            tuple(tensor_spec(value) for value in finished.graph.input),
            tuple(tensor_spec(value) for value in finished.graph.output),
            self.profile,
        )


def capture(card: Card, variant: Variant, net: torch.nn.Module) -> torch.fx.GraphModule:
    """The reference as a graph of aten operators on its own parameters, with the shapes that :class:`Trace` has.

    Raises
    ------
    ZooError
        torch cannot export the reference.
    """
    examples, shapes = _examples(card, shape_profile(card, variant))
    with _quiet(), _free_time():
        try:
            program = torch.export.export(net, examples, dynamic_shapes=shapes, strict=False)
        except Exception as error:  # torch.export raises whatever the model's own code does
            raise ZooError(f"{variant.name}: torch cannot export the reference: {_first(error)}") from error
        return program.module(check_guards=False)


def shape_profile(card: Card, variant: Variant) -> dict[str, Range3]:
    """Least, usual and greatest size of each dynamic dimension of the inputs; the batch is 1 unless given.

    Raises
    ------
    ZooError
        A dimension has no entry, an entry is not in order, or names no dimension of the card.
    """
    dims = {dim for spec in card.file.engine_inputs for dim in spec.shape if isinstance(dim, str)}
    profile: dict[str, Range3] = {"batch": (1, 1, 1)} if "batch" in dims else {}
    profile.update(variant.profile)
    for dim in sorted(dims - set(profile)):
        raise ZooError(f"{variant.name}: the card's profile gives no size for dimension {dim!r}")
    for dim, (low, usual, high) in profile.items():
        if dim not in dims:
            raise ZooError(
                f"{variant.name}: the card's profile names dimension {dim!r}, which no engine input has"
            )
        if not low <= usual <= high:
            raise ZooError(
                f"{variant.name}: the card's profile of {dim!r} is {low}, {usual}, {high}, not in order"
            )
    return dict(sorted(profile.items()))


def tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    """A graph input or output in our own types."""
    kind = value.type.tensor_type
    shape: tuple[Dim, ...] = tuple(dim.dim_param or dim.dim_value for dim in kind.shape.dim)
    return TensorSpec(name=value.name, dtype=_ELEMENTS[kind.elem_type], shape=shape)


def _examples(
    card: Card, profile: Mapping[str, Range3]
) -> tuple[tuple[torch.Tensor, ...], tuple[dict[int, Any], ...]]:
    """Inputs to trace with, and their dynamic dimensions."""
    inputs = card.file.engine_inputs
    return tuple(_example(spec, profile) for spec in inputs), tuple(
        _dynamic_dims(spec, profile) for spec in inputs
    )


def _example(spec: TensorSpec, profile: Mapping[str, Range3]) -> torch.Tensor:
    sizes = []
    for dim in spec.shape:
        if isinstance(dim, int):
            sizes.append(dim)
            continue
        low, usual, high = profile[dim]
        # torch takes a dynamic dimension of size 1 for a constant.
        sizes.append(usual if low == high else min(max(usual, 2), high))
    generator = torch.Generator().manual_seed(0)
    dtype = _DTYPES[spec.dtype]
    if dtype.is_floating_point:
        return torch.randn(sizes, generator=generator).to(dtype)
    return torch.randint(0, 2, sizes, generator=generator).to(dtype)


def _dynamic_dims(spec: TensorSpec, profile: Mapping[str, Range3]) -> dict[int, Any]:
    found = {}
    for axis, dim in enumerate(spec.shape):
        if isinstance(dim, str):
            low, _, high = profile[dim]
            if low != high:
                found[axis] = torch.export.Dim(dim, min=low, max=high)
    return found


@contextmanager
def _free_time() -> Iterator[None]:
    """Let the time of recurrent layers vary in torch.export; they stay one operator all the same."""
    with register_lstm_while_loop_decomposition(), register_gru_while_loop_decomposition():
        for op in (torch.ops.aten.lstm.input, torch.ops.aten.gru.input):
            op._dispatch_cache.clear()  # an earlier export leaves what it did without these
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's own logging: what matters is raised."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _first(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
