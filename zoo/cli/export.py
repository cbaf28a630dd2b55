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
from zoo.cli.tune import show_tuning


@click.command("export")
@click.argument("name")
@click.option("--target", default="cpu-x86", show_default=True, help="A target of zoo targets.")
@click.option("--precision", default="fp32", show_default=True, help="fp32, fp16, int8, or auto.")
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
    "--tune",
    is_flag=True,
    help="Also choose threads, batch and shape profile by measuring here; the bundle keeps the table.",
)
@click.option(
    "--quick", is_flag=True, help="With --tune or --precision auto: 3 processes of 1 s, for a look."
)
@force_option
@json_option
def export_command(
    name: str,
    target: str,
    precision: str,
    compute_capability: str | None,
    out: Path | None,
    data: Path | None,
    weights: Path | None,
    budget: float,
    tune: bool,
    quick: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Build, verify and write a bundle of model NAME.

    fp32 needs nothing but the package; int8 needs the data set for calibration and for the accuracy gate.

    Example: zoo export tim-net-emodb --target openvino-cpu --precision int8 --data DATA --out tim.zoo
    """
    from zoo.export import export_model
    from zoo.runtime.bench import Options

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
            tune=tune,
            protocol=Options.quick() if quick else None,
            force=force,
            progress=report,
        )
    manifest = result.manifest
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
    if manifest.gate:
        g = manifest.gate
        click.echo(
            f"gate: {g.metric} {percent(g.reference)} -> {percent(g.artifact)}, loss {100 * g.difference:+.2f} points "
            f"[{100 * g.low:+.2f}, {100 * g.high:+.2f}], n={g.n}, budget {100 * g.budget:.2f}"
        )
    for note in manifest.notes:
        click.echo(f"note: {note}")
    show_tuning(manifest)
    click.echo(str(result.path))
