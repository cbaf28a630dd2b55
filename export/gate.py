# SPDX-License-Identifier: Apache-2.0
"""The accuracy gate: the same held-out items through reference precision and artifact, compared in pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo import metrics
from zoo.bundle import Gate
from zoo.data import Dataset, Item
from zoo.errors import CheckFailed, DataError
from zoo.evaluation import judge, scores_of
from zoo.export import calibrate, placement, quantize
from zoo.export.graph import Graph
from zoo.export.inputs import Progress, stratified
from zoo.export.parity import Run
from zoo.export.recipe import Recipe
from zoo.export.session import Session
from zoo.specs import Quality, QuantizeOption

if TYPE_CHECKING:
    from zoo.card import Card
    from zoo.export.weights import Tensors, Tuned

#: Layers are returned to fp32 in this many steps at most.
_STEPS = 12
#: Inputs of a fold that layers are ranked on.
_RANKING_INPUTS = 16


@dataclass
class Fold:
    """One held-out group: the model that has not seen it, its items, and all groups that it has not seen."""

    group: str
    graph: Graph
    items: tuple[Item, ...]
    unseen: tuple[str, ...]
    chosen: calibrate.CalibrationSet | None = None
    prepared: dict[tuple[QuantizeOption, ...], tuple[Graph, dict[str, float]]] = field(default_factory=dict)
    tuned: tuple[Graph, dict[str, float]] | None = None
    """The same model fine-tuned for INT8, and the ranges learned with it."""


@dataclass(frozen=True)
class GateResult:
    """The verdict, the layers and outputs that had to stay in fp32, and the artifact's own figure with its interval."""

    gate: Gate
    kept: tuple[str, ...]
    quality: Quality
    tried: tuple[tuple[int, float], ...]
    """How many are kept and the loss with them, for each step."""


def make_folds(
    recipe: Recipe,
    dataset: Dataset,
    weights: Mapping[str, Tensors],
    tuned: Mapping[str, Tuned] | None = None,
) -> list[Fold]:
    """Trace the model of each held-out group; for int8 choose its calibration items from groups that it has seen.

    Parameters
    ----------
    weights : mapping
        Group to the weights of the model that has not seen it: those of a cross-validation, one for each group of the
        data set, or the variant's own for each group in its ``held_out``.
    tuned : mapping or None
        The same models fine-tuned for INT8: what artifacts are made of; the reference stays as it is.

    Raises
    ------
    DataError
        Groups of the data set and folds of the weights are not the same.
    """
    groups = {item.group for item in dataset.items}
    held_out = recipe.variant.held_out
    if not set(weights) <= groups or not (held_out or groups == set(weights)):
        raise DataError(
            f"{recipe.variant.name}: held-out groups are {', '.join(sorted(weights))}, "
            f"{dataset.name} has {', '.join(sorted(groups))}; give the data set of the card, or train the folds again"
        )
    if tuned and set(tuned) != set(weights):
        raise DataError(
            f"{recipe.variant.name}: the weights of zoo train --qat have folds {', '.join(sorted(tuned))}, the card has "
            f"{', '.join(sorted(weights))}; tune it again"
        )
    folds = []
    for group, tensors in sorted(weights.items()):
        items = tuple(item for item in dataset.items if item.group == group)
        unseen = held_out or (group,)
        chosen = calibrate.choose(dataset, without=unseen) if recipe.precision == "int8" else None
        fold = Fold(group, recipe.adapt(recipe.trace.finish(tensors)), items, unseen, chosen)
        if tuned:
            graph = recipe.adapt(recipe.trace.finish(tuned[group].tensors))
            fold.tuned = graph, dict(tuned[group].limits)
        folds.append(fold)
    return folds


class Scorer:
    """Held-out items through fold models of any precision; what they share is computed once.

    Parameters
    ----------
    recipe : Recipe
        Of the cell's target, in any precision.

    Raises
    ------
    DataError
        Data set and folds do not go together.
    """

    def __init__(
        self,
        card: Card,
        recipe: Recipe,
        dataset: Dataset,
        weights: Mapping[str, Tensors],
        *,
        tuned: Mapping[str, Tuned] | None = None,
        progress: Progress | None = None,
    ) -> None:
        variant = recipe.variant
        decode = card.decode(variant)
        self._judge = judge(decode, variant.labels)
        self.metric = self._judge.function(variant.metric)
        self.protocol = variant.protocol
        self._decode, self._preprocessor, self._progress = decode, recipe.preprocessor, progress
        self._dataset = dataset
        self._folds = make_folds(recipe, dataset, weights, tuned)
        self._rankings: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        self.reference = np.concatenate(
            [
                self._decide(_plain(recipe, fold.graph), fold)
                for fold in _report("scoring fp32 folds", self._folds, progress)
            ]
        )
        self.truth = np.concatenate([self._judge.truth(dataset, fold.items) for fold in self._folds])
        self.baseline = float(self.metric(self.truth, self.reference))

    def found(self, recipe: Recipe, kept: Sequence[str]) -> NDArray[Any]:
        """What artifacts of ``recipe`` decide on the held-out items, with layers ``kept`` in fp32."""
        return np.concatenate(
            [
                self._decide(self._artifact(recipe, fold, kept), fold)
                for fold in _report(
                    f"scoring {recipe.label} folds, {placement.described(kept)} kept",
                    self._folds,
                    self._progress,
                )
            ]
        )

    def compare(self, found: NDArray[Any]) -> tuple[float, float, float]:
        """Loss against fp32 with its 95 % interval, by paired bootstrap."""
        return metrics.paired_bootstrap(self.metric, self.truth, found, self.reference)

    def ranking(self, recipe: Recipe) -> list[str]:
        """Outputs, then layers, by their mean signal-to-noise ratio over the folds, worst first."""
        key = recipe.precision, recipe.options
        if key not in self._rankings:
            totals: dict[str, float] = {}
            for fold in self._folds:
                inputs = [self._preprocessor.item(item) for item in self._ranking_items(fold)]
                graph, limits, floats = fold.graph, None, set(recipe.floats(fold.graph))
                if recipe.precision == "int8":
                    graph, limits = self._prepared(recipe, fold)
                for name, ratio in quantize.sensitivity(
                    graph.model,
                    limits,
                    inputs,
                    bits=quantize.BITS[recipe.precision],
                    per_tensor=recipe.per_tensor,
                    outputs=recipe.outputs,
                ):
                    if name.removeprefix(placement.OUTPUT) not in floats:
                        totals[name] = totals.get(name, 0.0) + ratio
            self._rankings[key] = sorted(
                totals, key=lambda name: (not name.startswith(placement.OUTPUT), totals[name], name)
            )
        return self._rankings[key]

    def _artifact(self, recipe: Recipe, fold: Fold, kept: Sequence[str]) -> Run:
        if recipe.precision != "int8":
            features = self._preprocessor.items(fold.items)
            return recipe.runner(recipe.lower(fold.graph, inputs=features, kept=kept))
        graph, limits = self._prepared(recipe, fold)
        lowered = recipe.lower(graph, inputs=(), chosen=self._chosen(fold), kept=kept, limits=limits)
        return recipe.runner(lowered)

    def _decide(self, run: Run, fold: Fold) -> NDArray[Any]:
        scores = [scores_of(self._decode, run(self._preprocessor.item(item))) for item in fold.items]
        return self._judge.decide(np.stack(scores))

    def _prepared(self, recipe: Recipe, fold: Fold) -> tuple[Graph, dict[str, float]]:
        if fold.tuned is not None:
            return fold.tuned
        if recipe.options not in fold.prepared:
            fold.prepared[recipe.options] = recipe.prepare(fold.graph, self._chosen(fold))
        return fold.prepared[recipe.options]

    def _chosen(self, fold: Fold) -> calibrate.CalibrationSet:
        if fold.chosen is None:
            fold.chosen = calibrate.choose(self._dataset, without=fold.unseen)
        return fold.chosen

    def _ranking_items(self, fold: Fold) -> list[Item]:
        """Items of the other groups: layers are never chosen on what is scored."""
        if fold.chosen is not None:
            return list(fold.chosen.items[:_RANKING_INPUTS])
        others = [item for item in self._dataset.items if item.group not in fold.unseen]
        return stratified(self._dataset, others, _RANKING_INPUTS)


def run_gate(
    card: Card,
    recipe: Recipe,
    dataset: Dataset,
    weights: Mapping[str, Tensors],
    *,
    budget: float,
    tuned: Mapping[str, Tuned] | None = None,
    progress: Progress | None = None,
) -> GateResult:
    """Score every held-out group in both precisions, and return layers to fp32 until the loss fits.

    Where ``tuned`` models are given, the artifact is made of them, with no layer returned.

    Raises
    ------
    CheckFailed
        The loss is over the budget whatever is kept.
    DataError
        Data set and folds do not go together.
    """
    scorer = Scorer(card, recipe, dataset, weights, tuned=tuned, progress=progress)
    variant, metric, truth = recipe.variant, scorer.metric, scorer.truth
    kept: list[str] = []
    tried: list[tuple[int, float]] = []
    while True:
        found = scorer.found(recipe, kept)
        loss = scorer.baseline - metric(truth, found)
        tried.append((len(kept), float(loss)))
        # Tuned weights make up for the rounding of exactly these layers: a layer returned to fp32 may even hurt.
        if loss <= budget or recipe.precision not in quantize.BITS or tuned:
            break
        ranking = scorer.ranking(recipe)
        step = max(1, -(-len(ranking) // _STEPS))
        if len(kept) + step >= len(ranking):
            break
        kept = ranking[: len(kept) + step]
    difference, low, high = scorer.compare(found)
    gate = Gate(
        metric=variant.metric,
        protocol=f"{scorer.protocol}, paired bootstrap over items",
        n=len(truth),
        reference=scorer.baseline,
        artifact=float(metric(truth, found)),
        difference=difference,
        low=low,
        high=high,
        budget=budget,
        passed=difference <= budget,
    )
    if not gate.passed:
        advice = ""
        if recipe.precision == "int8":
            longer = "longer " if tuned else ""
            advice = (
                f"fine-tune it {longer}(zoo train {variant.name} --qat{' --epochs N' if tuned else ''}), "
            )
        raise CheckFailed(
            f"{variant.name} {recipe.precision}: loses {100 * difference:.2f} points of {variant.metric} "
            f"[{100 * low:+.2f}, {100 * high:+.2f}] on {gate.n} held-out items, the budget is {100 * budget:.2f}"
            + (f", with {placement.described(kept)} kept in fp32" if kept else "")
            + f"; {advice}export fp32, or allow more with --budget"
        )
    interval = metrics.bootstrap_interval(metric, truth, found)
    quality = Quality(
        metric=variant.metric,
        value=gate.artifact,
        source="artifact",
        protocol=scorer.protocol,
        n=gate.n,
        low=interval[0],
        high=interval[1],
        note=f"fold models in {recipe.precision}, made by the recipe of this engine; its own weights saw all items"
        if variant.folds
        else None,
    )
    return GateResult(gate, tuple(sorted(kept)), quality, tuple(tried))


def _plain(recipe: Recipe, graph: Graph) -> Run:
    """The graph in fp32 by the cell's engine; by onnxruntime where the target has no fp32."""
    if "fp32" not in recipe.target.precisions:
        return Session(graph.model).run
    plain = recipe.with_precision("fp32")
    return plain.runner(plain.lower(graph, inputs=()))


def _report(stage: str, folds: Sequence[Fold], progress: Progress | None) -> Iterator[Fold]:
    for done, fold in enumerate(folds):
        if progress:
            progress(stage, done, len(folds))
        yield fold
    if progress:
        progress(stage, len(folds), len(folds))
