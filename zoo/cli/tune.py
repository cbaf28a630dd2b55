# SPDX-License-Identifier: Apache-2.0
"""``zoo tune``, and the table of a tuned bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from zoo.cli.common import emit_json, emit_table, force_option, human_size, json_option, percent, progress

if TYPE_CHECKING:
    from zoo.bundle import Manifest, Trial


@click.command("tune")
@click.argument("bundle", metavar="BUNDLE_OR_NAME")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The tuned bundle. Default: BUNDLE itself; for a name whose bundle ships with the package, the store.",
)
@click.option(
    "--threads",
    "threads",
    multiple=True,
    type=click.IntRange(1, 1024),
    help="Number of engine threads to try; repeatable. Default: 1, 2, 4, ... up to the cores here.",
)
@click.option("--processes", type=click.IntRange(1, 1000), help="Fresh processes a setting. Default 5.")
@click.option("--seconds", type=click.FloatRange(0.01, 3600), help="Timed seconds of a process. Default 10.")
@click.option("--quick", is_flag=True, help="3 processes of 1 s: for a look.")
@force_option
@json_option
def tune_command(
    bundle: str,
    out: Path | None,
    threads: tuple[int, ...],
    processes: int | None,
    seconds: float | None,
    quick: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Choose a bundle's threads and batch by measuring on this machine, the one that is to run it.

    Settings run in fresh interleaved processes from raw input to label; more threads or a larger batch are taken only if surely
    5 % faster. Only the manifest changes: zoo run and zoo.load then take the choice unless told otherwise.

    Example: zoo tune tim.zoo

    The last line says where the tuned bundle is.
    """
    from zoo import store
    from zoo.bundle import open_bundle
    from zoo.export.tune import tune_bundle
    from zoo.runtime.bench import Options

    path = store.find_bundle(bundle)
    if out is None:
        # What ships with the package stays as it is; zoo.load looks into the store before it.
        ships = Path(bundle) != path and store.home() not in path.parents
        out = store.store_path(bundle, store.DEFAULT_TARGET, store.DEFAULT_PRECISION) if ships else path
        force = True
    base = Options.quick() if quick else Options()
    options = dataclasses.replace(
        base, processes=processes or base.processes, seconds=seconds or base.seconds
    )
    with progress() as report:
        manifest = tune_bundle(
            path, out, threads=sorted(set(threads)) or None, options=options, force=force, progress=report
        )
    if as_json:
        written = msgspec.json.decode(open_bundle(out).manifest_bytes)
        emit_json({"bundle": str(out), "threads": written["threads"], "tuning": written["tuning"]})
        return
    show_tuning(manifest)
    click.echo(str(out))


def show_tuning(manifest: Manifest) -> None:
    """Print what tuning tried and chose; nothing where the bundle was not tuned."""
    tuning = manifest.tuning
    if tuning is None:
        return
    click.echo(f"tuned: {manifest.precision}, threads {manifest.threads}, batch {tuning.batch}")
    click.echo(f"  on {tuning.machine}{'; QUICK: not for publication' if tuning.quick else ''}")
    click.echo(f"  {tuning.protocol}; {tuning.inputs}")
    if any(flag.startswith("busy machine") for trial in tuning.trials for flag in trial.flags):
        click.echo(
            "  The machine was busy, which slows long calls more than short ones: tune again when it is idle."
        )
    metric = tuning.metric or "metric"
    header = (
        "precision",
        "profile",
        "threads",
        "batch",
        "p50 ms",
        "p99 ms",
        "CPU ms",
        "ratio [95 %]",
        "size",
        metric,
        "",
    )
    emit_table(header, [_line(trial) for trial in tuning.trials])


def _line(trial: Trial) -> tuple[str, ...]:
    low, _, high = trial.profile.get("batch", (1, 1, 1))
    ratio = "-"
    if trial.ratio:
        ratio = f"{trial.ratio[0]:.2f} [{trial.ratio[1]:.2f}, {trial.ratio[2]:.2f}]"
    return (
        trial.precision,
        f"batch {low}" if low == high else f"batch {low}-{high}",
        str(trial.threads),
        str(trial.batch),
        "-" if trial.p50_ms is None else f"{trial.p50_ms:.3f}",
        "-" if trial.p99_ms is None else f"{trial.p99_ms:.3f}",
        "-" if trial.cpu_ms is None else f"{trial.cpu_ms:.3f}",
        ratio,
        "-" if trial.size is None else human_size(trial.size),
        percent(trial.value),
        "; ".join((trial.why, *trial.flags)),
    )
