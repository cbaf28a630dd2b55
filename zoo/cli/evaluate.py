# SPDX-License-Identifier: Apache-2.0
"""``zoo eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from zoo.cli.common import data_option, emit_json, emit_table, figure, json_option, percent, progress

if TYPE_CHECKING:
    from zoo.runtime.model import Model


@click.command("eval")
@click.argument("bundle")
@data_option
@click.option(
    "--reader",
    metavar="NAME",
    help="Read DIR as another data set with the model's labels, one that it was not made for: a module of zoo.data.",
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Engine threads; default: the bundle's own choice."
)
@json_option
def eval_command(
    bundle: str, data: Path | None, reader: str | None, threads: int | None, as_json: bool
) -> None:
    """Score BUNDLE (or a model's name) on a labelled data set, from raw inputs to labels.

    Some models' weights are trained on the whole published data set: on that very set the figure shows
    that the artifact works, not how well it does on new speakers. zoo info has the held-out figures.
    Others have a held-out part, and only it is scored. DIR may be a file where the data set's reader takes one.
    Models that give curves are scored film by film: of bins the accuracy and that within one bin, of curves MAE, MSE and
    Pearson's correlation, each the mean over films.

    Example: zoo eval tim-net-emodb --data DIR --json
    """
    import zoo
    from zoo import registry
    from zoo.card import DataSpec
    from zoo.data import Excerpt, Source, open_dataset
    from zoo.evaluation import evaluate, scores_of
    from zoo.specs import Heads, curves

    model = zoo.load(bundle, threads=threads)
    card, variant = registry.find(model.name)
    if curves(model.manifest.decode):
        _films(model, data, reader, as_json)
        return
    spec = variant.data if reader is None else DataSpec(reader=reader)
    dataset = open_dataset(card, spec, data)
    if any(item.group in variant.held_out for item in dataset.items):
        dataset = dataset.only(variant.held_out)
    decode = model.manifest.decode
    if isinstance(decode, Heads) and not dataset.heads:
        # Another data set of one kind of labels: it is the truth of the head that has them.
        own = [head.name for head in decode.heads if head.metric and set(head.labels) == set(dataset.labels)]
        dataset = dataset.under(own[0]) if len(own) == 1 else dataset

    def predict(source: Source) -> NDArray[np.float64]:
        assert not isinstance(source, Excerpt), "no other model has the labels of films"
        return scores_of(decode, model(source).outputs)

    with progress() as report:
        result = evaluate(
            predict,
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
                "readings": {
                    name: {
                        **vars(figures),
                        "present_names": [result.labels[i] for i in figures.present_idx],
                    }
                    for name, figures in result.readings.items()
                },
                "is_training_data": seen,
                "weights": model.manifest.provenance.weights,
                "predictions": dict(zip(result.ids, result.predicted, strict=True)),
            }
        )
        return
    low, high = result.interval
    if seen:
        click.echo("These items are the model's training data: not a held-out figure (see zoo info).")
    click.echo(
        f"{result.metric} {percent(result.metrics[result.metric])} [{percent(low)}, {percent(high)}], n={result.n}, {dataset.name}"
    )
    if model.manifest.provenance.weights == "random":
        click.echo("The weights are random: the figure means nothing.")
    click.echo(", ".join(f"{name} {figure(name, value)}" for name, value in result.metrics.items()))
    if not result.confusion:
        return
    for name, figures in result.readings.items():
        if len(figures.present_idx) < len(result.labels):
            click.echo(
                f"{name} ({len(figures.present_idx)} of {len(result.labels)} labels occur): accuracy {percent(figures.acc)}, "
                f"macro-F1 {percent(figures.macro_f1)}, balanced accuracy {percent(figures.bacc)}"
            )
    header = ("true \\ predicted", *result.labels)
    emit_table(
        header,
        [
            (label, *(str(count) for count in row))
            for label, row in zip(result.labels, result.confusion, strict=True)
        ],
    )


def _films(model: Model, data: Path | None, reader: str | None, as_json: bool) -> None:
    """Score a model that gives curves."""
    from zoo.data import default_root
    from zoo.data.films import read_films
    from zoo.errors import DataError
    from zoo.evaluation import evaluate_curves
    from zoo.metrics import finite

    if reader not in (None, "films"):
        raise DataError(f"{model.name} gives curves: it is scored on films, not on {reader}")
    root = data or default_root()
    if root is None:
        raise DataError("reader films needs its data set: give --data DIR or set ZOO_DATA")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder (reader films)")

    def predict(path: Path) -> dict[str, tuple[NDArray[np.int64], int]]:
        heads = model(path).heads
        found = {name: head.series for name, head in heads.items() if head.series is not None}
        return {name: (series.bins, series.count) for name, series in found.items()}

    films = read_films(root)
    with progress() as report:
        result = evaluate_curves(predict, films, model.manifest.decode, progress=report)
    weights = model.manifest.provenance.weights
    if as_json:
        emit_json(
            {
                "bundle": str(model.bundle.path),
                "name": model.name,
                "data": "films",
                "n": len(films),
                "metrics": finite(result.metrics),
                "intervals": {
                    name: interval if np.isfinite(interval).all() else None
                    for name, interval in result.intervals.items()
                },
                "films": {
                    name: {"steps": result.steps[name], **finite(figures)}
                    for name, figures in result.films.items()
                },
                "weights": weights,
            }
        )
        return
    click.echo(f"{len(films)} films, {sum(result.steps.values())} steps; means over films")
    if weights == "random":
        click.echo("The weights are random: the figures mean nothing.")
    rows = []
    for name, value in result.metrics.items():
        low, high = result.intervals.get(name, (float("nan"), float("nan")))
        interval = f"{figure(name, low)} to {figure(name, high)}" if np.isfinite((low, high)).all() else "-"
        rows.append((name, figure(name, value) if np.isfinite(value) else "-", interval))
    emit_table(("figure", "value", "95 % over films"), rows)
