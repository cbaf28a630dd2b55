# SPDX-License-Identifier: Apache-2.0
"""The accuracy gate: the same held-out items through reference precision and artifact, compared in pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zoo import metrics
from zoo.bundle import Gate
from zoo.data import Dataset, Item
from zoo.errors import CheckFailed, DataError, ZooError
from zoo.evaluation import METRICS
from zoo.export import calibrate, quantize
from zoo.export.graph import Graph
from zoo.export.inputs import Preprocessor, Progress, stratified
from zoo.export.parity import Run
from zoo.export.recipe import Recipe
from zoo.export.session import Session
from zoo.specs import Quality, QuantizeOption, Softmax

if TYPE_CHECKING:
    from zoo.card import Card, Variant
    from zoo.export.weights import Tensors

#: Layers are returned to fp32 in this many steps at most.
_STEPS = 12
#: Inputs of a fold that layers are ranked on.
_RANKING_INPUTS = 16


@dataclass
class Fold:
    """One held-out group: the model that has not seen it, and its items."""

    group: str
    graph: Graph
    items: tuple[Item, ...]
    chosen: calibrate.CalibrationSet | None = None
    prepared: dict[tuple[QuantizeOption, ...], tuple[Graph, dict[str, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class GateResult:
    """The verdict, the layers that had to stay in fp32, and the artifact's own figure with its interval."""

    gate: Gate
    kept: tuple[str, ...]
    quality: Quality
    tried: tuple[tuple[int, float], ...]
    """Layers kept and the loss with them, for each step."""


def make_folds(recipe: Recipe, dataset: Dataset, weights: Mapping[str, Tensors]) -> list[Fold]:
    """Trace each fold's model; for int8 choose its calibration items from the other groups.

    Raises
    ------
    DataError
        Groups of the data set and folds of the weights are not the same.
    """
    groups = {item.group for item in dataset.items}
    if groups != set(weights):
        raise DataError(
            f"{recipe.variant.name}: fold weights are for groups {', '.join(sorted(weights))}, "
            f"{dataset.name} has {', '.join(sorted(groups))}; give the data set of the card, or train the folds again"
        )
    folds = []
    for group, tensors in sorted(weights.items()):
        items = tuple(item for item in dataset.items if item.group == group)
        chosen = calibrate.choose(dataset, without=[group]) if recipe.precision == "int8" else None
        folds.append(Fold(group, recipe.trace.finish(tensors), items, chosen))
    return folds


def scorable(card: Card) -> bool:
    """Whether accuracy can be measured for this kind of decoding: one label of several."""
    return isinstance(card.file.decode, Softmax)


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
        progress: Progress | None = None,
    ) -> None:
        variant = recipe.variant
        if not scorable(card):
            raise ZooError(
                f"{variant.name}: the accuracy gate scores one label of several, the card decodes otherwise"
            )
        assert variant.folds is not None
        assert isinstance(card.file.decode, Softmax)
        self.protocol = f"{variant.folds.protocol}, {len(weights)} folds, paired bootstrap over items"
        self.metric = METRICS[variant.metric]
        self._output, self._preprocessor, self._progress = (
            card.file.decode.output,
            recipe.preprocessor,
            progress,
        )
        self._dataset = dataset
        truth = _truth(variant, dataset)
        self._folds = make_folds(recipe, dataset, weights)
        self._rankings: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        self.reference = np.concatenate(
            [
                _predict(_plain(recipe, fold.graph), fold, self._preprocessor, self._output)
                for fold in _report("scoring fp32 folds", self._folds, progress)
            ]
        )
        self.truth = np.concatenate([truth[_indices(dataset, fold)] for fold in self._folds])
        self.baseline = float(self.metric(self.truth, self.reference))

    def found(self, recipe: Recipe, kept: Sequence[str]) -> NDArray[np.int64]:
        """The labels that artifacts of ``recipe`` give the held-out items, with layers ``kept`` in fp32."""
        return np.concatenate(
            [
                _predict(self._artifact(recipe, fold, kept), fold, self._preprocessor, self._output)
                for fold in _report(
                    f"scoring {recipe.label} folds, {len(kept)} layers kept", self._folds, self._progress
                )
            ]
        )

    def compare(self, found: NDArray[np.int64]) -> tuple[float, float, float]:
        """Loss against fp32 with its 95 % interval, by paired bootstrap."""
        return metrics.paired_bootstrap(self.metric, self.truth, found, self.reference)

    def ranking(self, recipe: Recipe) -> list[str]:
        """Layers by their mean signal-to-noise ratio over the folds, worst first."""
        key = recipe.precision, recipe.options
        if key not in self._rankings:
            totals: dict[str, float] = {}
            for fold in self._folds:
                inputs = [self._preprocessor.item(item) for item in self._ranking_items(fold)]
                graph, limits = fold.graph, None
                if recipe.precision == "int8":
                    graph, limits = self._prepared(recipe, fold)
                for name, ratio in quantize.sensitivity(
                    graph.model,
                    limits,
                    inputs,
                    bits=quantize.BITS[recipe.precision],
                    per_tensor=recipe.per_tensor,
                ):
                    totals[name] = totals.get(name, 0.0) + ratio
            self._rankings[key] = sorted(totals, key=lambda name: (totals[name], name))
        return self._rankings[key]

    def _artifact(self, recipe: Recipe, fold: Fold, kept: Sequence[str]) -> Run:
        if recipe.precision != "int8":
            features = self._preprocessor.items(fold.items)
            return recipe.runner(recipe.lower(fold.graph, inputs=features, kept=kept))
        graph, limits = self._prepared(recipe, fold)
        lowered = recipe.lower(graph, inputs=(), chosen=self._chosen(fold), kept=kept, limits=limits)
        return recipe.runner(lowered)

    def _prepared(self, recipe: Recipe, fold: Fold) -> tuple[Graph, dict[str, float]]:
        if recipe.options not in fold.prepared:
            fold.prepared[recipe.options] = recipe.prepare(fold.graph, self._chosen(fold))
        return fold.prepared[recipe.options]

    def _chosen(self, fold: Fold) -> calibrate.CalibrationSet:
        if fold.chosen is None:
            fold.chosen = calibrate.choose(self._dataset, without=[fold.group])
        return fold.chosen

    def _ranking_items(self, fold: Fold) -> list[Item]:
        """Items of the other groups: layers are never chosen on what is scored."""
        if fold.chosen is not None:
            return list(fold.chosen.items[:_RANKING_INPUTS])
        others = [item for item in self._dataset.items if item.group != fold.group]
        return stratified(self._dataset, others, _RANKING_INPUTS)


def run_gate(
    card: Card,
    recipe: Recipe,
    dataset: Dataset,
    weights: Mapping[str, Tensors],
    *,
    budget: float,
    progress: Progress | None = None,
) -> GateResult:
    """Score every held-out group in both precisions, and return layers to fp32 until the loss fits.

    Raises
    ------
    CheckFailed
        The loss is over the budget whatever is kept.
    DataError
        Data set and folds do not go together.
    """
    scorer = Scorer(card, recipe, dataset, weights, progress)
    variant, metric, truth = recipe.variant, scorer.metric, scorer.truth
    kept: list[str] = []
    tried: list[tuple[int, float]] = []
    while True:
        found = scorer.found(recipe, kept)
        loss = scorer.baseline - metric(truth, found)
        tried.append((len(kept), float(loss)))
        if loss <= budget or recipe.precision not in quantize.BITS:
            break
        ranking = scorer.ranking(recipe)
        step = max(1, -(-len(ranking) // _STEPS))
        if len(kept) + step >= len(ranking):
            break
        kept = ranking[: len(kept) + step]
    difference, low, high = scorer.compare(found)
    gate = Gate(
        metric=variant.metric,
        protocol=scorer.protocol,
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
        raise CheckFailed(
            f"{variant.name} {recipe.precision}: loses {100 * difference:.2f} points of {variant.metric} "
            f"[{100 * low:+.2f}, {100 * high:+.2f}] on {gate.n} held-out items, the budget is {100 * budget:.2f}"
            + (f", with {len(kept)} layers kept in fp32" if kept else "")
            + "; export fp32, or allow more with --budget"
        )
    interval = metrics.bootstrap_interval(metric, truth, found)
    quality = Quality(
        metric=variant.metric,
        value=gate.artifact,
        source="artifact",
        protocol=variant.folds.protocol if variant.folds else "",
        n=gate.n,
        low=interval[0],
        high=interval[1],
        note=f"fold models in {recipe.precision}, made by the recipe of this engine; its own weights saw all items",
    )
    return GateResult(gate, tuple(sorted(kept)), quality, tuple(tried))


def _plain(recipe: Recipe, graph: Graph) -> Run:
    """The graph in fp32 by the cell's engine; by onnxruntime where the target has no fp32."""
    if "fp32" not in recipe.target.precisions:
        return Session(graph.model).run
    plain = recipe.with_precision("fp32")
    return plain.runner(plain.lower(graph, inputs=()))


def _predict(run: Run, fold: Fold, preprocessor: Preprocessor, output: str) -> NDArray[np.int64]:
    return np.array(
        [int(np.argmax(run(preprocessor.item(item))[output][0])) for item in fold.items], np.int64
    )


def _truth(variant: Variant, dataset: Dataset) -> NDArray[np.int64]:
    if set(dataset.labels) != set(variant.labels):
        raise DataError(
            f"{dataset.name} has labels {', '.join(dataset.labels)}; {variant.name} has {', '.join(variant.labels)}"
        )
    order = {name: i for i, name in enumerate(variant.labels)}
    return np.array([order[dataset.labels[item.label]] for item in dataset.items], np.int64)


def _indices(dataset: Dataset, fold: Fold) -> list[int]:
    return [i for i, item in enumerate(dataset.items) if item.group == fold.group]


def _report(stage: str, folds: Sequence[Fold], progress: Progress | None) -> Iterator[Fold]:
    for done, fold in enumerate(folds):
        if progress:
            progress(stage, done, len(folds))
        yield fold
    if progress:
        progress(stage, len(folds), len(folds))
