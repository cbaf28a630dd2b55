# SPDX-License-Identifier: Apache-2.0
"""``zoo train`` and ``zoo convert``."""

from __future__ import annotations

import inspect
from pathlib import Path

import click
from click.core import ParameterSource

from zoo.cli.common import data_option, emit_json, figure, force_option, json_option, progress


@click.command("train")
@click.argument("name")
@data_option
@click.option(
    "--protocol",
    type=click.Choice(["final", "kfold", "loso"]),
    default="final",
    show_default=True,
    help="final: one model on all items. kfold: random 10-fold. loso: leave one speaker out.",
)
@click.option("--epochs", type=click.IntRange(1), help="Default: the card's.")
@click.option("--seed", type=click.IntRange(0), help="Default: the card's.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the card's training table, or with config. before it of its config: --set lr=0.002 "
    "--set start=random --set config.hidden=250. A TOML value or a word; may be given more than once.",
)
@click.option("--folds", help="Only these folds, for example 0,3 (kfold) or 08,16 (loso).")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for weights, checkpoints and results; an interrupted training goes on there. Default: runs/NAME-PROTOCOL.",
)
@click.option(
    "--qat",
    is_flag=True,
    help="Fine-tune the finished model for INT8 instead, where calibration alone loses too much: 8 epochs by default, "
    "the card's fold models too. Takes no --protocol, --folds, --threads or --set.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Start from these instead of the card's: with --qat, or where a frozen encoder stands before what is trained.",
)
@click.option("--restart", is_flag=True, help="Start anew although --out holds checkpoints.")
@json_option
def train_command(
    name: str,
    data: Path | None,
    protocol: str,
    epochs: int | None,
    seed: int | None,
    settings: tuple[str, ...],
    folds: str | None,
    threads: int,
    out: Path | None,
    qat: bool,
    weights: Path | None,
    restart: bool,
    as_json: bool,
) -> None:
    """Train model NAME on its data set; the last epoch counts, never the best on a test fold.

    Example: zoo train tim-net-emodb --data DIR --protocol loso --out runs/loso

    With --qat any model with a data set is fine-tuned for INT8 against its own float32 outputs.

    Example: zoo train tim-net-emodb --qat --data DIR --out runs/qat
    """
    from zoo import registry
    from zoo import settings as changes
    from zoo.data import default_root
    from zoo.errors import DataError, ZooError

    card, variant = registry.find(name)
    given = click.get_current_context().get_parameter_source
    for option in ("protocol", "folds", "threads", "settings") if qat else ():
        if given(option) is not ParameterSource.DEFAULT:
            shown = "set" if option == "settings" else option
            raise click.UsageError(f"--{shown} does not go with --qat")
    out = out or Path("runs") / f"{variant.name}-{'qat' if qat else protocol}"
    root = data or default_root()
    if root is None:
        raise DataError(f"zoo train {name} needs its data set: give --data DIR or set ZOO_DATA")
    if qat:
        _tune(name, root, out, weights, epochs, seed, restart, as_json)
        return
    try:
        variant = changes.apply(variant, settings)
    except ZooError as error:
        raise click.UsageError(str(error)) from error
    trainer = card.module("train").train
    start: dict[str, Path] = {}
    if weights is not None:
        if "weights" not in inspect.signature(trainer).parameters:
            raise click.UsageError(f"{name} is trained from the start: --weights does not go without --qat")
        start["weights"] = weights
    with progress() as report:
        result = trainer(
            variant,
            data=root,
            out=out,
            protocol=protocol,
            epochs=epochs,
            seed=seed,
            folds=None if folds is None else folds.split(","),
            threads=threads,
            progress=report,
            resume=not restart,
            **start,
        )
    if as_json:
        emit_json(result)
        return
    for metric, value in result.metrics.items():
        # an error is in the unit of what is predicted
        unit = figure(metric, value)
        click.echo(f"{metric} {unit}")
    click.echo(str(out))


def _tune(
    name: str,
    data: Path,
    out: Path,
    weights: Path | None,
    epochs: int | None,
    seed: int | None,
    restart: bool,
    as_json: bool,
) -> None:
    from zoo.export import train_qat

    with progress() as report:
        result = train_qat(
            name,
            data=data,
            out=out,
            weights=weights,
            epochs=epochs,
            seed=seed,
            resume=not restart,
            progress=report,
        )
    if as_json:
        emit_json(result)
        return
    for metric, value in result.metrics.items():
        click.echo(f"{metric} {figure(metric, value)}")
    if result.gain:
        gain, low, high = (100 * value for value in result.gain)
        click.echo(f"gain over calibration {gain:+.2f} points [{low:+.2f}, {high:+.2f}], n={result.n}")
    for model in result.models:
        which = "all items" if model.without is None else f"without {model.without}"
        click.echo(f"distillation loss, {which}: {model.before:.3g} -> {model.after:.3g}")
    if result.gain and result.gain[0] <= 0:
        click.echo(
            "The held-out figure did not get better: calibration alone does as well, or train for more --epochs."
        )
    click.echo(
        f"next: zoo export {result.variant} --precision int8 --weights {out / result.weights} --data {data}"
    )
    click.echo(str(out))


@click.command("convert")
@click.argument("name")
@click.argument(
    "checkpoints", metavar="CHECKPOINT...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Safetensors file to write. Default: the (first) CHECKPOINT with .safetensors, or NAME.safetensors beside it or in "
    "its folder.",
)
@force_option
@json_option
def convert_command(
    name: str, checkpoints: tuple[Path, ...], out: Path | None, force: bool, as_json: bool
) -> None:
    """Convert an official CHECKPOINT (a file, or its folder) of model NAME to the zoo's weights; several where each holds a
    part of them.

    Every tensor is checked by name and shape. Export them with zoo export NAME --weights FILE.

    Example: zoo convert tim-net-ravdess 10-fold_weights_best_1.hdf5
    """
    from zoo.export import convert_model

    checkpoint = checkpoints[0]
    target = out or checkpoint.with_suffix(".safetensors")
    if out is None and checkpoint.is_dir():
        target = checkpoint / f"{name}.safetensors"
    elif target == checkpoint:
        target = checkpoint.with_name(f"{name}.safetensors")
    result = convert_model(name, checkpoints, target, force=force)
    if as_json:
        emit_json(
            {
                "weights": str(result.path),
                "variant": result.variant,
                "tensors": result.tensors,
                "parameters": result.parameters,
            }
        )
        return
    click.echo(f"{result.tensors} tensors, {result.parameters} parameters, for {result.variant}")
    click.echo(f"next: zoo export {result.variant} --weights {result.path}")
    click.echo(str(result.path))
