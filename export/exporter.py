# SPDX-License-Identifier: Apache-2.0
"""``zoo export``: everything from a card to a verified bundle. Nothing is written before all checks have passed."""

from __future__ import annotations

import copy
import dataclasses
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from zoo import registry, store
from zoo.bundle import Golden, Manifest, Parity, Provenance, check_writable, write_bundle
from zoo.data import Dataset
from zoo.errors import TargetError, ZooError
from zoo.export import calibrate, parity, placement
from zoo.export.builders import Built, builder
from zoo.export.fake_quant import FakeQuantized, TunedReference
from zoo.export.gate import GateResult, run_gate
from zoo.export.golden import GoldenCases, make_golden
from zoo.export.graph import Graph, Trace
from zoo.export.histogram import DEFAULT_METHOD
from zoo.export.inputs import InputSet, Preprocessor, Progress, golden_inputs, parity_inputs
from zoo.export.pareto import measure as measure_pareto
from zoo.export.quantize import check_options
from zoo.export.recipe import Artifact, Lowered, Recipe
from zoo.export.reserve import reserved
from zoo.export.sources import TOOLS, dataset_for, inputs_sha256
from zoo.export.targets import Target, find_target
from zoo.export.trouble import cause, told_plainly
from zoo.export.tune import choose_cell
from zoo.export.weights import Tuned, Weights, build_reference, load_folds, load_weights
from zoo.runtime.bench import Options
from zoo.specs import Precision, Quality, QuantizeOption, embedding_outputs

if TYPE_CHECKING:
    from zoo.card import Card, Variant
    from zoo.export.weights import Tensors

DEFAULT_CALIBRATION = DEFAULT_METHOD
DEFAULT_BUDGET = 0.005


@dataclass(frozen=True)
class ExportResult:
    """The written bundle."""

    path: Path
    manifest: Manifest
    seconds: float


@dataclass(frozen=True)
class Cell:
    """A finished artifact with its evidence, ready to be written."""

    recipe: Recipe
    artifact: Artifact
    parity: Parity
    golden: GoldenCases
    gate: GateResult | None
    notes: tuple[str, ...] = ()


def export_model(
    name: str,
    *,
    target: str,
    precision: str,
    compute_capability: str | None = None,
    out: Path | None = None,
    data: Path | None = None,
    weights: Path | None = None,
    force: bool = False,
    budget: float = DEFAULT_BUDGET,
    calibration: str = DEFAULT_CALIBRATION,
    quantize: Sequence[str] = (),
    pareto: bool = False,
    tune: bool = False,
    protocol: Options | None = None,
    progress: Progress | None = None,
) -> ExportResult:
    """Build, verify and write a bundle.

    Parameters
    ----------
    name : str
        A variant of a card.
    target : str
        A target of ``export/targets``.
    precision : str
        ``fp32``, ``fp16``, ``bf16``, ``int8``, ``int8-weights``, ``int4-weights``, or ``auto``: the fastest measured here
        that stays inside the budget.
    compute_capability : str or None
        Of the GPU, such as ``8.6``, where the target can be built for several; None: the target's usual one.
    out : Path or None
        Folder, or file ending in ``.zoo``; None puts it where ``zoo.load(name)`` finds it.
    data : Path or None
        Folder of the variant's data set; None takes ``ZOO_DATA``. Needed for int8; for fp32 it gives parity on
        real inputs instead of inputs derived from the golden clips.
    weights : Path or None
        Other weights than the card's (safetensors from ``zoo train`` or ``zoo convert``).
    budget : float
        Loss of the headline metric (a fraction of one) that a lower precision may cost.
    calibration : str
        How INT8 ranges follow from the recorded activations: minmax, percentile, entropy or mse.
    quantize : sequence of str
        Options of the int8 quantiser: equalize, smooth, bias-correct, per-tensor. What they do is a note of the manifest.
    pareto : bool
        Also measure every precision of the target, those with integer weights with several numbers of layers in fp32, and
        keep the table of accuracy, latency and size in the manifest.
    tune : bool
        Also choose threads, batch and shape profile by measuring here; the bundle keeps the table.
    protocol : Options or None
        How ``auto`` and ``tune`` measure; None takes the full protocol of ``zoo bench``.
    progress : callable or None
        Called with (stage, done, total).

    Raises
    ------
    UnknownModel, TargetError
        No such model, target or precision, or they do not go together.
    DataError
        The data set or the weights are missing or do not fit; int8 without data.
    ProviderUnavailable
        The builder is not installed, or cannot build this precision here.
    ParityError, CheckFailed
        The artifact is not what the reference computes, or loses more than the budget.
    ZooError
        ``out`` exists or cannot be written.
    """
    start = time.monotonic()
    card, variant = registry.find(name)
    chosen_target = find_target(target).for_capability(compute_capability)
    method = calibrate.check_method(calibration)
    options = check_options(quantize, precision if not pareto else "auto")
    candidates = _candidates(variant, chosen_target, precision)
    builder(chosen_target)  # a package that is missing is told before any work
    where = out if out is not None else store.store_path(variant.name, chosen_target.folder, precision)
    _check_out(where, force)
    with ExitStack() as held:
        held.enter_context(reserved(where))
        with told_plainly(f"{variant.name} {chosen_target.name} {precision}", progress) as watched:
            dataset = dataset_for(card, variant, data, None if precision == "auto" else precision)
            session = Exporter(
                card, variant, chosen_target, weights, dataset, method, budget, watched, options
            )
            if precision == "auto" or tune:
                manifest, contents = choose_cell(
                    session, candidates, every=tune, options=protocol or Options()
                )
            else:
                manifest, contents = session.bundle(session.cell(candidates[0]))
            if pareto:
                manifest = msgspec.structs.replace(manifest, pareto=measure_pareto(session))
        if out is None and precision == "auto":
            where = store.store_path(variant.name, chosen_target.folder, manifest.precision)
            held.enter_context(reserved(where))
            _check_out(where, force)
        _report(progress, "writing", 1, 1)
        path = publish(where, manifest, contents, force=force)
    return ExportResult(path, manifest, time.monotonic() - start)


def publish(where: Path, manifest: Manifest, contents: Mapping[str, bytes], *, force: bool) -> Path:
    """Write a finished bundle.

    Raises
    ------
    ZooError
        It exists, or cannot be written; nothing is left of it then.
    """
    try:
        return write_bundle(where, manifest, contents, force=force)
    except OSError as error:
        raise ZooError(f"{where} cannot be written: {cause(error) or error.strerror or error}") from error


class Exporter:
    """What the cells of one variant and target share: weights, trace, inputs, reference.

    Parameters
    ----------
    dataset : Dataset or None
        Without one parity runs on inputs derived from the golden clips, and int8 is refused.
    """

    def __init__(
        self,
        card: Card,
        variant: Variant,
        target: Target,
        weights: Path | None,
        dataset: Dataset | None,
        method: calibrate.Method,
        budget: float,
        progress: Progress | None,
        options: tuple[QuantizeOption, ...] = (),
    ) -> None:
        self.card, self.variant, self.target = card, variant, target
        self.dataset, self.method, self.budget, self.progress = dataset, method, budget, progress
        self.options = options
        self._override = weights
        self.weights: Weights = load_weights(card, variant, weights)
        if self.weights.limits and options:
            raise ZooError(
                f"{weights}: its int8 ranges were learned with the weights, so --quantize {','.join(options)} cannot "
                "change them; leave --quantize out"
            )
        self.preprocessor = Preprocessor(card, variant)
        _report(progress, "tracing", 0, 1)
        self.trace = Trace(card, variant)
        self.graph: Graph = self.trace.finish(self.weights.tensors)
        _report(progress, "tracing", 1, 1)
        net = build_reference(card, variant, self.weights.tensors)
        self.reference = parity.Reference(net, [output.name for output in card.engine_outputs(variant)])
        self.golden = golden_inputs(card)
        self.inputs: InputSet = parity_inputs(card, self.preprocessor, dataset, parity.INPUTS)

    def recipe(self, precision: Precision, *, plain: bool = False, learned: bool = False) -> Recipe:
        """How this cell is made; ``plain`` leaves the quantiser's options out, ``learned`` is for weights yet to be tuned."""
        return Recipe(
            self.variant,
            self.target,
            precision,
            self.trace,
            self.preprocessor,
            self.method,
            self._draft(precision),
            self.options if precision == "int8" and not plain else (),
            learned or bool(self.weights.limits),
        )

    def lower(self, recipe: Recipe, kept: Sequence[str]) -> Lowered:
        """The variant's own graph in a precision, with layers ``kept`` in fp32."""
        chosen = None
        if recipe.precision == "int8":
            assert self.dataset is not None
            chosen = calibrate.choose(self.dataset, without=self.variant.held_out)
        return recipe.lower(
            recipe.adapt(self.graph),
            inputs=self.inputs.features,
            chosen=chosen,
            kept=kept,
            limits=dict(self.weights.limits) or None,
            progress=self.progress,
        )

    def folds(self) -> Mapping[str, Tensors]:
        """Weights of the fold models that accuracy can be measured with here; empty where it cannot."""
        if self.dataset is None or not (self.weights.own or self._tuned()):
            return {}
        if self.variant.held_out:
            own = self.weights if self.weights.own else load_weights(self.card, self.variant)
            return dict.fromkeys(self.variant.held_out, own.tensors)
        return load_folds(self.card, self.variant)

    def _tuned(self) -> Mapping[str, Tuned]:
        """The fold models fine-tuned for INT8; empty where the weights are not from ``zoo train --qat``."""
        if self.variant.held_out and self.weights.limits:
            return dict.fromkeys(self.variant.held_out, Tuned(self.weights.tensors, self.weights.limits))
        return self.weights.folds

    def with_target(self, target: Target) -> Exporter:
        """The same for another target; weights, trace, inputs and reference are shared."""
        other = copy.copy(self)
        other.target = target
        return other

    def cell(self, precision: Precision, gate: GateResult | None = None) -> Cell:
        """Build and verify one precision; ``gate`` is its verdict where that is known already."""
        recipe = self.recipe(precision)
        gate = gate or self._gate(recipe)
        lowered = self.lower(recipe, gate.kept if gate else ())
        _report(self.progress, "building", 0, 1)
        artifact = recipe.build(lowered)
        _report(self.progress, "building", 1, 1)
        _report(self.progress, "checking parity", 0, 1)
        reference = self._reference(precision)
        measured = parity.check(
            self.variant.name,
            reference,
            lowered.graph,
            artifact.run,
            self.inputs,
            precision=precision,
            verified_on=artifact.verified_on,
            embeddings=embedding_outputs(self.card.decode(self.variant)),
            gated=gate is not None,
        )
        golden = make_golden(
            self.golden, self.preprocessor, reference.run, artifact.run, precision, self.variant.name
        )
        _report(self.progress, "checking parity", 1, 1)
        notes: tuple[str, ...] = ()
        if recipe.options and self.dataset is not None:
            chosen = calibrate.choose(self.dataset, without=self.variant.held_out)
            notes = (recipe.effect(self.graph, lowered, chosen, self.inputs.features),)
        return Cell(recipe, artifact, measured, golden, gate, notes)

    def _reference(self, precision: Precision) -> parity.Reference:
        """What an artifact must compute: weights tuned for int8 are no model without their Q/DQ pairs."""
        if precision != "int8" or not self.weights.limits:
            return self.reference
        net = FakeQuantized(
            self.card,
            self.variant,
            self.weights.tensors,
            self.graph,
            self.weights.limits,
            self.inputs.features[0],
        )
        return TunedReference(net)

    def _gate(self, recipe: Recipe) -> GateResult | None:
        folds = {} if recipe.precision == "fp32" else self.folds()
        if self.dataset is None or not folds:
            return None
        return run_gate(
            self.card,
            recipe,
            self.dataset,
            folds,
            budget=self.budget,
            tuned=self._tuned(),
            progress=self.progress,
        )

    def _draft(self, precision: Precision) -> Callable[[Lowered, Built], Manifest]:
        def draft(lowered: Lowered, built: Built) -> Manifest:
            return self._manifest(self.recipe(precision), lowered, built, None, None, None, ())

        return draft

    def bundle(self, cell: Cell, notes: tuple[str, ...] = ()) -> tuple[Manifest, Mapping[str, bytes]]:
        """Manifest and files of a finished cell."""
        built = cell.artifact.built
        placed = Counter(f"{node.provider} {node.precision}" for node in cell.artifact.placement)
        spec = msgspec.structs.replace(
            built.spec, placement=dict(sorted(placed.items())) or built.spec.placement
        )
        built = dataclasses.replace(built, spec=spec)
        contents = {**built.files, **self.card.pipeline_files(self.variant), "golden.npz": cell.golden.data}
        manifest = self._manifest(
            cell.recipe,
            cell.artifact.lowered,
            built,
            cell.golden,
            cell.parity,
            cell.gate,
            (*notes, *cell.notes),
        )
        return manifest, contents

    def _manifest(
        self,
        recipe: Recipe,
        lowered: Lowered,
        built: Built,
        golden: GoldenCases | None,
        measured: Parity | None,
        gate: GateResult | None,
        notes: tuple[str, ...],
    ) -> Manifest:
        card, variant = self.card.file, self.variant
        return Manifest(
            schema=1,
            digest="0" * 64,
            name=variant.name,
            model=card.model,
            title=card.title,
            task=card.task,
            version=code_version(),
            target=self.target.name,
            precision=recipe.precision,
            labels=variant.labels,
            input=card.input,
            pipeline=variant.pipeline,
            engines=(built.spec,),
            decode=self.card.decode(variant),
            key=recipe.key(lowered, built),
            files=(),
            golden=Golden(
                file="golden.npz",
                count=golden.count if golden else 3,
                tolerance=golden.tolerance if golden else 1.0,
            ),
            provenance=self._provenance(built, recipe),
            license=variant.license,
            parity=measured,
            quality=self._quality(gate),
            calibration=lowered.calibration,
            gate=gate.gate if gate else None,
            recipe=built.recipe,
            build=built.record,
            notes=(*notes, *self._notes(recipe.precision, gate), *built.notes, *variant.notes),
            branches=variant.branches,
        )

    def _quality(self, gate: GateResult | None) -> tuple[Quality, ...]:
        """The card's figures belong to the card's weights; the artifact's own is there only if it was measured."""
        rows = self.variant.quality if self.weights.own else ()
        if not self.weights.own:
            rows = tuple(row for row in self.variant.quality if row.source in ("claimed", "corrected"))
        return (*rows, gate.quality) if gate else rows

    def _notes(self, precision: Precision, gate: GateResult | None) -> tuple[str, ...]:
        notes = []
        if self.weights.status == "random":
            notes.append("weights: random. Latency is valid; labels and scores mean nothing.")
        elif not self.weights.own and gate is None:
            notes.append("The weights are not the card's own: their accuracy was not measured here.")
        if precision == "int8" and self.weights.limits:
            notes.append(
                "The int8 ranges were learned with the weights (zoo train --qat); calibration only began them."
            )
        if gate is not None and gate.kept:
            notes.append(
                f"{placement.described(gate.kept)} stay in fp32: all in {precision} would lose {100 * gate.tried[0][1]:.2f} points of "
                f"{gate.gate.metric}, more than the budget of {100 * gate.gate.budget:.2f}."
            )
        if precision != "fp32" and gate is None and self.weights.status != "random":
            why = (
                "there are no items that these weights have not seen"
                if self.dataset is not None
                else "no data set was given (--data DIR)"
            )
            notes.append(f"The accuracy of this {precision} artifact is not verified: {why}.")
        return tuple(notes)

    def _provenance(self, built: Built, recipe: Recipe) -> Provenance:
        training, digest = "none", None
        data = self.variant.data
        if self.weights.status != "random":
            training = "unknown"
        if data is not None and self.weights.own and self.weights.status == "trained":
            options = ", ".join(f"{key}={value}" for key, value in sorted(data.options.items()))
            training = f"{data.reader} ({options})" if options else data.reader
            digest = data.sha256 or (self.dataset.fingerprint() if self.dataset else None)
        tools = {tool: metadata.version(tool) for tool in TOOLS}
        if built.version:
            tools[self.target.engine] = built.version
        tools["python"] = platform.python_version()
        return Provenance(
            weights=self.weights.status,
            weights_sha256=self.weights.sha256,
            weights_source=self.weights.source,
            training_data=training,
            training_data_sha256=digest,
            code_version=code_version(),
            sheet=self.card.file.paper.sheet,
            tools=tools,
            quantize=recipe.options,
            inputs_sha256=inputs_sha256(
                self.card,
                self.variant,
                self.target,
                recipe.precision,
                weights=self._override,
                dataset=self.dataset,
                options={"calibration": self.method, "budget": self.budget, "quantize": list(recipe.options)},
            ),
        )


def code_version() -> str:
    """Version of the installed package; ``0+source`` where it runs from a source tree."""
    try:
        return metadata.version("affect-zoo")
    except metadata.PackageNotFoundError:
        return "0+source"


def _candidates(variant: Variant, target: Target, precision: str) -> tuple[Precision, ...]:
    if precision != "auto":
        target.options(precision)
        reason = target.refusal(precision, variant.refused)
        if reason is not None:
            raise TargetError(f"{variant.name} has no {precision} for target {target.name}: {reason}")
        return (cast("Precision", precision),)
    found = tuple(p for p in target.precisions if target.refusal(p, variant.refused) is None)
    if "fp32" not in found:
        raise TargetError(
            f"{variant.name} has no fp32 for target {target.name}; name one of {', '.join(found)}"
        )
    return found


def _check_out(out: Path, force: bool) -> None:
    check_writable(out, force=force)
    parent = next((path for path in out.absolute().parents if path.exists()), None)
    if parent is None or not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ZooError(f"{out} cannot be written: {parent} is not a folder that this user may write to")


def _report(progress: Progress | None, stage: str, done: int, total: int) -> None:
    if progress:
        progress(stage, done, total)
