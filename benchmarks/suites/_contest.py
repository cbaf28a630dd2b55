# SPDX-License-Identifier: Apache-2.0
"""What the suites of single models share: the command, which bundles, goals against peers, and the tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, Literal

import click
from _results import check_folder, file_stem, table, write_results
from msgspec import Struct

from zoo.bundle import open_bundle
from zoo.errors import CheckFailed, ZooError
from zoo.runtime.bench import Contestant, Options, Report, Row, summary
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


class Found(Struct, frozen=True, kw_only=True):
    """What every suite finds. ``main``: raw input to label of all contestants; ``skipped``: bundles without an engine here."""

    schema: Literal[1]
    model: str
    main: Report
    goals: tuple[Goal, ...]
    int8: tuple[Quantised, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Contest:
    """What a call of a suite's command asks for. ``bundles``: those that can run here; peers redo the first."""

    bundles: tuple[Path, ...]
    skipped: tuple[str, ...]
    peers: tuple[Contestant, ...]
    options: Options
    out: Path | None
    force: bool

    @property
    def compared(self) -> list[Contestant]:
        """The first bundle and its peers."""
        return [Contestant(str(self.bundles[0])), *self.peers]

    @property
    def contestants(self) -> list[Contestant]:
        """The first bundle, its peers, the other bundles."""
        return [*self.compared, *(Contestant(str(path)) for path in self.bundles[1:])]

    def finish(self, suite: Found, text: str, *others: Report | None, prefix: str = "") -> None:
        """Print the tables and write the results ``<prefix><date>-<isa>-<cpu>``; those of a look only where ``--out`` says.

        Raises
        ------
        CheckFailed
            A row of ``suite.main`` or of the ``others`` is void; the results are written nevertheless.
        ZooError
            They exist and ``--force`` is not given, or they cannot be written.
        """
        click.echo(text)
        out = BENCHMARKS / "results" if self.out is None and not suite.main.quick else self.out
        if out is not None:
            stem = write_results(out, prefix + file_stem(suite.main), suite, text, force=self.force)
            click.echo(f"written: {os.path.relpath(stem)}.json and .md", err=True)
        rows = [row for report in (suite.main, *others) if report is not None for row in report.rows]
        void = [f"{row.name}: {row.void}" for row in rows if row.void]
        if void:
            raise CheckFailed("void: " + "; ".join(void))


def command(model: str, peers: Iterable[str]) -> Callable[[Callable[..., None]], click.Command]:
    """Make a suite's command of a function that takes a `Contest` and its own options; its docstring is the help."""

    def decorate(main: Callable[..., None]) -> click.Command:
        @click.command()
        @click.argument("bundles", nargs=-1, type=click.Path(path_type=Path))
        @click.option(
            "--model",
            "whose",
            default=model,
            show_default=True,
            help="Whose built bundles are measured when none are given.",
        )
        @click.option(
            "--quick", is_flag=True, help="A look: nothing to publish, nothing written without --out."
        )
        @click.option("--out", type=click.Path(path_type=Path), help="Folder of the results.")
        @click.option("--force", is_flag=True, help="Replace results of the same name.")
        @wraps(main)
        def whole(
            *, bundles: tuple[Path, ...], whose: str, quick: bool, out: Path | None, force: bool, **own: Any
        ) -> None:
            check_folder(out)
            kept, skipped = runnable(bundles or built_bundles(whose))
            if not kept:
                raise ZooError("no bundle can run here: " + "; ".join(skipped))
            contest = Contest(
                bundles=tuple(kept),
                skipped=tuple(skipped),
                peers=tuple(Contestant(f"{BENCHMARKS / 'peers' / name}.py:factory") for name in peers),
                options=replace(Options.quick() if quick else Options(), threads=1),
                out=out,
                force=force,
            )
            main(contest, **own)

        return whole

    return decorate


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


def head_lines(suite: Found, script: str) -> list[str]:
    """Heading, what made it, and the table of goals."""
    rows = [(g.goal, g.measured, "yes" if g.met else "**no**") for g in suite.goals]
    return [
        f"# {suite.model}, {suite.main.machine.zoo_isa or 'unknown'} kernels, {suite.main.created[:10]}",
        "",
        f"Made by `benchmarks/suites/{Path(script).name}` of version {suite.main.zoo_version}; see [the protocol](../README.md).",
        *("", "## Goals", ""),
        *table(("goal", "measured", "met"), rows),
    ]


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
