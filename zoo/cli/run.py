# SPDX-License-Identifier: Apache-2.0
"""``zoo run``."""

from __future__ import annotations

import csv
import io
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import faces as photos
from zoo.cli import similar
from zoo.cli.common import (
    emit_json,
    emit_table,
    json_option,
    rate_option,
    series_of,
    smooth_option,
)
from zoo.errors import InputError
from zoo.specs import Decode, curves

if TYPE_CHECKING:
    from zoo.runtime import Model
    from zoo.runtime.modality import Modality
    from zoo.runtime.prediction import Answer, Prediction

#: Characters of a text in the table of results.
_SHOWN = 60


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
@photos.faces_option
@click.option("--force", is_flag=True, help="Replace what --csv names.")
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
    faces: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Run MODEL (a name, or a bundle's path) on INPUTS: audio files (WAV, FLAC; any rate), image files (PNG, JPEG; a
    cropped face), or texts.

    With --faces, image files are photos: every face in them is found and cut out. Models that give embeddings tell how alike
    several inputs are (cosines of up to 512).

    Models that give curves take audio and video files of any kind and length. Models of EEG take CSV, ARFF, EDF, BDF and
    EEGLAB files, and give an answer for every window.

    A text is given as it is; - reads one a line from standard input. Times are milliseconds; scores are
    probabilities. Models that weigh the tokens of a text show them, the heavier the brighter. An input that cannot be
    processed is told on stderr (with --json in its place too, as "error"); the others are run all the same, and the exit
    code is 3.

    Example: zoo run tim-net-emodb clip.wav --json
    """
    import zoo
    from zoo.bundle import check_output, write_output
    from zoo.runtime.modality import modality
    from zoo.runtime.prediction import smoothed

    started = time.perf_counter()
    loaded = zoo.load(model, target=target, precision=precision, threads=threads)
    load_ms = (time.perf_counter() - started) * 1e3
    results: list[dict[str, Any]] = []
    predictions: list[tuple[str, Prediction]] = []
    kind = modality(loaded.manifest.input.modality)
    text = kind.literal
    along = bool(curves(loaded.manifest.decode))
    if hop and along:
        raise click.UsageError(
            "--hop cuts audio into windows; this model gives a curve with steps of its own"
        )
    if hop and not kind.hops:
        raise click.UsageError(f"--hop cuts audio into windows; this model takes {kind.takes}")
    if rate and not kind.windowed:
        raise click.UsageError("--rate is for EEG files that do not say theirs")
    if not text and "-" in inputs:
        raise click.UsageError(f"- reads texts from standard input; this model takes {kind.files}")
    if (csv_path or smooth) and not along:
        raise click.UsageError("--csv and --smooth are for curves; this model gives none")
    if csv_path is not None:
        check_output(csv_path, force=force)
    finder = photos.finder_for(loaded.manifest, faces)
    by_windows = kind.by_windows(loaded.front)
    given_inputs = _texts(inputs) if text else list(inputs)
    failed = 0
    for place, given in enumerate(given_inputs, 1):
        readable = _readable(given)
        if text and "-" not in inputs and len(given) < 4096 and os.path.isfile(given):
            click.echo(
                f"zoo: {readable} is also a file; the text was its name. Its lines: zoo run {model} - < FILE",
                err=True,
            )
        try:
            for number, (name, raw, face) in enumerate(photos.inputs_of(finder, given, readable), 1):
                for prediction in _predictions(loaded, kind, raw, hop, rate):
                    if smooth is not None:
                        prediction = smoothed(prediction, loaded.manifest.decode, smooth)
                    elif along and (hint := _too_short(loaded.manifest.decode, prediction)) is not None:
                        click.echo(f"zoo: {readable}: {hint}", err=True)
                    predictions.append((name, prediction))
                    results.append(_as_json(readable, prediction, loaded.manifest.provenance.weights))
                    if face is not None:
                        results[-1]["face"] = photos.as_json(face, number)
        except InputError as error:
            failed += 1
            results.append({"input": readable, "error": str(error)})
            which = f"input {place}: " if len(given_inputs) > 1 else ""
            click.echo(f"zoo: {which}{error}", err=True)
    if csv_path is not None:
        write_output(csv_path, _table(predictions))
    alike = (
        {} if hop or by_windows else similar.alike(loaded.manifest.decode, [one for _, one in predictions])
    )
    if as_json:
        if alike:
            for row, result in enumerate([result for result in results if "error" not in result]):
                result["cosines"] = {name: matrix[row] for name, matrix in alike.items()}
        emit_json(results)
    elif predictions:
        _show(loaded, predictions, load_ms, text=text, windows=hop is not None or by_windows)
        if alike:
            similar.show([_shortened(name) if text else name for name, _ in predictions], alike)
    if failed:
        raise click.exceptions.Exit(InputError.exit_code)


def _too_short(decode: Decode, prediction: Prediction) -> str | None:
    """Why curves of a short input are nearly flat; None where they are not."""
    mean, period = max((curve.smooth.mean if curve.smooth else 1, curve.period) for curve in curves(decode))
    steps = max(len(series.values) for series in series_of(prediction).values())
    if steps >= mean:
        return None
    return (
        f"its curve has {steps * period:.3g} s, less than the {mean * period:.3g} s of the model's own mean, which "
        "leaves little but its average; --smooth 2 takes a mean of two seconds"
    )


def _predictions(
    loaded: Model, kind: Modality, given: Any, hop: float | None, rate: float | None
) -> Iterator[Prediction]:
    """Predictions of one input.

    Raises
    ------
    InputError
        It cannot be processed.
    """
    if kind.literal and _readable(given) != given:
        raise InputError(
            f"{loaded.name}: the text is not UTF-8: {_readable(given)[:60]!r}; convert it, with iconv for example"
        )
    if hop or kind.by_windows(loaded.front):
        chunks, chunk_rate = kind.chunks(Path(given), loaded.manifest.input, rate)
        yield from loaded.stream(chunks, rate=chunk_rate, hop=hop)
    elif kind.windowed:
        from zoo.recording import read_recording

        yield loaded(read_recording(given, channels=loaded.manifest.input.names, rate=rate))
    else:
        yield loaded(given)


def _show(
    loaded: Model, predictions: Sequence[tuple[str, Prediction]], load_ms: float, *, text: bool, windows: bool
) -> None:
    """A table of results, and the weighed tokens below it."""
    if loaded.manifest.provenance.weights == "random":
        click.echo("zoo: this bundle has random weights: the labels mean nothing", err=True)
    heads = any(prediction.heads for _, prediction in predictions)
    rows = []
    for given, prediction in predictions:
        for head, answer in prediction.heads.items() or (("", prediction),):
            rows.append(
                (
                    _shortened(given) if text else given,
                    *((f"{prediction.start:.2f}-{prediction.end:.2f}",) if windows else ()),
                    *((head,) if heads else ()),
                    answer.label or ", ".join(answer.labels) or "-",
                    _numbers(answer),
                    f"{prediction.timing.total:.2f}",
                )
            )
    emit_table(
        (
            "input",
            *(("seconds",) if windows else ()),
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


def _texts(inputs: tuple[str, ...]) -> list[str]:
    """The texts, with - replaced by the lines of standard input. Bytes that are no UTF-8 are lone surrogates, as in arguments."""
    texts: list[str] = []
    for given in inputs:
        if given != "-":
            texts.append(given)
            continue
        read = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        lines = read.split("\n")
        texts += [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]
    return texts


def _readable(given: str) -> str:
    """An input with U+FFFD for what is no character, so that it can be written anywhere."""
    return given.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _shortened(text: str) -> str:
    """A text in one line of a table."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}\u2026"


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
