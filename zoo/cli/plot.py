# SPDX-License-Identifier: Apache-2.0
"""``zoo plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.common import force_option, rate_option, series_of, smooth_option
from zoo.cli.plot_map import map_of

if TYPE_CHECKING:
    from zoo.runtime.model import Model


@click.command("plot")
@click.argument("model")
@click.argument("given", metavar="INPUT")
@click.option("--target", help="Which built bundle of a name; default: the fp32 one for any CPU.")
@click.option("--precision", help="Which built bundle of a name.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Engine threads; default: the bundle's own choice."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="PNG file to write. Default: the input's name with .png, in this folder.",
)
@smooth_option
@rate_option
@force_option
def plot_command(
    model: str,
    given: str,
    target: str | None,
    precision: str | None,
    threads: int | None,
    out: Path | None,
    smooth: float | None,
    rate: float | None,
    force: bool,
) -> None:
    """Run MODEL on INPUT, an audio or video file, and draw the curves that it gives over time (seconds) as PNG.

    INPUT may be a folder of images for a model that gives embeddings: a map of them is drawn, alike ones near each other
    (the plane of the first two principal components).

    Of a model of EEG: the topomaps of its windows, a row for each band, with the answer to each; of many windows twelve,
    evenly spread.

    Needs matplotlib: pip install 'affect-zoo[plot]'.

    Example: zoo plot movie-affect-audio film.mp4 --smooth 2 --out film.png
    """
    import zoo
    from zoo.bundle import check_output, write_output
    from zoo.curves import curve
    from zoo.plots import draw_curves
    from zoo.runtime.prediction import smoothed
    from zoo.specs import curves

    where = out or Path(Path(given).with_suffix(".png").name)
    check_output(where, force=force)
    loaded = zoo.load(model, target=target, precision=precision, threads=threads)
    manifest = loaded.manifest
    if Path(given).is_dir():
        write_output(where, map_of(loaded, Path(given)))
        click.echo(str(where))
        return
    title = f"{manifest.name}: {Path(given).name}"
    if manifest.provenance.weights == "random":
        title += " (random weights: this means nothing)"
    if any(op["op"] == "topomap" for op in loaded.pipeline.describe()):
        if smooth is not None:
            raise click.UsageError("--smooth is for curves; this model gives none")
        write_output(where, _topomaps(loaded, given, rate, title))
        click.echo(str(where))
        return
    if rate is not None:
        raise click.UsageError("--rate is for EEG files that do not say theirs")
    found = curves(manifest.decode)
    if not found:
        raise click.UsageError(f"{manifest.name} gives no curve; zoo run shows what it gives")
    prediction = loaded(given)
    if smooth is not None:
        prediction = smoothed(prediction, manifest.decode, smooth)
    series = series_of(prediction)
    ranges = {name: one.range for name, one in zip(series, found, strict=True)}
    drawn = {
        name: (one.seconds, one.values, curve(one.bins, count=one.count, span=ranges[name]).astype("float64"))
        for name, one in series.items()
    }
    write_output(where, draw_curves(drawn, ranges, title=title))
    click.echo(str(where))


def _topomaps(model: Model, given: str, rate: float | None, title: str) -> bytes:
    import numpy as np

    from zoo.plots import STRIP, draw_topomaps
    from zoo.runtime.modality import modality
    from zoo.runtime.prediction import numbers

    spec = model.manifest.input
    chunks, _ = modality(spec.modality).chunks(Path(given), spec, rate)
    parts = list(chunks)
    answers = list(model.stream(parts))
    samples = np.concatenate([part.in_order(spec.names, part.rate, model.name) for part in parts])
    maps = model.pipeline.run(samples, parts[0].rate)
    bands = next(op["bands"] for op in model.pipeline.describe() if op["op"] == "bandpower")
    names = [f"{low:g}-{high:g} Hz" for low, high in zip(bands[::2], bands[1::2], strict=True)]
    chosen = np.unique(np.linspace(0, len(answers) - 1, min(STRIP, len(answers))).round().astype(int))
    captions = []
    for answer in (answers[i] for i in chosen):
        values = ", ".join(f"{name} {value:.2f}" for name, value in numbers(answer, answer.heads).items())
        captions.append(f"{answer.start:.1f} s\n{answer.label or values}")
    return draw_topomaps(maps[chosen], names, captions, title=title)
