# SPDX-License-Identifier: Apache-2.0
"""Training of the EEG teacher: classes by cross-entropy, or valence and arousal by concordance and squared error.

The last epoch counts: nothing that is scored is looked at before. Classes are scored block by block (``loso``): a block of
time is a group, as a speaker is elsewhere. ``kfold`` mixes neighbouring windows of one recording and is there to show what
that is worth. Values are always split by subject.
"""

from __future__ import annotations

import hashlib
import math
import platform
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from zoo import _native, metrics
from zoo.bundle import write_file
from zoo.crossval import (
    Corpus,
    FoldResult,
    Progress,
    ProtocolName,
    Trained,
    TrainReport,
    check_protocol,
    run_folds,
    splits,
    write_report,
)
from zoo.data import Dataset
from zoo.data.eye_state import CHANNELS
from zoo.data.trials import Trial
from zoo.errors import DataError, InputError, ZooError
from zoo.models.eeg_state.model import TopomapNet, build
from zoo.models.training import one_thread, settle
from zoo.pipeline import Pipeline
from zoo.recording import Recording, last_window

F32 = NDArray[np.float32]
Loss = Callable[[TopomapNet, Tensor, NDArray[np.int64]], Tensor]
#: A pixel that varies less than this over the training items is outside the head.
_STILL = 1e-6
_GLOBAL_GENERATOR = Lock()


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``training`` table of a card: AdamW on a one-cycle rate.

    ``validation``: of values, the share of subjects that ``final`` holds out.
    """

    epochs: int
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.0
    validation: float = 0.2
    seed: int = 46
    folds: int = 10


# ---- features ------------------------------------------------------------------------------------------------------


def read_data(variant: Any, data: Path) -> Dataset:
    """The variant's data set."""
    if variant.data is None:
        raise DataError(f"{variant.name}: the card names no data set, so it cannot be trained")
    dataset: Dataset = import_module(f"zoo.data.{variant.data.reader}").read(data, **variant.data.options)
    return dataset


def window_corpus(
    variant: Any, data: Path, *, exclude: Sequence[str] = (), progress: Progress | None = None
) -> Corpus:
    """The last window of each item of a data set of classes, through the variant's pipeline; features (1, n, 4, 32, 32)."""
    dataset = read_data(variant, data)
    items = [item for item in dataset.items if item.group not in exclude]
    pipeline = Pipeline(variant.pipeline)
    rows, labels = [], []
    for i, item in enumerate(items):
        if not isinstance(item.source, Recording) or not isinstance(item.label, int):
            raise DataError(f"{variant.name}: data set {dataset.name} holds no recordings with a class each")
        rate = item.source.rate
        rows.append(last_window(pipeline, item.source.in_order(CHANNELS, rate, variant.name), rate))
        labels.append(variant.labels.index(dataset.labels[item.label]))
        if progress:
            progress("features", i + 1, len(items))
    return Corpus(
        features=np.stack(rows)[None],
        labels=np.array(labels, np.int64),
        groups=tuple(item.group for item in items),
        ids=tuple(item.id for item in items),
        fingerprint=dataset.fingerprint(),
    )


def window_powers(variant: Any, data: Path) -> F32:
    """What the variant's pipeline makes its maps of: (n, 4, 14), one row for each item as in :func:`window_corpus`."""
    names = [op.__struct_config__.tag for op in variant.pipeline]
    pipeline = Pipeline(variant.pipeline[: names.index("topomap")])
    items = read_data(variant, data).items
    sources = [item.source for item in items if isinstance(item.source, Recording)]
    return np.stack(
        [
            last_window(pipeline, source.in_order(CHANNELS, source.rate, variant.name), source.rate)
            for source in sources
        ]
    )


@dataclass(frozen=True)
class RatedWindows:
    """Windows of trials: ``maps`` (n, 4, 32, 32), ``values`` (n, 2) valence and arousal, and each one's subject and trial."""

    maps: F32
    values: F32
    subjects: NDArray[np.str_]
    trials: NDArray[np.str_]
    fingerprint: str


def rated_windows(variant: Any, data: Path, *, progress: Progress | None = None) -> RatedWindows:
    """Every window of every trial, as sheet 9 says.

    The variant's pipeline up to ``standardize`` gives differential entropies; the mean of the trial's baseline is taken off
    each band and channel; the rest of the pipeline standardises over all windows of a subject and makes maps.

    Raises
    ------
    DataError
        The data set has no trials, or one cannot be processed.
    """
    if variant.data is None:
        raise DataError(f"{variant.name}: the card names no data set, so it cannot be trained")
    reader: Any = import_module(f"zoo.data.{variant.data.reader}")
    trials: list[Trial] = reader.read_trials(data, **variant.data.options)
    names = [op.__struct_config__.tag for op in variant.pipeline]
    cut = names.index("standardize")
    powers = Pipeline(variant.pipeline[:cut])
    maps_of = Pipeline(variant.pipeline[cut:], shape=(-1, 4, len(CHANNELS)))
    by_subject: dict[str, list[tuple[Trial, F32]]] = {}
    for i, trial in enumerate(trials):
        try:
            rows = _powers(powers, trial.recording, variant.name)
            if trial.baseline is not None:
                rows -= _powers(powers, trial.baseline, variant.name).mean(axis=0)
        except InputError as error:
            raise DataError(f"{variant.name}: trial {trial.id}: {error}") from error
        by_subject.setdefault(trial.subject, []).append((trial, rows))
        if progress:
            progress("features", i + 1, len(trials))
    maps, values, subjects, named = [], [], [], []
    for subject, several in by_subject.items():
        maps.append(maps_of.run(np.ascontiguousarray(np.concatenate([rows for _, rows in several]))))
        for trial, rows in several:
            values += [(trial.valence, trial.arousal)] * len(rows)
            subjects += [subject] * len(rows)
            named += [trial.id] * len(rows)
    return RatedWindows(
        np.concatenate(maps),
        np.array(values, np.float32),
        np.array(subjects),
        np.array(named),
        reader.read(data, **variant.data.options).fingerprint(),
    )


def _powers(pipeline: Pipeline, recording: Recording, model: str) -> F32:
    rows: F32 = pipeline.run(recording.in_order(CHANNELS, recording.rate, model), recording.rate)
    return rows


def validation_subjects(subjects: Sequence[str], share: float) -> tuple[str, ...]:
    """The subjects that ``final`` holds out: those with the smallest hashes, at least one.

    Raises
    ------
    DataError
        Fewer than two subjects.
    """
    every = sorted(set(subjects), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    if len(every) < 2:
        raise DataError(f"{len(every)} subject; splitting by subject needs at least 2")
    return tuple(sorted(every[: min(max(1, round(share * len(every))), len(every) - 1)]))


# ---- training one model --------------------------------------------------------------------------------------------


def class_loss(labels: NDArray[np.int64], rows: NDArray[np.int64], classes: int, smoothing: float) -> Loss:
    """Cross-entropy, the classes of the training rows weighing the same."""
    counts = np.bincount(labels[rows], minlength=classes)
    weight = torch.from_numpy((len(rows) / (classes * np.maximum(counts, 1))).astype(np.float32))
    truth = torch.from_numpy(labels)

    def loss(net: TopomapNet, x: Tensor, picked: NDArray[np.int64]) -> Tensor:
        return F.cross_entropy(net(x)[0], truth[picked], weight=weight, label_smoothing=smoothing)

    return loss


def value_loss(values: F32) -> Loss:
    """1 - CCC + mean squared error, the mean over the axes (sheet 9)."""
    truth = torch.from_numpy(values)

    def loss(net: TopomapNet, x: Tensor, picked: NDArray[np.int64]) -> Tensor:
        found, wanted = net(x)[1], truth[picked]
        mean, true_mean = found.mean(dim=0), wanted.mean(dim=0)
        covariance = ((found - mean) * (wanted - true_mean)).mean(dim=0)
        spread = found.var(dim=0, unbiased=False) + wanted.var(dim=0, unbiased=False)
        ccc = 2 * covariance / (spread + (mean - true_mean) ** 2 + 1e-8)
        total: Tensor = (1 - ccc).mean() + F.mse_loss(found, wanted)
        return total

    return loss


def train_model(
    config: Mapping[str, object],
    recipe: Recipe,
    maps: F32,
    rows: NDArray[np.int64],
    loss: Loss,
    *,
    name: str,
    seed: int,
    progress: Progress | None,
) -> tuple[dict[str, F32], list[float], float]:
    """Train on ``rows`` of the maps; weights, the loss of each epoch, and seconds."""
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(config)
    assert isinstance(net, TopomapNet)
    spread = maps[rows].std(axis=0, dtype=np.float64)
    scale = np.where(spread > _STILL, 1 / np.maximum(spread, _STILL), 0.0)
    net.input_scale.copy_(torch.from_numpy(scale))  # type: ignore[operator]
    net.input_shift.copy_(torch.from_numpy(-maps[rows].mean(axis=0, dtype=np.float64) * scale))  # type: ignore[operator]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    drop = net.dropout.p
    net.dropout.p = 0.0  # drawn from the fold's own generator below, so that folds may train at once
    hook = net.features.register_forward_hook(
        lambda _m, _i, out: _dropped(out, drop, rng) if net.training else out
    )
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    # A batch of one has no statistics; the last, smaller one is left out unless it is the only one.
    steps = max(1, len(rows) // recipe.batch)
    started, losses = time.perf_counter(), []
    for epoch in range(recipe.epochs):
        order, total = rows[rng.permutation(len(rows))], 0.0
        for step in range(steps):
            picked = order[step * recipe.batch : (step + 1) * recipe.batch]
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * _cycle((epoch * steps + step) / (recipe.epochs * steps))
            value = loss(net, torch.from_numpy(maps[picked]), picked)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(value.detach()) / steps
        if not math.isfinite(total):
            raise ZooError(f"eeg_state: the loss of fold {name} is not finite in epoch {epoch + 1}")
        losses.append(total)
        if progress:
            progress(f"fold {name}", epoch + 1, recipe.epochs)
    hook.remove()
    weights = {
        key: np.ascontiguousarray(value.detach().numpy())
        for key, value in net.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    return weights, losses, time.perf_counter() - started


def _dropped(x: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    kept: Tensor = torch.from_numpy((rng.random(tuple(x.shape)) >= share).astype(np.float32))
    return x * kept / (1 - share)


def _cycle(at: float) -> float:
    """The rate's share of its maximum: up in the first tenth, then down on half a cosine."""
    return at / 0.1 if at < 0.1 else 0.5 * (1 + math.cos(math.pi * (at - 0.1) / 0.9))


def outputs_of(config: Mapping[str, object], weights: Mapping[str, F32], maps: F32) -> tuple[F32, F32]:
    """Answers (n, answers) and embeddings (n, 512) of maps, by the reference in inference mode."""
    net = build(config).eval()
    net.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=False)
    answers, embeddings = [], []
    with torch.inference_mode():
        for start in range(0, len(maps), 256):
            _, answer, embedding = net(torch.from_numpy(maps[start : start + 256]))
            answers.append(answer.numpy())
            embeddings.append(embedding.numpy())
    return np.concatenate(answers), np.concatenate(embeddings)


# ---- the command ---------------------------------------------------------------------------------------------------


def train(
    variant: Any,
    *,
    data: Path,
    out: Path,
    protocol: ProtocolName = "final",
    epochs: int | None = None,
    seed: int | None = None,
    folds: Sequence[str] | None = None,
    threads: int = 1,
    progress: Progress | None = None,
    resume: bool = True,
    exclude: Sequence[str] = (),
) -> TrainReport:
    """Train a variant and write weights and figures into ``out``.

    Parameters
    ----------
    variant : zoo.card.Variant
        Its ``config``, ``training``, ``pipeline``, ``labels`` and ``data`` are used.
    data : Path
        Folder (or file) of the data set.
    out : Path
        Gets ``<variant>.<protocol>.json`` and the weights: ``<variant>.safetensors`` of ``final``,
        ``<variant>.loso.safetensors`` of ``loso``; of classes also the predictions.
    protocol : {"final", "kfold", "loso"}
        Classes: one model on everything; random folds; each block left out once. Values: one model, scored on the subjects
        that it has not seen; each subject left out once.
    epochs, seed : int or None
        None: the card's.
    folds : sequence of str or None
        Only these.
    threads : int
        Folds trained at once, one thread each. Changes no result.
    progress : callable or None
        Called with (stage, done, total).
    resume : bool
        Has no effect: a training takes minutes and keeps no checkpoints.
    exclude : sequence of str
        Groups left out altogether.

    Raises
    ------
    DataError
        The data set is not as expected, a fold does not exist, or values are to be split at random.
    """
    check_protocol(variant, protocol)
    recipe, seed, command = settle(
        variant, Recipe, [f"--protocol {protocol}"], epochs=epochs, seed=seed, folds=folds
    )
    recipe = msgspec.structs.replace(recipe, seed=seed)
    task = _train_values if variant.config.get("values") else _train_classes
    with one_thread():
        return task(variant, data, out, protocol, recipe, command, folds, threads, progress, exclude)


def _train_classes(
    variant: Any,
    data: Path,
    out: Path,
    protocol: ProtocolName,
    recipe: Recipe,
    command: str,
    folds: Sequence[str] | None,
    threads: int,
    progress: Progress | None,
    exclude: Sequence[str],
) -> TrainReport:
    corpus = window_corpus(variant, data, exclude=exclude, progress=progress)
    held_out = splits(protocol, corpus, folds=recipe.folds, seed=recipe.seed)
    maps = corpus.features[0]

    def run(name: str, rows: NDArray[np.int64], test: NDArray[np.int64]) -> Trained:
        loss = class_loss(corpus.labels, rows, len(variant.labels), recipe.label_smoothing)
        weights, losses, seconds = train_model(
            variant.config,
            recipe,
            maps,
            rows,
            loss,
            name=f"{protocol}/{name}",
            seed=recipe.seed,
            progress=progress,
        )
        probs = np.zeros((0, len(variant.labels)), np.float32)
        if len(test):
            probs = outputs_of(variant.config, weights, maps[test])[0]
        return Trained(weights, losses, seconds, probs)

    trained = run_folds(variant.name, corpus, held_out, run, only=folds, threads=threads)
    return write_report(
        variant,
        corpus,
        protocol,
        held_out,
        trained,
        out,
        seed=recipe.seed,
        epochs=recipe.epochs,
        recipe=recipe,
        command=command,
        environment=_environment(),
    )


def _train_values(
    variant: Any,
    data: Path,
    out: Path,
    protocol: ProtocolName,
    recipe: Recipe,
    command: str,
    folds: Sequence[str] | None,
    threads: int,
    progress: Progress | None,
    exclude: Sequence[str],
) -> TrainReport:
    from safetensors.numpy import save

    if protocol == "kfold":
        raise DataError(
            f"{variant.name}: random folds would put windows of one trial on both sides; take --protocol loso or final"
        )
    windows = rated_windows(variant, data, progress=progress)
    subjects = [name for name in sorted(set(windows.subjects.tolist())) if name not in exclude]
    parts: dict[str, tuple[str, ...]] = {"all": validation_subjects(subjects, recipe.validation)}
    if protocol == "loso":
        parts = {name: (name,) for name in subjects}
    unknown = sorted(set(folds or ()) - set(parts))
    if unknown:
        raise DataError(f"{variant.name}: no fold {', '.join(unknown)}; there are {', '.join(parts)}")
    loss = value_loss(windows.values)
    known = np.isin(windows.subjects, subjects)
    rows: list[FoldResult] = []
    tensors: dict[str, F32] = {}
    truth: list[F32] = []
    found: list[F32] = []
    groups: list[str] = []
    for name in parts if folds is None else folds:
        held = np.isin(windows.subjects, parts[name])
        train_rows, test = np.flatnonzero(known & ~held), np.flatnonzero(known & held)
        weights, losses, seconds = train_model(
            variant.config,
            recipe,
            windows.maps,
            train_rows,
            loss,
            name=f"{protocol}/{name}",
            seed=recipe.seed,
            progress=progress,
        )
        prefix = f"fold/{name}/" if protocol == "loso" else ""
        tensors |= {prefix + key: value for key, value in weights.items()}
        truth.append(windows.values[test])
        found.append(outputs_of(variant.config, weights, windows.maps[test])[0])
        groups += windows.subjects[test].tolist()
        marks = {str(epoch + 1): round(losses[epoch], 5) for epoch in {0, len(losses) // 2, len(losses) - 1}}
        rows.append(
            FoldResult(
                name,
                len(train_rows),
                len(test),
                None,
                None,
                recipe.seed,
                recipe.epochs,
                round(seconds, 1),
                marks,
            )
        )
    y, p = np.concatenate(truth).astype(np.float64), np.concatenate(found).astype(np.float64)
    figures: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for axis, label in enumerate(variant.labels):
        figures[f"CCC/{label}"] = metrics.ccc(y[:, axis], p[:, axis])
        if len(set(groups)) >= 3:
            low, high = metrics.bootstrap_interval(
                metrics.ccc, y[:, axis], p[:, axis], groups=np.array(groups)
            )
            intervals[f"CCC/{label} by subject"] = float(low), float(high)
    figures["CCC"] = float(np.mean(list(figures.values())))
    out.mkdir(parents=True, exist_ok=True)
    weights_name = (
        f"{variant.name}.safetensors" if protocol == "final" else f"{variant.name}.loso.safetensors"
    )
    write_file(out / weights_name, save(tensors))
    report = TrainReport(
        variant.name,
        protocol,
        figures,
        intervals,
        tuple(rows),
        f"{variant.name}.{protocol}.json",
        None,
        weights_name,
    )
    document = {
        "schema": 1,
        **msgspec.to_builtins(report),
        "n": len(y),
        "held_out": sorted(set(groups)),
        "selection": "last epoch",
        "recipe": msgspec.to_builtins(recipe),
        "data": {
            "name": variant.data.reader,
            "options": dict(variant.data.options),
            "sha256": windows.fingerprint,
        },
        "command": command,
        "environment": _environment(),
    }
    write_file(out / report.result, msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    return report


def _environment() -> dict[str, object]:
    """What the figures may depend on, without naming a machine."""
    return {
        "isa": _native.isa(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__),
    }
