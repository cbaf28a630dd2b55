# SPDX-License-Identifier: Apache-2.0
"""``zoo run``."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.common import emit_json, emit_table, json_option

if TYPE_CHECKING:
    from zoo.runtime.prediction import Answer, Prediction


@click.command("run")
@click.argument("model")
@click.argument("inputs", nargs=-1, required=True)
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
    inputs: tuple[str, ...],
    target: str | None,
    precision: str | None,
    threads: int | None,
    hop: float | None,
    as_json: bool,
) -> None:
    """Run MODEL (a name, or a bundle's path) on INPUTS: audio files (WAV, FLAC; any rate), or texts.

    A text is given as it is; - reads one a line from standard input. Times are milliseconds; scores are
    probabilities. Models that weigh the tokens of a text show them, the heavier the brighter.

    Example: zoo run tim-net-emodb clip.wav --json
    """
    import zoo

    started = time.perf_counter()
    loaded = zoo.load(model, target=target, precision=precision, threads=threads)
    load_ms = (time.perf_counter() - started) * 1e3
    results: list[dict[str, Any]] = []
    predictions: list[tuple[str, Prediction]] = []
    text = loaded.manifest.input.modality == "text"
    if hop and text:
        raise click.UsageError("--hop cuts audio into windows; this model takes texts")
    if not text and "-" in inputs:
        raise click.UsageError("- reads texts from standard input; this model takes audio files")
    for given in _lines(inputs) if text else inputs:
        found = list(_windows(loaded, Path(given), hop)) if hop else [loaded(given)]
        for prediction in found:
            predictions.append((given, prediction))
            results.append(_as_json(given, prediction, loaded.manifest.provenance.weights))
    if as_json:
        emit_json(results)
        return
    if loaded.manifest.provenance.weights == "random":
        click.echo("zoo: this bundle has random weights: the labels mean nothing", err=True)
    show_window = hop is not None
    heads = any(prediction.heads for _, prediction in predictions)
    rows = []
    for given, prediction in predictions:
        for head, answer in prediction.heads.items() or (("", prediction),):
            rows.append(
                (
                    given,
                    *((f"{prediction.start:.2f}-{prediction.end:.2f}",) if show_window else ()),
                    *((head,) if heads else ()),
                    answer.label or ", ".join(answer.labels) or "-",
                    _numbers(answer),
                    f"{prediction.timing.total:.2f}",
                )
            )
    emit_table(
        (
            "input",
            *(("seconds",) if show_window else ()),
            *(("head",) if heads else ()),
            "label",
            "scores",
            "ms",
        ),
        rows,
    )
    for _, prediction in predictions:
        if prediction.attention:
            click.echo(_weighed(prediction))
    click.echo(
        f"zoo: {loaded.manifest.name} {loaded.manifest.target} {loaded.manifest.precision}, loaded in {load_ms:.0f} ms",
        err=True,
    )


def _lines(inputs: tuple[str, ...]) -> list[str]:
    """The texts, with - replaced by the lines of standard input."""
    texts: list[str] = []
    for given in inputs:
        texts += sys.stdin.read().splitlines() if given == "-" else [given]
    return texts


def _numbers(answer: Prediction | Answer) -> str:
    """Scores or regression values, the highest first; of an embedding its size."""
    found = answer.scores or answer.values
    if not isinstance(found, dict):
        return f"{len(found)} numbers (--json shows them)"
    best = sorted(found.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {value:.3f}" for name, value in best)


def _weighed(prediction: Prediction) -> str:
    """Tokens with their weights in percent; on a terminal in shades of red, the heaviest the brightest."""
    most = max(weight for _, weight in prediction.attention)
    parts = []
    for token, weight in prediction.attention:
        share = weight / most if most > 0 else 0.0
        shown = click.style(
            token, fg=(255, round(230 * (1 - share)), round(230 * (1 - share))), bold=share > 0.8
        )
        parts.append(f"{shown} {100 * weight:.0f}")
    return "  ".join(parts)


def _windows(model: Any, path: Path, hop: float) -> Any:
    from zoo import ops

    info = ops.audio_info(path)
    block = 10 * info.rate

    def chunks() -> Any:
        for start in range(0, info.frames, block):
            yield ops.read_audio(path, start=start, frames=min(block, info.frames - start))[0]

    return model.stream(chunks(), rate=info.rate, hop=hop)


def _answer(answer: Prediction | Answer) -> dict[str, Any]:
    return {
        "label": answer.label,
        "labels": answer.labels,
        "scores": answer.scores,
        "values": answer.values,
    }


def _as_json(given: str, prediction: Prediction, weights: str) -> dict[str, Any]:
    timing = prediction.timing
    result: dict[str, Any] = {
        "input": given,
        **_answer(prediction),
        "weights": weights,
        "timing_ms": {
            "decode": timing.decode_input,
            "preprocess": timing.preprocess,
            "engine": timing.engine,
            "total": timing.total,
        },
    }
    if prediction.heads:
        result["heads"] = {name: _answer(answer) for name, answer in prediction.heads.items()}
    if prediction.attention:
        result["attention"] = [{"token": token, "weight": weight} for token, weight in prediction.attention]
    if not math.isnan(prediction.end):
        result["start_s"], result["end_s"] = prediction.start, prediction.end
    return result
