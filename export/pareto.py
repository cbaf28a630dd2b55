# SPDX-License-Identifier: Apache-2.0
"""Accuracy against latency against size: every precision that a target takes, measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from zoo.bundle import Candidate, Pareto
from zoo.errors import ProviderUnavailable, TargetError
from zoo.export import placement, quantize
from zoo.export.gate import Scorer
from zoo.export.recipe import Artifact, Recipe
from zoo.runtime.bench import machine

if TYPE_CHECKING:
    from zoo.export.exporter import Exporter

#: Shares of the layers, the most sensitive first, that stay in fp32.
_SHARES = (0.0, 0.1, 0.25, 0.5)
#: Latencies that differ by less count as equal: two sessions of the same file were seen to differ by 7 %.
TIE = 1.08
#: Rounds over the inputs, the first of which is not counted.
_ROUNDS = 6


@dataclass(frozen=True)
class _Made:
    """A row, and the artifact to time for it; None where the engine does not run here."""

    row: Candidate
    artifact: Artifact | None = None


def measure(exporter: Exporter) -> Pareto:
    """The Pareto table of the exporter's variant and target.

    Each precision is scored on held-out items like the gate does it, whatever it loses; where weights are quantised
    also with the layers returned to fp32 that the signal-to-noise ranking puts first, and where the exporter has
    options for the quantiser also without them. All engines that run here are then timed in turn. A precision
    that cannot be made has its reason in place of figures.
    """
    scorer = _scorer(exporter)
    made: list[_Made] = []
    for recipe in _recipes(exporter):
        row = Candidate(precision=recipe.precision, quantize=recipe.options)
        refusal = exporter.target.refusal(recipe.precision, exporter.variant.refused)
        if refusal is None and recipe.precision == "int8" and exporter.dataset is None:
            refusal = "no calibration data (--data DIR)"
        if refusal is not None:
            made.append(_Made(msgspec.structs.replace(row, refused=refusal)))
            continue
        for kept in _ladder(recipe, scorer):
            try:
                made.append(_make(exporter, recipe, row, kept, scorer))
            except (ProviderUnavailable, TargetError) as error:
                made.append(_Made(msgspec.structs.replace(row, kept=tuple(kept), refused=str(error))))
                break
    times = _time(exporter, {i: item.artifact for i, item in enumerate(made) if item.artifact is not None})
    rows = [msgspec.structs.replace(item.row, latency=times.get(i)) for i, item in enumerate(made)]
    here = machine.describe()
    return Pareto(
        machine=f"{here.cpu}, {here.architecture}, {here.zoo_isa or 'no SIMD'}",
        inputs=len(exporter.inputs.features),
        metric=exporter.variant.metric,
        protocol=scorer.protocol if scorer else "",
        n=len(scorer.truth) if scorer else 0,
        budget=exporter.budget,
        rows=mark(rows),
    )


def mark(rows: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The rows with ``optimal`` set; without a measured loss none is."""
    return tuple(
        msgspec.structs.replace(
            row, optimal=row.loss is not None and not any(dominates(other, row) for other in rows)
        )
        for row in rows
    )


def dominates(one: Candidate, other: Candidate) -> bool:
    """Whether ``one`` is at least as good in loss, latency and size as ``other``, and better in one of them.

    Latency counts where both have it, and within ``TIE`` as equal. A row whose loss was not measured is never better.
    """
    if one.loss is None or other.loss is None or one.size is None or other.size is None:
        return False
    no_slower, faster = True, False
    if one.latency is not None and other.latency is not None:
        no_slower, faster = one.latency <= TIE * other.latency, TIE * one.latency < other.latency
    no_worse = one.loss <= other.loss and one.size <= other.size and no_slower
    return no_worse and (one.loss < other.loss or one.size < other.size or faster)


def _scorer(exporter: Exporter) -> Scorer | None:
    folds = exporter.folds()
    if exporter.dataset is None or not folds or not exporter.weights.own:
        return None
    recipe = exporter.recipe(next(iter(exporter.target.precisions)))
    return Scorer(exporter.card, recipe, exporter.dataset, folds, progress=exporter.progress)


def _time(exporter: Exporter, artifacts: Mapping[int, Artifact]) -> dict[int, float]:
    """Median seconds of each engine, all taken in turn on every input so that they see the same machine.

    The order changes from input to input: what ran before leaves its mark on the caches.
    """
    samples: dict[int, list[float]] = {key: [] for key in artifacts}
    keys, order = list(artifacts), np.random.default_rng(0)
    for done in range(_ROUNDS):
        for features in exporter.inputs.features:
            for key in (keys[i] for i in order.permutation(len(keys))):
                begin = time.perf_counter()
                artifacts[key].run(features)
                samples[key].append(time.perf_counter() - begin)
        if exporter.progress:
            exporter.progress("timing", done + 1, _ROUNDS)
    warm = len(exporter.inputs.features)
    return {key: float(np.median(values[warm:])) for key, values in samples.items()}


def _recipes(exporter: Exporter) -> Iterator[Recipe]:
    for precision in exporter.target.precisions:
        recipe = exporter.recipe(precision)
        if recipe.options:
            yield exporter.recipe(precision, plain=True)
        yield recipe


def _ladder(recipe: Recipe, scorer: Scorer | None) -> list[Sequence[str]]:
    """Sets of layers to keep in fp32: none, and where weights are quantised growing shares of the ranking."""
    if recipe.precision not in quantize.BITS or scorer is None:
        return [()]
    ranking = [name for name in scorer.ranking(recipe) if not name.startswith(placement.OUTPUT)]
    counts = sorted({round(share * len(ranking)) for share in _SHARES})
    return [ranking[:count] for count in counts if count < len(ranking)]


def _make(
    exporter: Exporter, recipe: Recipe, row: Candidate, kept: Sequence[str], scorer: Scorer | None
) -> _Made:
    lowered = exporter.lower(recipe, kept)
    artifact = recipe.build(lowered)
    size = sum(len(content) for name, content in artifact.built.files.items() if name != "timing.cache")
    # fp16 and bf16 keep what they cannot compute on their own account.
    row = msgspec.structs.replace(row, kept=tuple(kept) or lowered.kept, size=size)
    if scorer is not None:
        found = scorer.reference if recipe.precision == "fp32" else scorer.found(recipe, kept)
        loss, low, high = scorer.compare(found)
        row = msgspec.structs.replace(
            row,
            value=float(scorer.metric(scorer.truth, found)),
            loss=loss,
            low=low,
            high=high,
            within_budget=loss <= exporter.budget,
        )
    return _Made(row, artifact if artifact.runs_here else None)
