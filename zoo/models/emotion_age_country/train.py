# SPDX-License-Identifier: Apache-2.0
"""Training of the multitask head on embeddings of the frozen encoder: fact sheet 7, section 4.

Three things are ours: the seed is set before the head is built, the head of the best epoch is kept instead of the last,
and features that do not vary in training are only centred. The encoder never learns: each clip passes once, and its
embedding is kept.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import _native, metrics, ops
from zoo.bundle import write_file
from zoo.crossval import FoldResult, Progress, ProtocolName, TrainReport, cached
from zoo.data import Dataset, exvo
from zoo.errors import DataError, InputError, ZooError
from zoo.models.emotion_age_country.model import EmotionAgeCountry, MultitaskHead, build, frame_count
from zoo.models.training import settle
from zoo.multitask import LOG_VARIANCES, uncertainty_loss
from zoo.pipeline import Pipeline

F32 = NDArray[np.float32]
#: Clips whose embeddings are kept in one file: what an interruption costs.
_SHARD = 256


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``training`` table of a card. Defaults are the sheet's for the authors' variant with the best test score.

    An epoch is better if the validation loss is lower than the best by more than ``delta``; after ``patience`` epochs
    that are not, training ends.
    """

    epochs: int = 20
    batch: int = 4
    lr: float = 1e-3
    weight_decay: float = 1e-4
    patience: int = 5
    delta: float = 0.01
    seed: int = 106


@dataclass(frozen=True)
class Part:
    """Features and truth of one part of the data.

    ``features`` (n, d), ``emotion`` (n, 10) 0 to 1, ``country`` (n,) classes, ``age`` (n, 1) years.
    """

    features: F32
    emotion: F32
    country: NDArray[np.int64]
    age: F32

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.features)


@dataclass(frozen=True)
class Fitted:
    """A trained head, the losses of each epoch (training, validation), and the epoch that was kept, from 1."""

    head: MultitaskHead
    losses: list[tuple[float, float]]
    best: int


def losses_of(head: MultitaskHead, features: Tensor, part: Part, rows: NDArray[np.int64]) -> Tensor:
    """Losses of emotion (sum over the emotions of their mean squared errors), country and age (years squared), (3,)."""
    emotion, country, age = head(features)
    return torch.stack(
        [
            (emotion - torch.from_numpy(part.emotion[rows])).square().mean(dim=0).sum(),
            F.cross_entropy(country, torch.from_numpy(part.country[rows])),
            F.mse_loss(age, torch.from_numpy(part.age[rows])),
        ]
    )


def fit_head(
    make: Any, recipe: Recipe, train: Part, val: Part, *, seed: int, progress: Progress | None = None
) -> Fitted:
    """Train a head on features.

    Parameters
    ----------
    make : callable
        Gives a fresh :class:`~zoo.models.emotion_age_country.model.MultitaskHead`.
    train, val : Part
        The standardisation is fitted on ``train``; ``val`` decides when to stop and which epoch is kept.

    Raises
    ------
    ZooError
        The loss is not finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = make()
    assert isinstance(head, MultitaskHead)
    mean, std = train.features.mean(axis=0, dtype=np.float64), train.features.std(axis=0, dtype=np.float64)
    head.feature_mean.copy_(torch.from_numpy(mean))
    head.feature_std.copy_(torch.from_numpy(np.where(std > 0, std, 1.0)))
    log_variances = nn.Parameter(torch.tensor(LOG_VARIANCES))
    optimizer = torch.optim.AdamW(
        [*head.parameters(), log_variances], lr=recipe.lr, weight_decay=recipe.weight_decay
    )
    rng = np.random.default_rng(seed)
    inputs, held = torch.from_numpy(train.features), torch.from_numpy(val.features)
    losses: list[tuple[float, float]] = []
    best, lowest, kept = 0, math.inf, copy.deepcopy(head.state_dict())
    for epoch in range(1, recipe.epochs + 1):
        head.train()
        total = 0.0
        order = rng.permutation(len(train))
        for begin in range(0, len(train), recipe.batch):
            rows = order[begin : begin + recipe.batch]
            loss = uncertainty_loss(losses_of(head, inputs[rows], train, rows), log_variances)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        head.eval()
        with torch.no_grad():
            checked = float(uncertainty_loss(losses_of(head, held, val, np.arange(len(val))), log_variances))
        losses.append((total / len(train), checked))
        if not all(math.isfinite(value) for value in losses[-1]):
            raise ZooError(f"emotion_age_country: the loss is not finite in epoch {epoch}")
        if progress:
            progress("head", epoch, recipe.epochs)
        if checked < lowest - recipe.delta:
            best, lowest, kept = epoch, checked, copy.deepcopy(head.state_dict())
        elif epoch - best >= recipe.patience:
            break
    head.load_state_dict(kept)
    return Fitted(head.eval(), losses, best)


def figures(head: MultitaskHead, part: Part) -> dict[str, float]:
    """Scores of section 5 of the sheet: mean CCC, each emotion's, UAR of the countries, MAE in years, and S_MTL.

    A CCC of fewer than two clips, and S_MTL where a score is not above 0, are left out.
    """
    with torch.no_grad():
        emotion, country, age = head(torch.from_numpy(part.features))
    found: dict[str, float] = {
        "UAR": metrics.uar(part.country, country.argmax(dim=1).numpy()),
        "MAE": metrics.mae(part.age, age.numpy()),
    }
    if len(part) >= 2:
        each = [metrics.ccc(part.emotion[:, i], emotion.numpy()[:, i]) for i in range(emotion.shape[1])]
        found["CCC"] = float(np.mean(each))
        found |= {f"CCC/{name}": value for name, value in zip(exvo.EMOTIONS, each, strict=True)}
        inverse = metrics.inverse_mae(part.age, age.numpy())
        found["S_MTL"] = metrics.harmonic_mean([found["CCC"], found["UAR"], inverse])
    return {name: value for name, value in found.items() if math.isfinite(value)}


def embed(
    net: EmotionAgeCountry,
    pipeline: Pipeline,
    dataset: Dataset,
    *,
    key: str,
    out: Path,
    resume: bool,
    progress: Progress | None,
) -> F32:
    """Features of all clips of a data set (n, d), computed once: ``out`` keeps them in files of 256 clips each.

    Raises
    ------
    DataError
        A clip cannot be read or is shorter than a frame, or a file of ``out`` is damaged.
    """

    def compute(begin: int) -> dict[str, F32]:
        rows = []
        for at, item in enumerate(dataset.items[begin : begin + _SHARD], start=begin + 1):
            assert isinstance(item.source, Path)
            try:
                signal = torch.from_numpy(pipeline.run(*ops.read_audio(item.source)))[None]
            except InputError as error:
                raise DataError(f"{dataset.name}: clip {item.id} cannot be used: {error}") from error
            if frame_count(signal.shape[1]) < 1:
                raise DataError(
                    f"{dataset.name}: {item.source} is too short: {signal.shape[1]} samples at the encoder's rate, "
                    "not one frame; leave it out"
                )
            with torch.inference_mode():
                embedding, dimensions = net.embed(signal)
            both = [embedding, dimensions] if net.config.dimensions else [embedding]
            rows.append(torch.cat(both, dim=1)[0].numpy())
            if progress:
                progress(f"embeddings {dataset.name}", at, len(dataset.items))
        return {"features": np.stack(rows)}

    name = dataset.name.replace("/", "-")
    return np.concatenate(
        [
            cached(
                out / f"{name}.{begin:06d}.{key[:12]}.npz",
                key,
                lambda begin=begin: compute(begin),  # type: ignore[misc]
                resume=resume,
            )["features"]
            for begin in range(0, len(dataset.items), _SHARD)
        ]
    )


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
    weights: Path | None = None,
) -> TrainReport:
    """Train the head of a variant on the official Train part, and score it on Val.

    Parameters
    ----------
    variant : zoo.card.Variant
        Its ``config``, ``pipeline``, ``weights.seed`` and ``training`` are used.
    data : Path
        Folder in ExVo's layout (:mod:`zoo.data.exvo`).
    out : Path
        Gets ``<variant>.safetensors`` (encoder and heads, for ``zoo export --weights``), ``heads.safetensors`` (the
        heads alone, which ``zoo convert`` takes beside a checkpoint), ``<variant>.final.json``,
        ``<variant>.final.predictions.json`` and ``checkpoints/`` with the embeddings.
    protocol : {"final"}
        The parts are official: there are no folds.
    epochs, seed : int or None
        None: the card's.
    threads : int
        Threads of the encoder.
    progress : callable or None
        Called with (stage, done, total).
    resume : bool
        Use embeddings that are already in ``out``.
    weights : Path or None
        Of the encoder, as ``zoo convert`` writes them. None: the card's random ones; the result is then marked random.

    Raises
    ------
    DataError
        The data are not as expected, there are folds to choose, the weights do not fit, or a checkpoint is damaged.
    """
    if protocol != "final" or folds is not None:
        raise DataError(
            f"{variant.name}: the parts of the data are official, so there is only --protocol final, without --folds"
        )
    options = [] if weights is None else ["--weights FILE"]
    recipe, seed, command = settle(variant, Recipe, options, epochs=epochs, seed=seed)
    started = time.perf_counter()
    parts = {name: exvo.read(data, split=name) for name in ("Train", "Val")}
    net, digest, about = _network(variant, weights)
    pipeline = Pipeline(variant.pipeline)
    inner = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        read: dict[str, Part] = {}
        for name, dataset in parts.items():
            what = [digest, dict(variant.config), variant.pipeline, dataset.fingerprint()]
            key = hashlib.sha256(msgspec.json.encode(what, order="sorted")).hexdigest()
            features = embed(
                net,
                pipeline,
                dataset,
                key=key,
                out=out / "checkpoints",
                resume=resume,
                progress=progress,
            )
            read[name] = _part(dataset, features)
        torch.set_num_threads(1)

        def fresh() -> MultitaskHead:
            return MultitaskHead(
                net.config.width + 3 * net.config.dimensions,
                emotions=net.config.emotions,
                countries=net.config.countries,
                form=net.config.form,
            )

        fitted = fit_head(fresh, recipe, read["Train"], read["Val"], seed=seed, progress=progress)
    finally:
        torch.set_num_threads(inner)
    net.heads.load_state_dict(fitted.head.state_dict())
    found = figures(fitted.head, read["Val"])
    return _write(
        variant, net, fitted, parts, read, found, out,
        recipe=recipe, seed=seed, about=about, command=command, wall_s=time.perf_counter() - started,
    )  # fmt: skip


def _network(variant: Any, weights: Path | None) -> tuple[EmotionAgeCountry, str, dict[str, str]]:
    """The network, a hash of the encoder's weights, and what is said of them in the file that is written."""
    from safetensors import SafetensorError, safe_open

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(variant.weights.seed or 0)
        net = build(variant.config)
    assert isinstance(net, EmotionAgeCountry)
    about = {
        "status": "random",
        "encoder": "random",
        "source": f"heads trained on an encoder with random weights, seed {variant.weights.seed}",
    }
    if weights is not None:
        try:
            with safe_open(weights, framework="pt") as file:
                said = json.loads((file.metadata() or {}).get("zoo", "{}"))
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            found = net.load_state_dict(state, strict=False)
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise DataError(f"{weights}: no weights of {variant.name} ({error}); see zoo convert") from error
        absent = [name for name in found.missing_keys if not name.startswith("heads.")]
        if absent or found.unexpected_keys:
            raise DataError(
                f"{weights}: these weights do not fit {variant.name}: "
                f"{len(absent)} missing, {len(found.unexpected_keys)} unknown; the first is "
                f"{[*absent, *found.unexpected_keys][0]}"
            )
        # A converted checkpoint without heads is random as a whole, but its encoder is not.
        encoder = said.get("encoder", said.get("status", "trained"))
        about = {
            "status": "random" if encoder == "random" else "trained",
            "encoder": encoder,
            "source": f"heads trained on the encoder of {said.get('source', weights.name)}",
        }
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        if not name.startswith("heads."):
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return net.eval(), digest.hexdigest(), about


def _part(dataset: Dataset, features: F32) -> Part:
    rows = {name: [item.label for item in dataset.head(name).items] for name in exvo.HEADS}
    return Part(
        features,
        np.array(rows["emotion"], np.float32),
        np.array(rows["country"], np.int64),
        np.array(rows["age"], np.float32),
    )


def _write(
    variant: Any,
    net: EmotionAgeCountry,
    fitted: Fitted,
    parts: Mapping[str, Dataset],
    read: Mapping[str, Part],
    found: dict[str, float],
    out: Path,
    *,
    recipe: Recipe,
    seed: int,
    about: Mapping[str, str],
    command: str,
    wall_s: float,
) -> TrainReport:
    from safetensors.torch import save

    stem = f"{variant.name}.final"
    said = {"variant": variant.name, "protocol": "final", "epochs": fitted.best, "seed": seed, **about}
    out.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    metadata = {"zoo": json.dumps(said)}
    write_file(out / f"{variant.name}.safetensors", save(state, metadata=metadata))
    heads = {name: value for name, value in state.items() if name.startswith("heads.")}
    write_file(out / "heads.safetensors", save(heads, metadata=metadata))
    with torch.no_grad():
        emotion, country, age = fitted.head(torch.from_numpy(read["Val"].features))
    lines = ",\n".join(
        json.dumps(
            {
                "id": item.id,
                "emotion": [round(float(value), 5) for value in emotion[i]],
                "country": exvo.COUNTRIES[int(country[i].argmax())],
                "age": round(float(age[i, 0]), 3),
            }
        )
        for i, item in enumerate(parts["Val"].items)
    )
    head = f'{{"variant": "{variant.name}", "emotions": {json.dumps(list(exvo.EMOTIONS))}, "items": [\n'
    write_file(out / f"{stem}.predictions.json", f"{head}{lines}\n]}}\n".encode())
    report = TrainReport(
        variant=variant.name,
        protocol="final",
        metrics=found,
        intervals={},
        folds=(
            FoldResult(
                fold="Val",
                n_train=len(read["Train"]),
                n=len(read["Val"]),
                uar=found["UAR"],
                war=None,
                seed=seed,
                epochs=fitted.best,
                wall_s=round(wall_s, 1),
                losses={str(i): round(loss, 5) for i, (loss, _) in enumerate(fitted.losses, start=1)},
            ),
        ),
        result=f"{stem}.json",
        predictions=f"{stem}.predictions.json",
        weights=f"{variant.name}.safetensors",
    )
    document = {
        "schema": 1,
        **msgspec.to_builtins(report),
        "validation_losses": [round(loss, 5) for _, loss in fitted.losses],
        "selection": "best epoch on Val, which is what is scored too",
        "encoder": dict(about),
        "recipe": msgspec.to_builtins(recipe),
        "data": {"name": "exvo", "sha256": {name: dataset.fingerprint() for name, dataset in parts.items()}},
        "command": command,
        "environment": {
            "isa": _native.isa(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": str(torch.__version__),
        },
    }
    write_file(out / f"{stem}.json", msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    return report
