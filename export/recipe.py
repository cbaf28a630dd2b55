# SPDX-License-Identifier: Apache-2.0
"""One cell (variant, target, precision) made from any weights of the variant: graph, engine, and a way to run it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from numpy.typing import NDArray

from zoo.bundle import Bundle, Calibration, Key, Manifest
from zoo.errors import BundleError, NodeRefused, TargetError
from zoo.export import calibrate, half, placement, quantize, rescale, rewrites
from zoo.export.builders import Built, Request, builder
from zoo.export.graph import Graph, Trace
from zoo.export.inputs import Features, Preprocessor, Progress
from zoo.export.parity import Run
from zoo.export.session import Session, computes_in_bfloat16
from zoo.runtime.engines import EngineOptions, NodePlacement, open_engine
from zoo.specs import Precision, QuantizeOption, Range3

if TYPE_CHECKING:
    from zoo.card import Variant
    from zoo.export.targets import Target


@dataclass(frozen=True)
class Lowered:
    """A graph in its final precision. ``limits`` are the activation ranges that INT8 was made with."""

    graph: Graph
    kept: tuple[str, ...] = ()
    calibration: Calibration | None = None
    limits: dict[str, float] | None = None


@dataclass(frozen=True)
class Artifact:
    """A built engine, and how it was run here. ``placement`` is empty where the engine did not run here."""

    lowered: Lowered
    built: Built
    run: Run
    verified_on: str
    runs_here: bool
    placement: tuple[NodePlacement, ...]


class Recipe:
    """How a cell is made. Everything but the weights and the calibration items is fixed here.

    Parameters
    ----------
    draft : callable
        Gives a manifest for a built engine, so that the runtime can open it before the bundle is written.
    options : tuple of str
        Further steps of the int8 quantiser.
    learned : bool
        The int8 ranges are learned with the weights (``zoo train --qat``), for Q/DQ pairs on inputs of layers only.
    """

    def __init__(
        self,
        variant: Variant,
        target: Target,
        precision: Precision,
        trace: Trace,
        preprocessor: Preprocessor,
        method: calibrate.Method,
        draft: Callable[[Lowered, Built], Manifest],
        options: tuple[QuantizeOption, ...] = (),
        learned: bool = False,
    ) -> None:
        self.variant = variant
        self.target = target
        self.precision = precision
        self.trace = trace
        self.preprocessor = preprocessor
        self.method = method
        self._draft = draft
        self.options = options
        self.learned = learned
        self._options = target.options(precision)
        self.profile = target.profile(trace.profile, precision)
        self._builder, self._package = builder(target)

    def with_precision(self, precision: Precision) -> Recipe:
        """The same cell in another precision."""
        return self._like(precision, self.options)

    def _like(self, precision: Precision, options: tuple[QuantizeOption, ...]) -> Recipe:
        return Recipe(
            self.variant,
            self.target,
            precision,
            self.trace,
            self.preprocessor,
            self.method,
            self._draft,
            options,
            self.learned,
        )

    @property
    def outputs(self) -> bool:
        """Whether int8 quantises outputs of layers too."""
        return self._options.quantize_outputs and not self.learned

    @property
    def per_tensor(self) -> bool:
        """Whether int8 weights have one scale each."""
        return "per-tensor" in self.options

    @property
    def label(self) -> str:
        """The precision with the options of its quantiser, such as ``int8+smooth``."""
        return "+".join((self.precision, *self.options))

    def prepare(
        self, graph: Graph, chosen: calibrate.CalibrationSet, progress: Progress | None = None
    ) -> tuple[Graph, dict[str, float]]:
        """The float32 graph that int8 starts from, rescaled where the options say so, and its activation ranges."""
        for rule in rescale.RULES:
            if rule in self.options:
                graph = rescale.rescale(graph, rule, chosen.features(self.preprocessor))
        return graph, self.limits(graph, chosen, progress)

    def lower(
        self,
        graph: Graph,
        *,
        inputs: Sequence[Features],
        chosen: calibrate.CalibrationSet | None = None,
        kept: Sequence[str] = (),
        limits: dict[str, float] | None = None,
        progress: Progress | None = None,
    ) -> Lowered:
        """Bring a float32 graph to the cell's precision.

        Parameters
        ----------
        graph : Graph
            What :meth:`adapt` gives.
        inputs : sequence of Features
            Real inputs that fp16 is checked for overflow on.
        chosen : CalibrationSet or None
            Items that INT8 ranges come from; needed for int8.
        kept : sequence of str
            Layers that stay in float32.
        limits : dict or None
            Ranges that :meth:`prepare` gave with ``graph``; None prepares it here.
        """
        if self.precision == "int8":
            assert chosen is not None
            if limits is None:
                graph, limits = self.prepare(graph, chosen, progress)
            kept = sorted({*kept, *self.floats(graph)})
            model = graph.model
            if "bias-correct" in self.options:
                features = chosen.features(self.preprocessor)
                model, _ = quantize.correct_bias(
                    model, limits, features, kept, per_tensor=self.per_tensor, outputs=self.outputs
                )
            model = quantize.quantize(model, limits, kept, per_tensor=self.per_tensor, outputs=self.outputs)
            record = chosen.record(self.preprocessor, self.method, self.options)
            return Lowered(self.adapt(graph.with_model(model)), tuple(sorted(kept)), record, limits)
        if self.precision in quantize.BITS:
            kept = sorted({*kept, *self.floats(graph)})
            model = quantize.quantize(graph.model, None, kept, bits=quantize.BITS[self.precision])
            return Lowered(graph.with_model(model), tuple(sorted(kept)))
        if self.precision == "fp16":
            names = half.overflowing(graph.model, inputs)
            return Lowered(graph.with_model(half.to_float16(graph.model, names)), tuple(names))
        if self.precision == "bf16" and not self._options.hint:
            model, kept = half.to_bfloat16(graph.model)
            return Lowered(graph.with_model(model), tuple(kept))
        return Lowered(graph)

    def floats(self, graph: Graph) -> list[str]:
        """Layers that stay in float32 whatever they lose or not: the engine cannot build them, or runs them slower, or
        they read a raw signal.
        """
        if self.precision == "int8":
            thin = placement.thin(graph.model) if self.outputs else []
            return sorted({*thin, *placement.raw(graph.model)})
        layers = quantize.layers(graph.model, weights_only=True)
        return [layer.node for layer in layers if layer.op in self._options.float_ops]

    def effect(
        self, graph: Graph, lowered: Lowered, chosen: calibrate.CalibrationSet, inputs: Sequence[Features]
    ) -> str:
        """A sentence on what the options do to the outputs of ``lowered``, beside int8 without them."""
        plain = self._like(self.precision, ()).lower(graph, inputs=(), chosen=chosen, kept=lowered.kept)
        ratio, without = (
            quantize.output_ratio(graph.model, made.graph.model, inputs) for made in (lowered, plain)
        )
        return (
            f"{self.label}: signal to quantisation noise of the outputs {ratio:.1f} dB, int8 without these options "
            f"{without:.1f} dB (the worst output, {len(inputs)} inputs, onnxruntime)."
        )

    def adapt(self, graph: Graph) -> Graph:
        """The graph with the rewrites that the target's builder needs; itself where it needs none."""
        names = self.target.passes(self.precision)
        model = onnx.ModelProto()
        model.CopyFrom(graph.model)
        if not sum(rewrites.PASSES[name](model) for name in names):
            return graph
        rewrites.strip(model)
        return graph.with_model(model)

    def limits(
        self, graph: Graph, chosen: calibrate.CalibrationSet, progress: Progress | None = None
    ) -> dict[str, float]:
        """Activation ranges of every layer that can be quantised."""
        names = quantize.ranged(graph.model, outputs=self.outputs)
        recording = calibrate.record_items(
            graph.model, graph.sha256, names, chosen, self.preprocessor, progress
        )
        unsigned = placement.positive(graph.model) if self.outputs else ()
        return calibrate.thresholds(recording, self.method, unsigned)

    def build(self, lowered: Lowered) -> Artifact:
        """Build the engine and open it with the runtime, or onnxruntime on its graph where it cannot run here.

        Raises
        ------
        TargetError
            The builder, or the runtime's engine, refuses the graph.
        """
        request = self._request(lowered)
        problem = self._builder.problem(request, self._package)
        built = self._builder.build(request, self._package)
        if problem is not None:
            how = _not_here(problem, lowered.graph)
            return Artifact(lowered, built, Session(lowered.graph.model).run, how, False, ())
        manifest = self._draft(lowered, built)
        try:
            engine = open_engine(Bundle(Path(manifest.name), manifest, b"", built.files), EngineOptions())
        except BundleError as error:
            raise TargetError(f"target {self.target.name} {self.precision}: {error}") from error
        names = [tensor.name for tensor in engine.outputs]

        def run(features: Features) -> dict[str, NDArray[Any]]:
            return dict(zip(names, engine.run([array[None] for array in features]), strict=True))

        verified = f"the engine itself, {self.target.engine} {built.version}, {platform.machine()}"
        return Artifact(lowered, built, run, verified, True, tuple(engine.placement()))

    def runner(self, lowered: Lowered) -> Run:
        """Only a way to run: the engine where it runs here, else onnxruntime on the graph, nothing built."""
        if self._builder.problem(self._request(lowered), self._package) is not None:
            return Session(lowered.graph.model).run
        return self.build(lowered).run

    def problem(self, graph: Graph) -> str | None:
        """Why the engine cannot run on this machine, or None."""
        return self._builder.problem(self._request(Lowered(graph)), self._package)

    def key(self, lowered: Lowered, built: Built) -> Key:
        """Everything the engine depends on."""
        return Key(
            onnx_sha256=lowered.graph.sha256,
            calibration_sha256=lowered.calibration.sha256 if lowered.calibration else None,
            engine=self.target.engine,
            engine_version=self.target.requirement(built.version),
            target=self.target.name,
            compute_capability=self.target.compute_capability,
            isa=None,
            driver=None,
            flags=dict(self.target.flags),
            profile=self._profile(lowered),
        )

    def _request(self, lowered: Lowered) -> Request:
        unknown = next(
            (
                node
                for node in lowered.graph.model.graph.node
                if not node.domain and node.op_type in self.target.refused_ops
            ),
            None,
        )
        if unknown is not None:
            reason = f"{self.target.engine} of this target has no operator {unknown.op_type}"
            raise NodeRefused(
                f"target {self.target.name}: node {unknown.name} ({unknown.op_type}): {reason}; "
                "rewrite the model without it, or export for another target",
                node=unknown.name,
                op=unknown.op_type,
                reason=reason,
            )
        return Request(
            lowered.graph, self.target, self._options, self.precision, self._profile(lowered), lowered.kept
        )

    def _profile(self, lowered: Lowered) -> dict[str, Range3]:
        """The cell's shape profile; one item a run where an operator mixes those of a batch."""
        profile = dict(self.profile)
        if "batch" in profile and rewrites.mixes_batch(lowered.graph.model):
            profile["batch"] = (1, 1, 1)
        return profile


def _not_here(problem: str, graph: Graph) -> str:
    how = ", bf16 tensors rounded, arithmetic in fp32" if computes_in_bfloat16(graph.model) else ""
    return f"onnxruntime on the same ONNX{how}; the engine itself was not run: {problem}"
