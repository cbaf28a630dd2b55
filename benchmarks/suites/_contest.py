# SPDX-License-Identifier: Apache-2.0
"""What the suites of single models share: which bundles, goals against peers, and the tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
from _results import table
from msgspec import Struct

from zoo.bundle import open_bundle
from zoo.errors import CheckFailed
from zoo.runtime.bench import Report, Row, summary
from zoo.runtime.bench.report import machine_line
from zoo.runtime.bench.stats import Ratio, interval, paired_draws
from zoo.runtime.engines import engine_status
from zoo.store import DEFAULT_PRECISION, DEFAULT_TARGET, find_bundle, home

BENCHMARKS = Path(__file__).resolve().parent.parent


class Goal(Struct, frozen=True, kw_only=True):
    """One target of the project, what was measured, and whether it is met."""

    goal: str
    measured: str
    met: bool


class Quantised(Struct, frozen=True, kw_only=True):
    """INT8 over fp32 on one target; above 1, INT8 is the slower one."""

    target: str
    scope: str
    ratio: Ratio


def built_bundles(model: str) -> list[Path]:
    """The model's bundles: the default one first, then those in the store."""
    first = find_bundle(model, target=DEFAULT_TARGET, precision=DEFAULT_PRECISION)
    stored = home() / "bundles" / model
    return [first, *(path for path in sorted(stored.glob("*-*")) if path.resolve() != first.resolve())]


def runnable(bundles: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Those whose engine has a device here; and a line for each other one."""
    kept, skipped = [], []
    for path in bundles:
        manifest = open_bundle(path).manifest
        status = engine_status(manifest.engines[0].kind)
        if status.devices:
            kept.append(path)
        else:
            skipped.append(f"{manifest.name} {manifest.target} {manifest.precision}: {status.problem}")
    return kept, skipped


def peer_goals(report: Report, wanted: Mapping[str, float], base: Row | None = None) -> Iterator[Goal]:
    """How many times as fast ``base`` (None: the first bundle) is to be as each peer.

    By CPU time too, which other processes hardly move: on a busy machine a peer's longer calls are interrupted, ours are not.
    """
    by = "" if base is None else f"{base.name}: "
    for name, times in wanted.items():
        row = next((row for row in report.rows if row.name == name), None)
        ratio = _against(row, base or report.rows[0], first=base is None) if row else None
        yield Goal(
            goal=f"{by}pipeline p50 at least {times:g} times as fast as {name}",
            measured=f"{told(ratio[0])}, by CPU time {ratio[1]:.2f}" if ratio else why(row),
            met=ratio is not None and min(ratio[0].value, ratio[1]) >= times,
        )


def _against(row: Row, base: Row, *, first: bool) -> tuple[Ratio, float] | None:
    """p50 and CPU time of ``row`` over those of ``base``; None where one of them has none."""
    if row.void or base.void or not {"pipeline"} <= row.scopes.keys() & base.scopes.keys():
        return None
    theirs, ours = row.scopes["pipeline"], base.scopes["pipeline"]
    ratio = theirs.vs_first if first else None
    if ratio is None:
        n = min(len(ours.processes), len(theirs.processes))
        ratio = interval(*paired_draws(theirs.processes, ours.processes, 0.5), n)
    return ratio, theirs.cpu_ms / ours.cpu_ms


def told(ratio: Ratio) -> str:
    """A ratio with its interval."""
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def why(row: Row | None) -> str:
    """Why a row has no figures."""
    return "not measured" if row is None or row.void is None else f"void: {row.void}"


def quantised(report: Report) -> Iterator[Quantised]:
    """INT8 against fp32 of the same target."""
    bundles = {
        (row.target, row.precision): row for row in report.rows if row.kind == "bundle" and not row.void
    }
    for (target, precision), row in bundles.items():
        full = bundles.get((target, "fp32"))
        if precision != "int8" or full is None or target is None:
            continue
        for name in ("engine", "pipeline"):
            new, old = row.scopes[name].processes, full.scopes[name].processes
            ratio = interval(*paired_draws(new, old, 0.5), min(len(new), len(old)))
            yield Quantised(target=target, scope=name, ratio=ratio)


def goal_lines(goals: Sequence[Goal]) -> list[str]:
    """The table of goals."""
    rows = [(g.goal, g.measured, "yes" if g.met else "**no**") for g in goals]
    return ["## Goals", "", *table(("goal", "measured", "met"), rows)]


def report_lines(title: str, report: Report) -> list[str]:
    """A report with its heading."""
    lines = ["", f"## {title}", "", machine_line(report), "", *table(*summary(report))]
    versions = {f"{name} {number}" for row in report.rows for name, number in row.versions.items()}
    lines += ["", f"Versions: {', '.join(sorted(versions))}, Python {report.machine.python}."]
    flags = ", ".join(report.machine.isa_flags)
    return [*lines, f"CPU flags: {flags}.", "", *(f"- {note}" for note in report.notes)]


def int8_lines(int8: Sequence[Quantised]) -> list[str]:
    """INT8 over fp32; nothing where there is none."""
    if not int8:
        return []
    rows = [
        (
            *(q.target, q.scope, told(q.ratio)),
            "faster" if q.ratio.high < 1 else "slower" if q.ratio.low > 1 else "no clear difference",
        )
        for q in int8
    ]
    lines = ["", "## INT8 over fp32, p50 [95 %]", ""]
    return [*lines, *table(("target", "scope", "ratio", "INT8 is"), rows)]


def skipped_lines(skipped: Sequence[str]) -> list[str]:
    """Bundles that could not run."""
    return ["", "## Not measured here", "", *(f"- {line}" for line in skipped)] if skipped else []


def refuse_void(*reports: Report | None) -> None:
    """Raise CheckFailed where a row is void."""
    rows = [row for report in reports if report is not None for row in report.rows]
    void = [f"{row.name}: {row.void}" for row in rows if row.void]
    if void:
        raise CheckFailed("void: " + "; ".join(void))


def progress(stage: str, done: int, total: int) -> None:
    """One line on stderr for each process."""
    click.echo(f"{stage} {done}/{total}", err=True)
