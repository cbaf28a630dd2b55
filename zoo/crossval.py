# SPDX-License-Identifier: Apache-2.0
"""What trainings of classifiers share: clips to features, altered copies, folds, and the report of what they gave.

A test fold is never looked at before its model is finished. Nothing here knows a network: a trainer hands over what
each fold gave (:class:`Trained`).
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from zoo import metrics, ops
from zoo.bundle import write_file
from zoo.errors import DataError, ZooError
from zoo.evaluation import HeadsJudge, judge
from zoo.pipeline import Pipeline
from zoo.specs import Heads

F32 = NDArray[np.float32]
Progress = Callable[[str, int, int], None]
ProtocolName = Literal["final", "kfold", "loso"]
R = TypeVar("R", bound=msgspec.Struct)


class Augment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Altered copies of each training clip, made before training through the same pipeline.

    ``speed``: factor on tempo and pitch, in steps of 2 % (a clip said to have another rate is resampled by the
    pipeline).
    ``gain_db``, ``snr_db``: level change, and white noise at this distance below the clip's mean power.
    ``shift``: the clip starts up to this many seconds later (zeros) or earlier (cut).
    ``keep_length``: a copy is cut, or padded with zeros at its end, to the clip's own duration, so that pipelines
    without ``fit`` give one shape too.
    """

    copies: int
    speed: tuple[float, float] = (1.0, 1.0)
    gain_db: tuple[float, float] = (0.0, 0.0)
    snr_db: tuple[float, float] | None = None
    shift: float = 0.0
    keep_length: bool = False


@dataclass(frozen=True)
class FoldResult:
    """One trained model and its held-out items (none for ``final``). ``metrics``: those of several heads."""

    fold: str
    n_train: int
    n: int
    uar: float | None
    war: float | None
    seed: int
    epochs: int
    wall_s: float
    losses: dict[str, float]
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainReport:
    """What a training gave. ``metrics`` are fractions of one over the pooled held-out predictions (MAE: in the unit of
    the values); empty for ``final``. Paths are relative to ``out``, or None if there is no such file.
    """

    variant: str
    protocol: str
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    folds: tuple[FoldResult, ...]
    result: str
    predictions: str | None
    weights: str | None


@dataclass(frozen=True)
class Trained:
    """What the training of one fold gave.

    ``weights``: a state dict. ``losses``: one an epoch. ``probs``: (n, classes) of the fold's held-out rows; of
    several heads, what :func:`zoo.evaluation.scores_of` gives.
    """

    weights: Mapping[str, F32]
    losses: list[float]
    wall_s: float
    probs: F32


@dataclass(frozen=True)
class Corpus:
    """Features of a data set: ``features`` (copies, n, T, F), copy 0 unaltered; labels and groups in item order.

    ``truth``: of several heads, as :meth:`zoo.evaluation.Judge.truth` gives it; None where there is one answer.
    ``labels`` is then its first column.
    """

    features: F32
    labels: NDArray[np.int64]
    groups: tuple[str, ...]
    ids: tuple[str, ...]
    fingerprint: str
    truth: NDArray[np.float64] | None = None


def read_corpus(
    variant: Any,
    data: Path,
    *,
    augment: Augment | None,
    seed: int,
    exclude: Sequence[str] = (),
    progress: Progress | None = None,
) -> Corpus:
    """Read a variant's data set and run its pipeline over every clip, and over its altered copies.

    Parameters
    ----------
    variant : zoo.card.Variant
        Its ``data``, ``labels`` and ``pipeline`` are used.
    data : Path
        Folder of the data set.
    augment : Augment or None
        How the copies are altered; ``seed`` decides how each one is.
    exclude : sequence of str
        Groups left out altogether.

    Raises
    ------
    DataError
        The data set is not as expected or has other labels, or the pipeline's outputs differ in shape.
    """
    if variant.data is None:
        raise DataError(f"{variant.name}: the card names no data set, so it cannot be trained")
    if not data.is_dir():
        raise DataError(f"{data}: no such folder (data set {variant.data.reader})")
    dataset = import_module(f"zoo.data.{variant.data.reader}").read(data, **variant.data.options)
    heads = heads_judge(variant)
    if heads is None and set(dataset.labels) != set(variant.labels):
        raise DataError(
            f"{variant.name}: data set {dataset.name} has labels {', '.join(dataset.labels)}; "
            f"the model has {', '.join(variant.labels)}"
        )
    if exclude:
        kept = tuple(item for item in dataset.items if item.group not in exclude)
        dataset = replace(dataset, items=kept)
    pipeline = Pipeline(variant.pipeline)
    copies = 1 + (augment.copies if augment else 0)
    rows: list[list[F32]] = [[] for _ in range(copies)]
    for i, item in enumerate(dataset.items):
        samples, rate = ops.read_audio(item.source)
        rows[0].append(pipeline.run(samples, rate))
        if augment:
            for copy in range(1, copies):
                rng = np.random.default_rng([seed, zlib.crc32(item.id.encode()), copy])
                rows[copy].append(pipeline.run(*alter(samples, rate, augment, rng)))
        if progress:
            progress("features", i + 1, len(dataset.items))
    shapes = {row.shape for copy in rows for row in copy}
    if len(shapes) != 1:
        raise DataError(f"{variant.name}: the pipeline gives features of different shapes: {sorted(shapes)}")
    truth = None if heads is None else heads.truth(dataset)
    if truth is None:
        order = [variant.labels.index(label) for label in dataset.labels]
        labels = np.array([order[cast("int", item.label)] for item in dataset.items])
    else:
        labels = truth[:, 0].astype(np.int64)
    return Corpus(
        features=np.stack([np.stack(copy) for copy in rows]),
        labels=labels,
        groups=tuple(item.group for item in dataset.items),
        ids=tuple(item.id for item in dataset.items),
        fingerprint=dataset.fingerprint(),
        truth=truth,
    )


def heads_judge(variant: Any) -> HeadsJudge | None:
    """The judge of a variant with several heads of its own (``decode``); None of one with one answer."""
    if not isinstance(variant.decode, Heads):
        return None
    by = judge(variant.decode, variant.labels)
    assert isinstance(by, HeadsJudge)
    return by


def alter(samples: F32, rate: int, augment: Augment, rng: np.random.Generator) -> tuple[F32, int]:
    """One altered copy of a clip and the rate that it claims to have."""
    factor = rng.uniform(*augment.speed)
    gain = 10 ** (rng.uniform(*augment.gain_db) / 20)
    lag = round(rng.uniform(-augment.shift, augment.shift) * rate)
    out = np.zeros_like(samples) if lag > 0 else samples[min(-lag, len(samples) - 1) :].copy()
    if lag > 0:
        out[lag:] = samples[: max(len(samples) - lag, 0)]
    if augment.snr_db is not None:
        power = float(np.mean(np.square(out, dtype=np.float64)))
        level = math.sqrt(power / 10 ** (rng.uniform(*augment.snr_db) / 10))
        out += (rng.standard_normal(len(out)) * level).astype(np.float32)
    # steps of 2 %: a small ratio keeps the resampler's filter short
    claimed = max(1, round(50 * factor)) * rate // 50
    if augment.keep_length:
        length = math.ceil(len(samples) * claimed / rate)
        out = np.pad(out[:length], (0, max(length - len(out), 0)))
    return np.ascontiguousarray(np.clip(out * np.float32(gain), -1, 1)), claimed


def split_kfold(n: int, folds: int, seed: int) -> list[NDArray[np.int64]]:
    """Test indices of each fold, equal to scikit-learn's ``KFold(folds, shuffle=True, random_state=seed)``."""
    if not 2 <= folds <= n:
        raise DataError(f"{folds} folds need at least 2 folds and as many items; there are {n} items")
    indices = np.arange(n)
    np.random.RandomState(seed).shuffle(indices)
    return [np.sort(part) for part in np.array_split(indices, folds)]


def splits(protocol: ProtocolName, corpus: Corpus, *, folds: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """Name of each fold -> its held-out rows: none for ``final``, random ones, or those of one group."""
    if protocol == "final":
        return {"all": np.zeros(0, np.int64)}
    if protocol == "kfold":
        return {str(i): rows for i, rows in enumerate(split_kfold(len(corpus.labels), folds, seed))}
    names = sorted(set(corpus.groups))
    if len(names) < 2:
        raise DataError(f"leaving one speaker out needs at least 2 speakers; the data set has {len(names)}")
    groups = np.array(corpus.groups)
    return {name: np.flatnonzero(groups == name) for name in names}


def read_recipe(variant: Any, kind: type[R]) -> R:
    """The ``training`` table of a variant's card.

    Raises
    ------
    ZooError
        It does not fit ``kind``.
    """
    try:
        return msgspec.convert(dict(variant.training), kind)
    except msgspec.ValidationError as error:
        raise ZooError(f"{variant.name}: its training table is not valid: {error}") from error


def check_protocol(variant: Any, protocol: str) -> None:
    """Refuse a protocol that does not exist with a DataError."""
    if protocol not in get_args(ProtocolName):
        raise DataError(f"{variant.name}: there is no protocol {protocol!r}; choose final, kfold or loso")


def run_folds(
    name: str,
    corpus: Corpus,
    held_out: Mapping[str, NDArray[np.int64]],
    train_fold: Callable[[str, NDArray[np.int64], NDArray[np.int64]], Trained],
    *,
    only: Sequence[str] | None = None,
    threads: int = 1,
) -> dict[str, Trained]:
    """Train the folds, ``threads`` at once, with ``train_fold(fold, training rows, held-out rows)``.

    Raises
    ------
    DataError
        ``only`` names a fold that does not exist; ``name`` is the model's, for the message.
    """
    unknown = sorted(set(only or ()) - set(held_out))
    if unknown:
        raise DataError(f"{name}: no fold {', '.join(unknown)}; there are {', '.join(held_out)}")
    chosen = [fold for fold in held_out if only is None or fold in only]
    every = np.arange(len(corpus.labels))

    def run(fold: str) -> Trained:
        return train_fold(fold, np.setdiff1d(every, held_out[fold]), held_out[fold])

    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        return dict(zip(chosen, pool.map(run, chosen), strict=True))


def cached(
    path: Path, key: str, compute: Callable[[], Mapping[str, NDArray[Any]]], *, resume: bool = True
) -> dict[str, NDArray[Any]]:
    """Arrays that were computed before, or are now and are then kept, atomically.

    Parameters
    ----------
    path : Path
        An npz file.
    key : str
        Everything that the arrays depend on, as a hash.
    resume : bool
        Use the file if it is there.

    Raises
    ------
    DataError
        The file is damaged or holds something else.
    """
    if resume and path.is_file():
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            found = str(arrays.pop("key"))
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} is no checkpoint of this training ({error}); delete it or start anew (--restart)"
            ) from error
        if found != key:
            raise DataError(
                f"{path} is a checkpoint of another training; delete it or start anew (--restart)"
            )
        return arrays
    arrays = dict(compute())
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, key=np.array(key), **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, buffer.getvalue())
    return arrays


def write_report(
    variant: Any,
    corpus: Corpus,
    protocol: ProtocolName,
    held_out: Mapping[str, NDArray[np.int64]],
    trained: Mapping[str, Trained],
    out: Path,
    *,
    seed: int,
    epochs: int,
    recipe: msgspec.Struct,
    command: str,
    environment: Mapping[str, object],
) -> TrainReport:
    """Score finished folds and write weights, predictions and figures into ``out``.

    Parameters
    ----------
    variant : zoo.card.Variant
        Its ``name``, ``labels`` and ``data`` are used.
    corpus, protocol, held_out
        What was trained on, and the held-out rows of every fold of the protocol.
    trained : mapping
        The finished folds, by name.
    out : Path
        Gets ``<variant>.<protocol>.json``, ``<variant>.<protocol>.predictions.json`` (not for ``final``) and the
        weights: ``<variant>.safetensors`` of ``final``, ``<variant>.loso.safetensors`` of ``loso``.
    seed, epochs, recipe, command, environment
        Recorded as they are.
    """
    from safetensors.numpy import save

    stem = f"{variant.name}.{protocol}"
    heads = heads_judge(variant)
    score = _Classes(variant.labels) if heads is None else _HeadsScore(heads)
    truth: list[NDArray[Any]] = []
    found: list[NDArray[Any]] = []
    groups: list[str] = []
    predictions = []
    rows = []
    for name, fold in trained.items():
        test, probs = held_out[name], fold.probs
        own: dict[str, float] = {}
        if len(test):
            y, p = score.truth(corpus)[test], score.decide(probs)
            own = score.figures(y, p)
            truth.append(y)
            found.append(p)
            groups += [corpus.groups[i] for i in test]
            predictions += [
                {
                    "id": corpus.ids[i],
                    "fold": name,
                    **words,
                    "probabilities": [round(float(value), 5) for value in row],
                }
                for i, words, row in zip(test, score.words(y, p), probs, strict=True)
            ]
        marks = sorted({1, *(round(epochs * part / 10) for part in range(1, 11))} - {0})
        rows.append(
            FoldResult(
                fold=name,
                n_train=len(corpus.labels) - len(test),
                n=len(test),
                uar=own.get("UAR"),
                war=own.get("WAR"),
                seed=seed,
                epochs=epochs,
                wall_s=round(fold.wall_s, 1),
                losses={
                    str(mark): round(fold.losses[mark - 1], 5) for mark in marks if mark <= len(fold.losses)
                },
                metrics={} if heads is None else own,
            )
        )
    figures: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    confusion = score.confusion(None)
    if truth:
        y, p = np.concatenate(truth), np.concatenate(found)
        for metric, value in score.figures(y, p).items():
            per_fold = [row.metrics.get(metric) if heads else getattr(row, metric.lower()) for row in rows]
            known = [each for each in per_fold if each is not None]
            figures[metric] = value
            if known:
                figures[f"{metric} mean of folds"] = float(np.mean(known))
        for metric, function in score.headlines().items():
            intervals[metric] = metrics.bootstrap_interval(function, y, p)
            if protocol == "loso" and len(set(groups)) >= 3:
                intervals[f"{metric} by speaker"] = metrics.bootstrap_interval(function, y, p, groups=groups)
        figures |= score.baselines(corpus, {name: held_out[name] for name in trained})
        confusion = score.confusion((y, p))
    out.mkdir(parents=True, exist_ok=True)
    weights_name: str | None = None
    tensors: dict[str, F32] = {}
    if protocol == "final":
        weights_name, tensors = f"{variant.name}.safetensors", dict(trained["all"].weights)
    elif protocol == "loso":
        weights_name = f"{variant.name}.loso.safetensors"
        tensors = {
            f"fold/{name}/{key}": value
            for name, fold in trained.items()
            for key, value in fold.weights.items()
        }
    if weights_name is not None:
        about = {"variant": variant.name, "protocol": protocol, "epochs": epochs, "seed": seed}
        # one entry only: the library writes several in an order that changes from run to run
        write_file(out / weights_name, save(tensors, metadata={"zoo": json.dumps(about)}))
    predictions_name: str | None = None
    if predictions:
        predictions_name = f"{stem}.predictions.json"
        lines = ",\n".join(json.dumps(row) for row in predictions)
        head = f'{{"variant": "{variant.name}", "labels": {json.dumps(list(variant.labels))}, "items": [\n'
        write_file(out / predictions_name, f"{head}{lines}\n]}}\n".encode())
    report = TrainReport(
        variant=variant.name,
        protocol=protocol,
        metrics=figures,
        intervals=intervals,
        folds=tuple(rows),
        result=f"{stem}.json",
        predictions=predictions_name,
        weights=weights_name,
    )
    document = {
        "schema": 1,
        **msgspec.to_builtins(report),
        "n": sum(map(len, truth)) or len(corpus.labels),
        "folds_of": len(held_out),
        "confusion": confusion,
        "selection": "last epoch",
        "recipe": msgspec.to_builtins(recipe),
        "data": {
            "name": str(variant.data.reader),
            "options": dict(variant.data.options),
            "sha256": corpus.fingerprint,
        },
        "command": command,
        "environment": dict(environment),
    }
    write_file(out / f"{stem}.json", msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    return report


class _Classes:
    """How one answer, a class, is scored."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels

    def truth(self, corpus: Corpus) -> NDArray[Any]:
        return corpus.labels

    def decide(self, probs: F32) -> NDArray[Any]:
        decided: NDArray[Any] = probs.argmax(axis=1)
        return decided

    def headlines(self) -> dict[str, Callable[..., float]]:
        return {"UAR": metrics.uar, "WAR": metrics.accuracy}

    def figures(self, truth: NDArray[Any], found: NDArray[Any]) -> dict[str, float]:
        return {name: function(truth, found) for name, function in self.headlines().items()}

    def baselines(self, corpus: Corpus, held_out: Mapping[str, NDArray[np.int64]]) -> dict[str, float]:
        del corpus, held_out
        return {}

    def words(self, truth: NDArray[Any], found: NDArray[Any]) -> list[dict[str, Any]]:
        return [
            {"label": self.labels[y], "predicted": self.labels[p]} for y, p in zip(truth, found, strict=True)
        ]

    def confusion(self, pair: tuple[NDArray[Any], NDArray[Any]] | None) -> dict[str, Any]:
        matrix = [] if pair is None else metrics.confusion(*pair, len(self.labels)).tolist()
        return {"labels": list(self.labels), "rows_are_truth": matrix}


class _HeadsScore:
    """How several answers are scored: each head by its own metrics, and all by their mean.

    Figures that a fold does not define (a correlation with the one age of one speaker) are left out.
    """

    def __init__(self, by: HeadsJudge) -> None:
        self.by = by

    def truth(self, corpus: Corpus) -> NDArray[Any]:
        assert corpus.truth is not None
        return corpus.truth

    def decide(self, scores: F32) -> NDArray[Any]:
        return self.by.decide(scores)

    def headlines(self) -> dict[str, Callable[..., float]]:
        """Of each head its own metric, but MAE itself where that is the inverse."""
        found: dict[str, Callable[..., float]] = dict(self.by.metrics)
        for part in self.by.parts:
            inverse = part.head.metric == "inverse-MAE"
            name = f"{part.head.name}/{'MAE' if inverse else part.head.metric}"
            found[name] = part.scorer(metrics.mae if inverse else part.metric)
        return found

    def figures(self, truth: NDArray[Any], found: NDArray[Any]) -> dict[str, float]:
        figures = {name: function(truth, found) for name, function in self.headlines().items()}
        for head, own in self.by.by_head(truth, found).items():
            figures |= {f"{head}/{name}": value for name, value in own.items()}
        return {name: value for name, value in figures.items() if math.isfinite(value)}

    def baselines(self, corpus: Corpus, held_out: Mapping[str, NDArray[np.int64]]) -> dict[str, float]:
        """MAE of each head of values if every clip got the mean of the training clips."""
        truth = self.truth(corpus)
        every = np.arange(len(truth))
        figures = {}
        for part in self.by.parts:
            if part.judge.kind != "values":
                continue
            values = truth[:, part.columns]
            errors = [
                np.abs(values[rows] - values[np.setdiff1d(every, rows)].mean(axis=0))
                for rows in held_out.values()
            ]
            figures[f"{part.head.name}/MAE of the training mean"] = float(np.concatenate(errors).mean())
        return figures

    def words(self, truth: NDArray[Any], found: NDArray[Any]) -> list[dict[str, Any]]:
        pairs = zip(self.by.words(truth), self.by.words(found), strict=True)
        return [{"label": y, "predicted": p} for y, p in pairs]

    def confusion(self, pair: tuple[NDArray[Any], NDArray[Any]] | None) -> dict[str, Any]:
        return {
            part.head.name: _Classes(part.head.labels).confusion(
                None if pair is None else (part.of(pair[0]), part.of(pair[1]))
            )
            for part in self.by.parts
            if part.judge.kind == "classes"
        }
