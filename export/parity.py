# SPDX-License-Identifier: Apache-2.0
"""Does the artifact compute what the reference computes? And if not, where does it begin to differ?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.bundle import Parity
from zoo.errors import ParityError
from zoo.export.graph import Graph
from zoo.export.inputs import Features, InputSet
from zoo.export.session import Session
from zoo.models.training import one_thread
from zoo.specs import Precision

#: Number of inputs that parity is measured over.
INPUTS = 64
#: Largest difference from the reference, as a share of the output's range over the inputs. fp32 is the
#: promise; the others only catch a broken build: what a lower precision costs is the accuracy gate's question.
TOLERANCE: Mapping[Precision, float] = {
    "fp32": 1e-5,
    "fp16": 0.02,
    "bf16": 0.1,
    "int8": 0.5,
    "int8-weights": 0.2,
    "int4-weights": 0.5,
}

#: Least cosine of an embedding to the reference's that an artifact may have whose accuracy no gate has measured.
COSINE = 0.999

#: One raw input's features to the outputs by name, with the batch dimension.
Run = Callable[[Features], Mapping[str, NDArray[Any]]]


class Reference:
    """The PyTorch reference as a function of features, and what each of its modules returns."""

    def __init__(self, net: Any, outputs: Sequence[str]) -> None:
        self._net = net
        self._outputs = tuple(outputs)

    def run(self, features: Features) -> dict[str, NDArray[Any]]:
        """Outputs by name, with the batch dimension."""
        with one_thread(), torch.inference_mode():
            found = self._net(*(torch.from_numpy(np.ascontiguousarray(array[None])) for array in features))
        arrays = (found,) if isinstance(found, torch.Tensor) else found
        return {name: array.numpy() for name, array in zip(self._outputs, arrays, strict=True)}

    def modules(self, features: Features) -> dict[str, NDArray[Any]]:
        """The tensor that each module returned, by module name; one that is called more than once has no one tensor."""
        found: dict[str, NDArray[Any]] = {}
        calls: Counter[str] = Counter()

        def hook(name: str) -> Callable[..., None]:
            def record(module: Any, inputs: Any, output: Any) -> None:
                calls[name] += 1
                if isinstance(output, torch.Tensor):
                    found[name] = output.detach().numpy()

            return record

        handles = [
            module.register_forward_hook(hook(name)) for name, module in self._net.named_modules() if name
        ]
        try:
            self.run(features)
        finally:
            for handle in handles:
                handle.remove()
        return {name: array for name, array in found.items() if calls[name] == 1}


def measure(
    reference: Run,
    artifact: Run,
    inputs: InputSet,
    *,
    precision: Precision,
    verified_on: str,
    embeddings: Collection[str] = (),
) -> tuple[Parity, Features]:
    """The largest difference relative to each output's range, the input that has it, and the least cosine of the outputs
    that are ``embeddings``.
    """
    expected = [reference(features) for features in inputs.features]
    names = list(expected[0])
    span = {name: max(float(np.ptp([_ends(row[name]) for row in expected])), 1e-6) for name in names}
    worst, where, cosine = -1.0, inputs.features[0], 1.0
    for features, row in zip(inputs.features, expected, strict=True):
        found = artifact(features)
        for name in names:
            error = _max_error(found[name], row[name]) / span[name]
            if error > worst:
                worst, where = error, features
            if name in embeddings:
                cosine = min(cosine, _cosine(found[name], row[name]))
    parity = Parity(
        inputs=len(inputs.features),
        input_source=inputs.source,
        # JSON has no infinity; a shape or a NaN that differs is as wrong as can be.
        max_error=min(worst, 1e30),
        tolerance=TOLERANCE[precision],
        verified_on=verified_on,
        cosine=cosine if embeddings else None,
    )
    return parity, where


def check(
    name: str,
    reference: Reference,
    graph: Graph,
    artifact: Run,
    inputs: InputSet,
    *,
    precision: Precision,
    verified_on: str,
    embeddings: Collection[str] = (),
    gated: bool = False,
) -> Parity:
    """Measure, and refuse an artifact that is over the tolerance.

    Parameters
    ----------
    embeddings : collection of str
        Outputs that are embeddings.
    gated : bool
        The accuracy gate has measured what the precision costs; otherwise the embeddings' cosine decides.

    Raises
    ------
    ParityError
        Names the first node whose tensor differs from the reference's, or says that the graph is right and
        the engine is not; or the embedding turns too far.
    """
    parity, worst = measure(
        reference.run, artifact, inputs, precision=precision, verified_on=verified_on, embeddings=embeddings
    )
    if not gated and parity.cosine is not None and parity.cosine < COSINE:
        raise ParityError(
            f"{name} {precision}: the cosine of its embedding to fp32's is {parity.cosine:.4f} on one of {parity.inputs} inputs, "
            f"the least allowed is {COSINE} where no data set measures what a precision costs; export another precision"
            + (", or try --quantize smooth,bias-correct" if precision == "int8" else "")
        )
    if parity.max_error <= parity.tolerance:
        return parity
    raise ParityError(
        f"{name} {precision}: outputs differ from the PyTorch reference by {parity.max_error:.2e} of their range, "
        f"the tolerance is {parity.tolerance:.0e} ({parity.inputs} inputs; {verified_on}). "
        + explain(reference, graph, worst, parity.tolerance)
    )


def explain(reference: Reference, graph: Graph, features: Features, tolerance: float) -> str:
    """A sentence on the first node, in graph order, whose output differs from that of its module."""
    expected: dict[str, NDArray[Any]] = dict(reference.modules(features))
    finals = reference.run(features)
    compared = {tensor: expected[module] for tensor, module in graph.modules.items() if module in expected}
    compared.update(finals)
    known = {output for node in graph.model.graph.node for output in node.output}
    found = Session(graph.model, [name for name in compared if name in known]).run(features)
    for node in graph.model.graph.node:
        for tensor in node.output:
            if tensor not in compared or tensor not in found:
                continue
            want, have = compared[tensor], found[tensor]
            span = max(float(np.ptp(want)), 1e-6)
            error = _max_error(have, want) / span
            if error > tolerance:
                module = graph.modules.get(tensor)
                owner = f" (module {module})" if module else ""
                return f"First diverging node: {node.name} ({node.op_type}){owner}, {error:.2e} of its range"
    return "onnxruntime agrees with the reference on this graph: the fault is in the engine, not in the ONNX"


def _ends(array: NDArray[Any]) -> tuple[float, float]:
    return float(array.min()), float(array.max())


def _cosine(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Least cosine between rows; -1 where a shape differs, a value is not finite, or a row is zero."""
    if found.shape != expected.shape:
        return -1.0
    left, right = found.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        return -1.0
    return float(((left * right).sum(axis=-1) / lengths).min())


def _max_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    if found.shape != expected.shape:
        return float("inf")
    difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    return float(difference.max()) if np.isfinite(difference).all() else float("inf")
