# SPDX-License-Identifier: Apache-2.0
"""``zoo run``."""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.common import (
    eeg_chunks,
    emit_json,
    emit_table,
    json_option,
    rate_option,
    series_of,
    smooth_option,
    write_text,
)
from zoo.specs import curves

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
@rate_option
@click.option(
    "--csv",
    "csv_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write curves, one row a step, to this file (models that give curves).",
)
@smooth_option
@json_option
def run_command(
    model: str,
    inputs: tuple[str, ...],
    target: str | None,
    precision: str | None,
    threads: int | None,
    hop: float | None,
    rate: float | None,
    csv_path: Path | None,
    smooth: float | None,
    as_json: bool,
) -> None:
    """Run MODEL (a name, or a bundle's path) on INPUTS: audio files (WAV, FLAC; any rate), image files (PNG, JPEG; a
    cropped face), or texts.

    Models that give curves take audio and video files of any kind and length. Models of EEG take CSV, ARFF, EDF, BDF and
    EEGLAB files, and give an answer for every window.

    A text is given as it is; - reads one a line from standard input. Times are milliseconds; scores are
    probabilities. Models that weigh the tokens of a text show them, the heavier the brighter.

    Example: zoo run tim-net-emodb clip.wav --json
    """
    import zoo
    from zoo.runtime.prediction import smoothed

    started = time.perf_counter()
    loaded = zoo.load(model, target=target, precision=precision, threads=threads)
    load_ms = (time.perf_counter() - started) * 1e3
    results: list[dict[str, Any]] = []
    predictions: list[tuple[str, Prediction]] = []
    modality = loaded.manifest.input.modality
    text, eeg = modality == "text", modality == "eeg"
    if hop and eeg:
        raise click.UsageError("--hop cuts audio into windows; this model takes EEG, in windows of its own")
    if rate and not eeg:
        raise click.UsageError("--rate is for EEG files that do not say theirs")
    if hop and modality in ("text", "image"):
        raise click.UsageError(f"--hop cuts audio into windows; this model takes {modality}s")
    if not text and "-" in inputs:
        raise click.UsageError(f"- reads texts from standard input; this model takes {modality} files")
    along = bool(curves(loaded.manifest.decode))
    if hop and along:
        raise click.UsageError(
            "--hop cuts audio into windows; this model gives a curve with steps of its own"
        )
    if (csv_path or smooth) and not along:
        raise click.UsageError("--csv and --smooth are for curves; this model gives none")
    for given in _lines(inputs) if text else inputs:
        if eeg:
            found = list(loaded.stream(eeg_chunks(loaded, given, rate)))
        else:
            found = list(_windows(loaded, Path(given), hop)) if hop else [loaded(given)]
        for prediction in found:
            if smooth is not None:
                prediction = smoothed(prediction, loaded.manifest.decode, smooth)
            predictions.append((given, prediction))
            results.append(_as_json(given, prediction, loaded.manifest.provenance.weights))
    if csv_path is not None:
        write_text(csv_path, _table(predictions))
    if as_json:
        emit_json(results)
        return
    if loaded.manifest.provenance.weights == "random":
        click.echo("zoo: this bundle has random weights: the labels mean nothing", err=True)
    show_window = hop is not None or eeg
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
    """Scores or regression values, the highest first; of an embedding its size, of a curve its mean and ends."""
    if answer.series is not None:
        values = answer.series.values
        return f"{len(values)} steps, mean {values.mean():.3f}, from {values.min():.3f} to {values.max():.3f}"
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
    found: dict[str, Any] = {
        "label": answer.label,
        "labels": answer.labels,
        "scores": answer.scores,
        "values": answer.values,
    }
    if answer.series is not None:
        found["series"] = vars(answer.series)
    return found


def _table(predictions: list[tuple[str, Prediction]]) -> str:
    """Curves as CSV: input, start of the step in seconds, then value and bin of each curve."""
    named = [(given, series_of(prediction)) for given, prediction in predictions]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = [column for name in named[0][1] for column in (name, f"{name}_bin")]
    writer.writerow(["input", "seconds", *columns])
    for given, series in named:
        several = list(series.values())
        for i, second in enumerate(several[0].seconds):
            cells = [cell for one in several for cell in (f"{one.values[i]:.6g}", int(one.bins[i]))]
            writer.writerow([given, f"{second:.6g}" if second < 1000 else f"{second:.3f}", *cells])
    return stream.getvalue()


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
