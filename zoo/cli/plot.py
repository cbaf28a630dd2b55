# SPDX-License-Identifier: Apache-2.0
"""``zoo plot``."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.common import force_option, series_of, smooth_option


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
@force_option
def plot_command(
    model: str,
    given: str,
    target: str | None,
    precision: str | None,
    threads: int | None,
    out: Path | None,
    smooth: float | None,
    force: bool,
) -> None:
    """Run MODEL on INPUT, an audio or video file, and draw the curves that it gives over time (seconds) as PNG.

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
    found = curves(manifest.decode)
    if not found:
        raise click.UsageError(f"{manifest.name} gives no curve; zoo run shows what it gives")
    prediction = loaded(given)
    if smooth is not None:
        prediction = smoothed(prediction, manifest.decode, smooth)
    series = series_of(prediction)
    title = f"{manifest.name}: {Path(given).name}"
    if manifest.provenance.weights == "random":
        title += " (random weights: this means nothing)"
    ranges = {name: one.range for name, one in zip(series, found, strict=True)}
    drawn = {
        name: (one.seconds, one.values, curve(one.bins, count=one.count, span=ranges[name]).astype("float64"))
        for name, one in series.items()
    }
    write_output(where, draw_curves(drawn, ranges, title=title))
    click.echo(str(where))
