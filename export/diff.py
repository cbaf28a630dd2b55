# SPDX-License-Identifier: Apache-2.0
"""Where do two artifacts begin to differ? Every intermediate tensor that both sides name, in graph order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from msgspec import Struct
from numpy.typing import NDArray

from zoo import registry
from zoo.bundle import Bundle, open_bundle
from zoo.errors import InputError, TargetError
from zoo.export.graph import Trace
from zoo.export.inputs import Features, front_of
from zoo.export.parity import TOLERANCE, Reference
from zoo.export.session import Session
from zoo.export.weights import build_reference, load_weights
from zoo.runtime.modality import Front, Given
from zoo.specs import Precision

Tensors = Mapping[str, NDArray[Any]]
#: So many roundings of float32 at a tensor's largest value are no difference, however little the tensor varies.
_ROUNDINGS = 4


class TensorDiff(Struct, frozen=True, kw_only=True):
    """One tensor of both sides. Errors are shares of the range that the tensor has on side A."""

    tensor: str
    node: str
    op: str
    shape: tuple[int, ...]
    max_error: float | None
    """Largest difference; null where a shape or a NaN differs."""
    rms_error: float | None
    sqnr_db: float | None
    """Signal over difference; null where the sides are equal."""
    over: bool


class DiffReport(Struct, frozen=True, kw_only=True):
    """All tensors that both sides have, in the order of A's graph; the features come first, the outputs last."""

    a: str
    b: str
    tolerance: float
    tensors: tuple[TensorDiff, ...]
    first_over: TensorDiff | None
    only_a: int
    only_b: int


@dataclass(frozen=True)
class Origin:
    """The node that makes a tensor."""

    node: str
    op: str


class Side(Protocol):
    """One artifact, laid open."""

    name: str
    precision: Precision

    def features(self, given: Given) -> Features:
        """What its own pipelines make of a raw input: a file's path, or a text, or what the model else takes."""
        ...

    def tensors(self, features: Features) -> Tensors:
        """Every tensor that it can show, in graph order, outputs included."""
        ...

    def origins(self) -> Mapping[str, Origin]:
        """Where each tensor comes from."""
        ...


class _OnnxSide:
    def __init__(self, name: str, precision: Precision, front: Front, model: onnx.ModelProto) -> None:
        self.name, self.precision, self._front = name, precision, front
        self._origins = {
            output: Origin(node.name, node.op_type)
            for node in model.graph.node
            for output in node.output
            if output
        }
        self._session = Session(model, list(self._origins))

    def features(self, given: Given) -> Features:
        return self._front.features(given)[0]

    def tensors(self, features: Features) -> Tensors:
        found = self._session.run(features)
        return {name: found[name] for name in self._origins if name in found}

    def origins(self) -> Mapping[str, Origin]:
        return self._origins


class _OpenVinoSide:
    def __init__(self, bundle: Bundle) -> None:
        import openvino as ov

        from zoo.runtime.engines.openvino import hint

        manifest = bundle.manifest
        self.name, self.precision = str(bundle.path), manifest.precision
        self._front = Front.of(bundle)
        spec = manifest.engines[0]
        core = ov.Core()
        model = core.read_model(bundle.read(spec.file), bundle.read(spec.extra_files[0]))
        self._inputs = [tensor.name for tensor in spec.inputs]
        self._origins: dict[str, Origin] = {}
        shown = []
        for op in model.get_ordered_ops():
            if op.get_type_name() in ("Parameter", "Result", "Constant"):
                continue
            for port in op.outputs():
                names = sorted(port.get_names())
                if names:
                    shown.append(port)
                for name in names:
                    self._origins[name] = Origin(op.get_friendly_name(), op.get_type_name())
        model.add_outputs(shown)
        self._compiled = core.compile_model(
            model, "CPU", {"INFERENCE_PRECISION_HINT": hint(spec.precision), "INFERENCE_NUM_THREADS": "1"}
        )

    def features(self, given: Given) -> Features:
        return self._front.features(given)[0]

    def tensors(self, features: Features) -> Tensors:
        feeds = {
            name: np.ascontiguousarray(array[None])
            for name, array in zip(self._inputs, features, strict=True)
        }
        results = self._compiled(feeds)
        found = {
            name: np.array(results[port]) for port in self._compiled.outputs for name in port.get_names()
        }
        return {name: found[name] for name in self._origins if name in found}

    def origins(self) -> Mapping[str, Origin]:
        return self._origins


class _ReferenceSide:
    def __init__(self, name: str) -> None:
        card, variant = registry.find(name)
        weights = load_weights(card, variant, None)
        graph = Trace(card, variant).finish(weights.tensors)
        self.name = f"{variant.name} (PyTorch)"
        self.precision: Precision = "fp32"
        self._front = front_of(card, variant)
        self._modules = graph.modules
        outputs = [output.name for output in card.engine_outputs(variant)]
        self._reference = Reference(build_reference(card, variant, weights.tensors), outputs)
        made = {output: node for node in graph.model.graph.node for output in node.output}
        names = [name for name in made if name in self._modules or name in outputs]
        self._origins = {
            name: Origin(self._modules.get(name) or made[name].name, made[name].op_type) for name in names
        }

    def features(self, given: Given) -> Features:
        return self._front.features(given)[0]

    def tensors(self, features: Features) -> Tensors:
        modules = self._reference.modules(features)
        finals = self._reference.run(features)
        return {
            name: finals[name] if name in finals else modules[self._modules[name]]
            for name in self._origins
            if name in finals or self._modules[name] in modules
        }

    def origins(self) -> Mapping[str, Origin]:
        return self._origins


def open_side(path: Path) -> Side:
    """A bundle whose graph can be laid open.

    Raises
    ------
    BundleError
        The bundle is refused.
    TargetError
        Its engine is compiled and shows no tensors (TensorRT).
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    engine = manifest.engines[0]
    if engine.kind == "onnxruntime":
        model = onnx.load_model_from_string(bundle.read(engine.file))
        return _OnnxSide(str(path), manifest.precision, Front.of(bundle), model)
    if engine.kind == "openvino":
        return _OpenVinoSide(bundle)
    raise TargetError(
        f"{path}: a {engine.kind} engine does not show its intermediate tensors; compare the bundle of another target "
        f"in the same precision (zoo export {manifest.name} --target cpu-x86 --precision {manifest.precision})"
    )


def open_reference(path: Path) -> Side:
    """The PyTorch reference, with the card's weights, of the model that a bundle holds."""
    return _ReferenceSide(open_bundle(path).manifest.name)


def diff(a: Side, b: Side, given: Given, *, tolerance: float | None = None) -> DiffReport:
    """Run both sides on one raw input and compare every tensor that both name.

    Parameters
    ----------
    a, b : Side
        The expected and the found side. Each starts from the raw input through its own pipeline.
    given : path, str, or another raw input
        As :meth:`zoo.runtime.Model.__call__` takes it; of a recording of EEG the last window counts.
    tolerance : float or None
        Largest difference as a share of the tensor's range on side A. None: that of the lower precision.

    Raises
    ------
    InputError
        The input cannot be read.
    """
    if tolerance is None:
        tolerance = max(TOLERANCE[a.precision], TOLERANCE[b.precision])
    if not (tolerance >= 0 and math.isfinite(tolerance)):
        raise InputError(f"the tolerance is {tolerance}; it must be a number from 0 on")
    features_a, features_b = a.features(given), b.features(given)
    rows = [
        _compare(
            "features" if len(features_a) == 1 else f"features {i}", Origin("pipeline", "-"), x, y, tolerance
        )
        for i, (x, y) in enumerate(zip(features_a, features_b, strict=True))
    ]
    found_a, found_b = a.tensors(features_a), b.tensors(features_b)
    origins = a.origins()
    shared = [name for name in found_a if name in found_b]
    rows += [_compare(name, origins[name], found_a[name], found_b[name], tolerance) for name in shared]
    return DiffReport(
        a=a.name,
        b=b.name,
        tolerance=tolerance,
        tensors=tuple(rows),
        first_over=next((row for row in rows if row.over), None),
        only_a=len(found_a) - len(shared),
        only_b=len(found_b) - len(shared),
    )


def _compare(name: str, origin: Origin, a: NDArray[Any], b: NDArray[Any], tolerance: float) -> TensorDiff:
    x, y = a.astype(np.float64), b.astype(np.float64)
    maximum = rms = sqnr = None
    over = True
    if x.shape == y.shape and np.array_equal(np.isfinite(x), np.isfinite(y)):
        difference = np.where(np.isfinite(x), x - y, 0.0)
        signal = np.where(np.isfinite(x), x, 0.0)
        size = float(np.abs(signal).max(initial=0.0))
        # a constant tensor has no range: its size stands for it
        span = float(np.ptp(signal)) if signal.size else 0.0
        span = max(span, size if span == 0.0 else 0.0, 1e-6)
        error = float(np.abs(difference).max(initial=0.0))
        maximum = error / span
        over = error > max(tolerance * span, _ROUNDINGS * float(np.finfo(np.float32).eps) * size)
        power = float(np.mean(difference**2)) if difference.size else 0.0
        rms = math.sqrt(power) / span
        if power > 0:
            sqnr = 10 * math.log10(max(float(np.mean(signal**2)), 1e-300) / power)
    return TensorDiff(
        tensor=name,
        node=origin.node,
        op=origin.op,
        shape=tuple(a.shape),
        max_error=maximum,
        rms_error=rms,
        sqnr_db=sqnr,
        over=over,
    )
