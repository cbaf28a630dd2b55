# SPDX-License-Identifier: Apache-2.0
"""``zoo bench``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from zoo.cli.common import emit_json, emit_table, force_option, json_option, progress
from zoo.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from zoo.runtime.bench import Change, Report
    from zoo.runtime.bench.report import ScopeName


@click.command("bench")
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE_OR_NAME...")
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="FILE.py:FACTORY",
    help="Measure a peer beside them; repeatable.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of audio, image, EEG or video files to take inputs from (texts: a file). Default: the first bundle's golden inputs.",
)
@click.option(
    "--rate",
    type=click.IntRange(1, 768_000),
    help="Rate of sounds, Hz; default: the model's own. Of EEG files that do not say theirs.",
)
@click.option("--processes", type=click.IntRange(1, 1000), help="Fresh processes a contestant. Default 5.")
@click.option(
    "--seconds", type=click.FloatRange(0.01, 3600), help="Timed seconds of the widest scope. Default 10."
)
@click.option("--quick", is_flag=True, help="3 processes of 1 s: for a look, not for publication.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Engine threads. Default: the bundle's own choice."
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(("engine", "model", "pipeline")),
    help="engine: run only; model: and decoding; pipeline: raw input to label. Repeatable. Default: all.",
)
@click.option("--duty", is_flag=True, help="Also one call every 100 ms and every 2 s.")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="REPORT.json",
    help="Compare with an earlier report: ratios to a common peer, else milliseconds of the same kind of machine.",
)
@click.option("--fail-on-regression", is_flag=True, help="Exit 6 if --baseline shows a regression.")
@click.option("--out", type=click.Path(path_type=Path), metavar="REPORT.json", help="Write the whole report.")
@force_option
@json_option
def bench_command(
    bundles: tuple[str, ...],
    peers: tuple[str, ...],
    data: Path | None,
    rate: int | None,
    processes: int | None,
    seconds: float | None,
    quick: bool,
    threads: int | None,
    scopes: tuple[ScopeName, ...],
    duty: bool,
    baseline: Path | None,
    fail_on_regression: bool,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Measure bundles, or models' own bundles, from raw input to label, in fresh interleaved processes.

    Ratios are against the first one. A row is void, and the exit status 6, where a result was wrong, a peer does
    other work, or nodes run elsewhere than asked for.

    Example: zoo bench tim-net-emodb --peer benchmarks/peers/librosa_onnxruntime.py:factory

    The table goes to stdout, the whole report to --out.
    """
    from zoo.bundle import check_output
    from zoo.runtime.bench import Contestant, Options, bench, compare, read_report, write_report
    from zoo.runtime.bench.subject import split_peer
    from zoo.store import find_bundle

    if fail_on_regression and baseline is None:
        raise click.UsageError("--fail-on-regression needs --baseline")
    for peer in peers:
        split = split_peer(peer)
        if split is None:
            raise click.UsageError(f"--peer {peer}: give FILE.py:FACTORY")
        if not split[0].is_file():
            raise InputError(f"--peer {peer}: there is no file {split[0]}")
    if out is not None:
        check_output(out, force=force)
    old = read_report(baseline) if baseline else None
    base = Options.quick() if quick else Options()
    options = dataclasses.replace(
        base,
        processes=processes or base.processes,
        seconds=seconds or base.seconds,
        scopes=scopes or base.scopes,
        threads=threads,
        duty=duty,
        data=data,
        rate=rate,
    )
    contestants = [Contestant(str(find_bundle(bundle))) for bundle in bundles] + [
        Contestant(peer) for peer in peers
    ]
    with progress() as callback:
        report = bench(contestants, options, progress=callback)
    if out is not None:
        write_report(out, report, force=force)
    changes = compare(old, report) if old else ()
    if as_json:
        emit_json({**msgspec.to_builtins(report), "changes": changes})
    else:
        _show(report, changes)
    _judge(report, changes if fail_on_regression else ())


def _show(report: Report, changes: tuple[Change, ...]) -> None:
    from zoo.runtime.bench import summary
    from zoo.runtime.bench.report import machine_line

    click.echo(machine_line(report))
    emit_table(*summary(report))
    for row in report.rows:
        for duty in row.duty:
            click.echo(
                f"{row.name}: every {duty.period_ms:g} ms: p50 {duty.p50_ms:.3f} ms, worst {duty.max_ms:.3f} ms, n={duty.n}"
            )
    for note in report.notes:
        click.echo(f"note: {note}")
    for change in changes:
        ratio = change.ratio
        click.echo(
            f"{'REGRESSION' if change.regression else 'ok'}: {change.contestant} {change.scope} {change.metric} is "
            f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] of the baseline ({change.basis})"
        )


def _judge(report: Report, changes: tuple[Change, ...]) -> None:
    """Raise CheckFailed for void rows and regressions."""
    problems = [f"{row.name} is void: {row.void}" for row in report.rows if row.void]
    problems += [
        f"{change.contestant}: {change.scope} {change.metric} grew by at least {change.ratio.low - 1:.1%} "
        f"(limit {change.limit - 1:.0%})"
        for change in changes
        if change.regression
    ]
    if problems:
        raise CheckFailed("bench: " + "; ".join(problems))
