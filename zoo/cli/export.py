# SPDX-License-Identifier: Apache-2.0
"""``zoo export``."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.common import (
    data_option,
    disk_size,
    emit_json,
    force_option,
    human_size,
    json_option,
    percent,
    progress,
)
from zoo.cli.matrix import export_all, matrix_options
from zoo.cli.pareto import emit_pareto, write_report
from zoo.cli.tune import show_tuning
from zoo.store import DEFAULT_PRECISION, DEFAULT_TARGET


@click.command("export")
@click.argument("name", required=False)
@click.option(
    "--target",
    "targets",
    multiple=True,
    help="A target of zoo targets; several with --all.  [default: cpu-x86]",
)
@click.option(
    "--precision",
    help="fp32, fp16, bf16, int8, int8-weights, int4-weights, or auto; with --all a list, default all.  [default: fp32]",
)
@click.option(
    "--compute-capability",
    metavar="X.Y",
    help="Of the GPU, where the target can be built for several (zoo targets).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The bundle's folder, or a file ending in .zoo. Default: the store, where zoo run NAME finds it.",
)
@data_option
@click.option(
    "--weights", type=click.Path(path_type=Path), help="Other weights (zoo train, zoo convert), safetensors."
)
@click.option(
    "--budget",
    type=click.FloatRange(0, 100),
    default=0.5,
    show_default=True,
    help="Points of the headline metric that may be lost.",
)
@click.option(
    "--quantize",
    default="",
    metavar="OPTION,...",
    help="Options of the int8 quantiser: equalize, smooth, bias-correct, per-tensor.",
)
@click.option(
    "--pareto",
    is_flag=True,
    help="Also measure every precision of the target here: accuracy, latency and size, kept in the bundle.",
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path),
    help="With --pareto: also write the table there, JSON where it ends in .json, else Markdown. With --all: where the "
    "report goes.  [default: report.json in --out]",
)
@click.option(
    "--tune",
    is_flag=True,
    help="Also choose threads, batch and shape profile by measuring here; the bundle keeps the table.",
)
@click.option(
    "--quick", is_flag=True, help="With --tune or --precision auto: 3 processes of 1 s, for a look."
)
@force_option
@matrix_options
@json_option
def export_command(
    name: str | None,
    targets: tuple[str, ...],
    precision: str | None,
    compute_capability: str | None,
    out: Path | None,
    data: Path | None,
    weights: Path | None,
    budget: float,
    quantize: str,
    pareto: bool,
    report_file: Path | None,
    tune: bool,
    quick: bool,
    force: bool,
    everything: bool,
    models: str,
    jobs: int,
    as_json: bool,
) -> None:
    """Build, verify and write a bundle of model NAME, or with --all of every model in every precision.

    fp32 needs nothing but the package; int8 needs the data set for calibration and for the accuracy gate.

    With --all a cell that is there already, made from the same inputs, is skipped, and one made from others is replaced; a
    report in JSON says what became of each, and why. Exit code 0: all are built, or refused as card or target declare.

    Example: zoo export tim-net-emodb --target openvino-cpu --precision int8 --data DATA --out tim.zoo

    Example: zoo export --all --target cpu-x86 --target openvino-cpu --precision fp32,int8 --data DATA
    """
    if everything:
        if name is not None or weights is not None:
            raise click.UsageError("--all takes neither NAME nor --weights; choose models with --model")
        if tune or quick or pareto:
            raise click.UsageError(
                "--tune, --quick and --pareto measure one model: give NAME instead of --all"
            )
        if quantize:
            raise click.UsageError("--quantize is for one model: give NAME instead of --all")
        export_all(
            targets,
            models=models,
            precisions=precision,
            compute_capability=compute_capability,
            out=out,
            data=data,
            budget=budget / 100,
            force=force,
            jobs=jobs,
            report=report_file,
            as_json=as_json,
        )
        return
    if name is None:
        raise click.UsageError("Missing argument 'NAME'; zoo list shows all names, --all takes every model")
    if len(targets) > 1 or models != "*" or jobs != 1:
        raise click.UsageError("several targets, --model and --jobs go with --all only")
    from zoo.export import export_model
    from zoo.runtime.bench import Options

    if report_file is not None:
        from zoo.bundle import check_output

        if not pareto:
            raise click.UsageError("--report goes with --all or --pareto")
        check_output(report_file, force=force)
    target = targets[0] if targets else DEFAULT_TARGET
    precision = precision or DEFAULT_PRECISION
    if quick and not tune and precision != "auto":
        raise click.UsageError("--quick needs --tune or --precision auto")
    with progress() as report:
        result = export_model(
            name,
            target=target,
            precision=precision,
            compute_capability=compute_capability,
            out=out,
            data=data,
            weights=weights,
            budget=budget / 100,
            quantize=[step.strip() for step in quantize.split(",") if step.strip()],
            pareto=pareto,
            tune=tune,
            protocol=Options.quick() if quick else None,
            force=force,
            progress=report,
        )
    manifest = result.manifest
    if report_file is not None:
        write_report(report_file, manifest)
    size = disk_size(result.path)
    if as_json:
        emit_json(
            {
                "bundle": str(result.path),
                "name": manifest.name,
                "target": manifest.target,
                "precision": manifest.precision,
                "size": size,
                "seconds": result.seconds,
                "weights": manifest.provenance.weights,
                "parity": manifest.parity,
                "gate": manifest.gate,
                "kept": manifest.engines[0].kept,
                "pareto": manifest.pareto,
                "tuning": manifest.tuning,
                "notes": manifest.notes,
            }
        )
        return
    click.echo(
        f"{manifest.name} {manifest.target} {manifest.precision}: {human_size(size)} in {result.seconds:.1f} s"
    )
    if manifest.provenance.weights == "random":
        click.echo("weights: random (labels mean nothing; latency is valid)")
    if manifest.parity:
        p = manifest.parity
        click.echo(
            f"parity: {p.max_error:.1e} of the output range over {p.inputs} inputs ({p.input_source}; {p.verified_on})"
        )
        if p.cosine is not None:
            click.echo(f"embedding: cosine to fp32's {p.cosine:.5f} at least")
    if manifest.gate:
        g = manifest.gate
        click.echo(
            f"gate: {g.metric} {percent(g.reference)} -> {percent(g.artifact)}, loss {100 * g.difference:+.2f} points "
            f"[{100 * g.low:+.2f}, {100 * g.high:+.2f}], n={g.n}, budget {100 * g.budget:.2f}"
        )
    for note in manifest.notes:
        click.echo(f"note: {note}")
    emit_pareto(manifest.pareto)
    show_tuning(manifest)
    click.echo(str(result.path))
