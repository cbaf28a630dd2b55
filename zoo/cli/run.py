# SPDX-License-Identifier: Apache-2.0
"""``zoo run``."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.common import emit_json, emit_table, json_option

if TYPE_CHECKING:
    from zoo.runtime import Prediction


@click.command("run")
@click.argument("model")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--target", help="Which built bundle of a name; default: the fp32 one for any CPU.")
@click.option("--precision", help="Which built bundle of a name.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Engine threads; default: the bundle's own choice."
)
@click.option(
    "--hop",
    type=click.FloatRange(min=0, min_open=True),
    help="Predict sliding windows, one every HOP seconds.",
)
@json_option
def run_command(
    model: str,
    inputs: tuple[Path, ...],
    target: str | None,
    precision: str | None,
    threads: int | None,
    hop: float | None,
    as_json: bool,
) -> None:
    """Run MODEL (a name, or a bundle's path) on audio files (WAV, FLAC; any rate).

    Times are milliseconds; scores are probabilities.

    Example: zoo run tim-net-emodb clip.wav --json
    """
    import zoo

    started = time.perf_counter()
    loaded = zoo.load(model, target=target, precision=precision, threads=threads)
    load_ms = (time.perf_counter() - started) * 1e3
    results: list[dict[str, Any]] = []
    predictions: list[tuple[Path, Prediction]] = []
    for path in inputs:
        found = list(_windows(loaded, path, hop)) if hop else [loaded(path)]
        for prediction in found:
            predictions.append((path, prediction))
            results.append(_as_json(path, prediction, loaded.manifest.provenance.weights))
    if as_json:
        emit_json(results)
        return
    if loaded.manifest.provenance.weights == "random":
        click.echo("zoo: this bundle has random weights: the labels mean nothing", err=True)
    show_window = hop is not None
    rows = []
    for path, prediction in predictions:
        best = sorted(prediction.scores.items(), key=lambda pair: -pair[1])
        rows.append(
            (
                str(path),
                *((f"{prediction.start:.2f}-{prediction.end:.2f}",) if show_window else ()),
                prediction.label or ", ".join(prediction.labels) or "-",
                ", ".join(f"{name} {value:.3f}" for name, value in best),
                f"{prediction.timing.total:.2f}",
            )
        )
    emit_table(("input", *(("seconds",) if show_window else ()), "label", "scores", "ms"), rows)
    click.echo(
        f"zoo: {loaded.manifest.name} {loaded.manifest.target} {loaded.manifest.precision}, loaded in {load_ms:.0f} ms",
        err=True,
    )


def _windows(model: Any, path: Path, hop: float) -> Any:
    from zoo import ops

    info = ops.audio_info(path)
    block = 10 * info.rate

    def chunks() -> Any:
        for start in range(0, info.frames, block):
            yield ops.read_audio(path, start=start, frames=min(block, info.frames - start))[0]

    return model.stream(chunks(), rate=info.rate, hop=hop)


def _as_json(path: Path, prediction: Prediction, weights: str) -> dict[str, Any]:
    timing = prediction.timing
    result: dict[str, Any] = {
        "input": str(path),
        "label": prediction.label,
        "labels": prediction.labels,
        "scores": prediction.scores,
        "values": prediction.values,
        "weights": weights,
        "timing_ms": {
            "decode": timing.decode_input,
            "preprocess": timing.preprocess,
            "engine": timing.engine,
            "total": timing.total,
        },
    }
    if not math.isnan(prediction.end):
        result["start_s"], result["end_s"] = prediction.start, prediction.end
    return result
