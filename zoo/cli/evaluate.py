# SPDX-License-Identifier: Apache-2.0
"""``zoo eval``."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.common import data_option, emit_json, emit_table, figure, json_option, percent, progress


@click.command("eval")
@click.argument("bundle")
@data_option
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Engine threads; default: the bundle's own choice."
)
@json_option
def eval_command(bundle: str, data: Path | None, threads: int | None, as_json: bool) -> None:
    """Score BUNDLE (or a model's name) on a labelled data set, from raw inputs to labels.

    Some models' weights are trained on the whole published data set: on that very set the figure shows
    that the artifact works, not how well it does on new speakers. zoo info has the held-out figures.
    Others have a held-out part, and only it is scored. DIR may be a file where the data set's reader takes one.

    Example: zoo eval tim-net-emodb --data DIR --json
    """
    import zoo
    from zoo import registry
    from zoo.data import open_dataset
    from zoo.evaluation import evaluate, scores_of

    model = zoo.load(bundle, threads=threads)
    card, variant = registry.find(model.name)
    dataset = open_dataset(card, variant.data, data)
    if any(item.group in variant.held_out for item in dataset.items):
        dataset = dataset.only(variant.held_out)
    decode = model.manifest.decode
    with progress() as report:
        result = evaluate(
            lambda source: scores_of(decode, model(source).outputs),
            dataset,
            decode=decode,
            labels=model.labels,
            metric=variant.metric,
            progress=report,
        )
    seen = dataset.fingerprint() == model.manifest.provenance.training_data_sha256
    if as_json:
        emit_json(
            {
                "bundle": str(model.bundle.path),
                "name": model.name,
                "data": dataset.name,
                "metric": result.metric,
                "metrics": result.metrics,
                "n": result.n,
                "interval": result.interval,
                "group_interval": result.group_interval,
                "confusion": result.confusion,
                "labels": result.labels,
                "is_training_data": seen,
                "weights": model.manifest.provenance.weights,
                "predictions": dict(zip(result.ids, result.predicted, strict=True)),
            }
        )
        return
    low, high = result.interval
    click.echo(
        f"{result.metric} {percent(result.metrics[result.metric])} [{percent(low)}, {percent(high)}], n={result.n}, {dataset.name}"
    )
    if seen:
        click.echo("These items are the model's training data: not a held-out figure (see zoo info).")
    if model.manifest.provenance.weights == "random":
        click.echo("The weights are random: the figure means nothing.")
    click.echo(", ".join(f"{name} {figure(name, value)}" for name, value in result.metrics.items()))
    if not result.confusion:
        return
    header = ("true \\ predicted", *result.labels)
    emit_table(
        header,
        [
            (label, *(str(count) for count in row))
            for label, row in zip(result.labels, result.confusion, strict=True)
        ],
    )
