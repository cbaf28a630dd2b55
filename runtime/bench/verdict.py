# SPDX-License-Identifier: Apache-2.0
"""Regressions between two reports."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.runtime.bench.report import Report, Row, Scope, ScopeName
from zoo.runtime.bench.stats import Ratio, interval, paired_draws, unpaired_draws

#: Metric, its quantile, and what the lower bound of new/old must exceed to be called a regression.
LIMITS: tuple[tuple[str, float, float], ...] = (("p50", 0.5, 1.05), ("p99", 0.99, 1.10))


class Change(Struct, frozen=True, kw_only=True):
    """New over old of one metric. ``basis``: what was compared, milliseconds or the ratio to a peer."""

    contestant: str
    scope: ScopeName
    metric: str
    basis: str
    ratio: Ratio
    limit: float
    regression: bool


def compare(old: Report, new: Report) -> tuple[Change, ...]:
    """Compare every bundle that both reports measured, in its widest common scope.

    Where both hold the same peer, what is compared is the ratio to that peer in the same run: it means the same on
    any machine. Without one, milliseconds are compared, which needs the same kind of machine.

    Raises
    ------
    DataError
        No bundle in common; a quick report beside a full one; or milliseconds of different machines.
    """
    if old.quick != new.quick:
        raise DataError("bench: one report is quick, the other is not: they cannot be compared")
    for field in ("rate", "seconds"):
        before, after = getattr(old.inputs, field), getattr(new.inputs, field)
        if before != after:
            raise DataError(f"bench: the reports' inputs differ in {field}: {before} and {after}")
    pairs = [(row, _row(old, row.name)) for row in new.rows if row.kind == "bundle"]
    common = [
        (row, before)
        for row, before in pairs
        if before is not None
        and not (row.void or before.void)
        and (row.threads, row.batch) == (before.threads, before.batch)
    ]
    if not common:
        raise DataError("bench: the two reports have no valid bundle with as many threads in common")
    yardstick = next(
        (
            (row, before)
            for row in new.rows
            if row.kind == "peer"
            and (before := _row(old, row.name)) is not None
            and before.kind == "peer"
            and not (row.void or before.void)
        ),
        None,
    )
    if yardstick is None:
        _refuse_other_machine(old, new)
    changes: list[Change] = []
    for row, before in common:
        scope = _scope(row, before, *(yardstick or ()))
        if scope is None:
            continue
        for metric, p, limit in LIMITS:
            a, b = row.scopes[scope], before.scopes[scope]
            if yardstick is None:
                basis = "milliseconds"
                point, draws = unpaired_draws(a.processes, b.processes, p)
            else:
                basis = f"ratio to {yardstick[0].name}"
                now, now_draws = _to_peer(a, yardstick[0].scopes[scope], p, seed=1)
                then, then_draws = _to_peer(b, yardstick[1].scopes[scope], p, seed=2)
                point, draws = now / then, now_draws / then_draws
            ratio = interval(point, draws, min(len(a.processes), len(b.processes)))
            changes.append(
                Change(
                    contestant=row.name,
                    scope=scope,
                    metric=metric,
                    basis=basis,
                    ratio=ratio,
                    limit=limit,
                    regression=ratio.low > limit,
                )
            )
    return tuple(changes)


def _to_peer(scope: Scope, peer: Scope, p: float, seed: int) -> tuple[float, NDArray[np.float64]]:
    return paired_draws(scope.processes, peer.processes, p, seed)


def _row(report: Report, name: str) -> Row | None:
    return next((row for row in report.rows if row.name == name), None)


def _scope(*rows: Row) -> ScopeName | None:
    names: tuple[ScopeName, ...] = ("pipeline", "model", "engine")
    return next((name for name in names if all(name in row.scopes for row in rows)), None)


def _refuse_other_machine(old: Report, new: Report) -> None:
    for field in ("cpu", "cores", "zoo_isa", "architecture"):
        before, after = getattr(old.machine, field), getattr(new.machine, field)
        if before != after:
            raise DataError(
                f"bench: the baseline was taken with {field} {before}, this run with {after}: milliseconds cannot be "
                "compared. Measure a peer in both runs (--peer), so that ratios can"
            )
