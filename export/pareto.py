# SPDX-License-Identifier: Apache-2.0
"""Accuracy against latency against size: every precision that a target takes, measured on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from zoo.bundle import Candidate
from zoo.errors import ProviderUnavailable, TargetError
from zoo.export import quantize
from zoo.export.gate import Scorer
from zoo.export.recipe import Artifact, Recipe

if TYPE_CHECKING:
    from zoo.export.exporter import Exporter

#: Shares of the layers, the most sensitive first, that stay in fp32.
_SHARES = (0.0, 0.1, 0.25, 0.5)


@dataclass(frozen=True)
class _Made:
    """A row, and the artifact to time for it; None where the engine does not run here."""

    row: Candidate
    artifact: Artifact | None = None


def measure(exporter: Exporter) -> tuple[Candidate, ...]:
    """The Pareto table of the exporter's variant and target.

    Each precision is scored on held-out items like the gate does it, whatever it loses; where weights are quantised
    also with the layers returned to fp32 that the signal-to-noise ranking puts first. All engines that run here are then timed in turn. A
    precision that cannot be made has its reason in place of figures.
    """
    folds = exporter.folds()
    scorer = None
    if exporter.dataset is not None and folds:
        scorer = Scorer(
            exporter.card, exporter.recipe("fp32"), exporter.dataset, folds, progress=exporter.progress
        )
    made: list[_Made] = []
    for precision in exporter.target.precisions:
        recipe = exporter.recipe(precision)
        row = Candidate(precision=precision, quantize=recipe.options)
        refusal = exporter.target.refusal(precision, exporter.variant.refused)
        if refusal is None and precision == "int8" and exporter.dataset is None:
            refusal = "no calibration data (--data DIR)"
        if refusal is not None:
            made.append(_Made(msgspec.structs.replace(row, refused=refusal)))
            continue
        for kept in _ladder(exporter, recipe, scorer):
            try:
                made.append(_make(exporter, recipe, row, kept, scorer))
            except (ProviderUnavailable, TargetError) as error:
                made.append(_Made(msgspec.structs.replace(row, kept=len(kept), refused=str(error))))
                break
    times = exporter.time({i: item.artifact for i, item in enumerate(made) if item.artifact is not None})
    rows = [msgspec.structs.replace(item.row, latency=times.get(i)) for i, item in enumerate(made)]
    return tuple(
        msgspec.structs.replace(row, optimal=not any(dominates(other, row) for other in rows))
        if row.refused is None
        else row
        for row in rows
    )


def dominates(one: Candidate, other: Candidate) -> bool:
    """Whether ``one`` is at least as good in loss, latency and size as ``other``, and better in one of them.

    What was measured of only one of the two, or of neither, does not count.
    """
    if one.refused is not None:
        return False
    pairs = [
        (a, b)
        for a, b in ((one.loss, other.loss), (one.latency, other.latency), (one.size, other.size))
        if a is not None and b is not None
    ]
    return bool(pairs) and all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _ladder(exporter: Exporter, recipe: Recipe, scorer: Scorer | None) -> list[Sequence[str]]:
    """Sets of layers to keep in fp32: none, and where weights are quantised growing shares of the ranking."""
    if recipe.precision not in quantize.BITS or scorer is None:
        return [()]
    ranking = scorer.ranking(recipe)
    counts = sorted({round(share * len(ranking)) for share in _SHARES})
    return [ranking[:count] for count in counts if count < len(ranking)]


def _make(
    exporter: Exporter, recipe: Recipe, row: Candidate, kept: Sequence[str], scorer: Scorer | None
) -> _Made:
    lowered = exporter.lower(recipe, kept)
    artifact = recipe.build(lowered)
    row = msgspec.structs.replace(
        row,
        # fp16 keeps what overflows on its own account.
        kept=len(lowered.kept),
        size=sum(len(content) for name, content in artifact.built.files.items() if name != "timing.cache"),
    )
    made = _Made(row, artifact if artifact.runs_here else None)
    if scorer is None:
        return made
    found = scorer.reference if recipe.precision == "fp32" else scorer.found(recipe, kept)
    loss, low, high = scorer.compare(found)
    return replace(
        made,
        row=msgspec.structs.replace(
            row,
            value=float(scorer.metric(scorer.truth, found)),
            loss=loss,
            low=low,
            high=high,
            within_budget=loss <= exporter.budget,
        ),
    )
