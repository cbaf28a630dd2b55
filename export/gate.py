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
from zoo.export.inputs import Features, Preprocessor, Progress
from zoo.export.parity import Run
from zoo.export.recipe import Recipe
from zoo.specs import Quality, Softmax

if TYPE_CHECKING:
    from zoo.card import Card, Variant
    from zoo.export.weights import Tensors, Tuned

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
    limits: dict[str, float] = field(default_factory=dict)
    tuned: Graph | None = None
    """The same model fine-tuned for INT8; ``limits`` were learned with it."""


@dataclass(frozen=True)
class GateResult:
    """The verdict, the layers that had to stay in fp32, and the artifact's own figure with its interval."""

    gate: Gate
    kept: tuple[str, ...]
    quality: Quality
    tried: tuple[tuple[int, float], ...]
    """Layers kept and the loss with them, for each step."""


def make_folds(
    recipe: Recipe,
    dataset: Dataset,
    weights: Mapping[str, Tensors],
    tuned: Mapping[str, Tuned] | None = None,
) -> list[Fold]:
    """Trace each fold's model; for int8 choose its calibration items from the other groups.

    Parameters
    ----------
    tuned : mapping or None
        The same models fine-tuned for INT8: what artifacts are made of; the reference stays as it is.

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
    if tuned and set(tuned) != groups:
        raise DataError(
            f"{recipe.variant.name}: the weights of zoo train --qat have folds {', '.join(sorted(tuned))}, the card has "
            f"{', '.join(sorted(groups))}; tune it again"
        )
    folds = []
    for group, tensors in sorted(weights.items()):
        items = tuple(item for item in dataset.items if item.group == group)
        chosen = calibrate.choose(dataset, without=[group]) if recipe.precision == "int8" else None
        fold = Fold(group, recipe.trace.finish(tensors), items, chosen)
        if tuned:
            fold.tuned, fold.limits = recipe.trace.finish(tuned[group].tensors), dict(tuned[group].limits)
        folds.append(fold)
    return folds


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
    variant = recipe.variant
    if not isinstance(card.file.decode, Softmax):
        raise ZooError(
            f"{variant.name}: the accuracy gate scores one label of several, the card decodes otherwise"
        )
    assert variant.folds is not None
    output = card.file.decode.output
    folds = make_folds(recipe, dataset, weights, tuned)
    truth = truth_of(variant, dataset, folds)
    metric = METRICS[variant.metric]
    reference = labels_of(recipe.with_precision("fp32"), folds, output, (), progress)
    baseline = metric(truth, reference)
    kept: list[str] = []
    ranking: list[str] | None = None
    tried: list[tuple[int, float]] = []
    while True:
        found = labels_of(recipe, folds, output, kept, progress)
        loss = baseline - metric(truth, found)
        tried.append((len(kept), float(loss)))
        # Tuned weights make up for the rounding of exactly these layers: a layer returned to fp32 may even hurt.
        if loss <= budget or recipe.precision != "int8" or tuned:
            break
        if ranking is None:
            ranking = _rank(folds, recipe.preprocessor)
        step = max(1, -(-len(ranking) // _STEPS))
        if len(kept) + step >= len(ranking):
            break
        kept = ranking[: len(kept) + step]
    difference, low, high = metrics.paired_bootstrap(metric, truth, found, reference)
    gate = Gate(
        metric=variant.metric,
        protocol=f"{variant.folds.protocol}, {len(folds)} folds, paired bootstrap over items",
        n=len(truth),
        reference=float(baseline),
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
            + (f", with {len(kept)} layers kept in fp32" if kept else "")
            + f"; {advice}export fp32, or allow more with --budget"
        )
    interval = metrics.bootstrap_interval(metric, truth, found)
    quality = Quality(
        metric=variant.metric,
        value=gate.artifact,
        source="artifact",
        protocol=variant.folds.protocol,
        n=gate.n,
        low=interval[0],
        high=interval[1],
        note=f"fold models in {recipe.precision}, made by the recipe of this engine; its own weights saw all items",
    )
    return GateResult(gate, tuple(sorted(kept)), quality, tuple(tried))


def truth_of(variant: Variant, dataset: Dataset, folds: Sequence[Fold]) -> NDArray[np.int64]:
    """True labels of all folds' items, in the order of :func:`labels_of`, as indices into the variant's labels."""
    truth = _truth(variant, dataset)
    return np.concatenate([truth[_indices(dataset, fold)] for fold in folds])


def labels_of(
    recipe: Recipe, folds: Sequence[Fold], output: str, kept: Sequence[str], progress: Progress | None = None
) -> NDArray[np.int64]:
    """The label that each held-out item gets in the recipe's precision, with layers ``kept`` in fp32."""
    stage = f"scoring {recipe.precision} folds"
    if recipe.precision != "fp32":
        stage += f", {len(kept)} layers kept"
    return np.concatenate(
        [
            _predict(_artifact(recipe, fold, kept), fold, recipe.preprocessor, output)
            for fold in _report(stage, folds, progress)
        ]
    )


def _artifact(recipe: Recipe, fold: Fold, kept: Sequence[str]) -> Run:
    if recipe.precision == "fp32":
        return recipe.runner(recipe.lower(fold.graph, inputs=()))
    graph = fold.tuned or fold.graph
    features = recipe.preprocessor.items(fold.items)
    if recipe.precision == "int8":
        assert fold.chosen is not None
        if not fold.limits:
            fold.limits = recipe.limits(graph, fold.chosen)
        lowered = recipe.lower(graph, inputs=(), chosen=fold.chosen, kept=kept, limits=fold.limits)
    else:
        lowered = recipe.lower(graph, inputs=features)
    return recipe.runner(lowered)


def _predict(run: Run, fold: Fold, preprocessor: Preprocessor, output: str) -> NDArray[np.int64]:
    return np.array(
        [int(np.argmax(run(preprocessor.item(item))[output][0])) for item in fold.items], np.int64
    )


def _rank(folds: Sequence[Fold], preprocessor: Preprocessor) -> list[str]:
    """Layers by their mean signal-to-noise ratio over the folds, worst first."""
    totals: dict[str, float] = {}
    for fold in folds:
        assert fold.chosen is not None
        inputs: list[Features] = [preprocessor.item(item) for item in fold.chosen.items[:_RANKING_INPUTS]]
        for name, ratio in quantize.sensitivity((fold.tuned or fold.graph).model, fold.limits, inputs):
            totals[name] = totals.get(name, 0.0) + ratio
    return sorted(totals, key=lambda name: (totals[name], name))


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
