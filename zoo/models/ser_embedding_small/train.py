# SPDX-License-Identifier: Apache-2.0
"""Training of the small multitask network. The last epoch counts: no test fold is looked at before.

A fold runs on one thread and depends only on the seed, the data and the machine's arithmetic, so ``threads`` (folds at
once) changes no result. Finished folds are kept; one that was interrupted starts anew, it takes a minute or two.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.crossval import Augment, Corpus, Progress, ProtocolName, Trained, TrainReport, cached
from zoo.errors import ZooError
from zoo.models.ser_embedding_small.model import SerEmbedding, build
from zoo.models.training import Fold, cross_validate, fresh, settle, state_of, training_key
from zoo.multitask import LOG_VARIANCES, uncertainty_loss

F32 = NDArray[np.float32]


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``training`` table of a card.

    AdamW; the rate rises for ``warmup`` (share of all steps) and falls to zero on a half cosine. Each epoch takes one
    version of each clip: as it is, or one of the ``augment.copies``. ``mixup``: alpha of the Beta distribution by which a
    batch is mixed with itself in another order, all truths with it (0: none). ``mask_bands``, ``mask_frames``: up to so
    many neighbours are blanked in each clip. ``bfloat16``: forward and backward pass with bfloat16 products.
    """

    epochs: int
    batch: int = 32
    lr: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    mixup: float = 0.0
    mask_bands: int = 0
    mask_frames: int = 0
    bfloat16: bool = True
    seed: int = 46
    folds: int = 10
    augment: Augment | None = None


class Dropout(nn.Module):
    """Dropout that draws from a generator of its own, so that folds trained at once do not disturb each other."""

    def __init__(self, share: float, generator: torch.Generator) -> None:
        super().__init__()
        self.share, self.generator = share, generator

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of ``x`` (any shape) in training."""
        if not self.training or self.share == 0:
            return x
        keep = torch.rand(x.shape, generator=self.generator) >= self.share
        return x * keep.to(x.dtype) / (1 - self.share)


def train_model(
    config: Mapping[str, object],
    recipe: Recipe,
    corpus: Corpus,
    rows: NDArray[np.int64],
    *,
    name: str,
    seed: int,
    progress: Progress | None,
) -> tuple[dict[str, F32], list[float]]:
    """Train on ``rows`` of the corpus for all epochs of the recipe.

    Returns
    -------
    state dict : dict of float32 arrays
        Ready for ``SerEmbedding.load_state_dict``.
    losses : list of float
        One an epoch; below zero is possible.
    """
    net = fresh(build, config, seed)
    assert isinstance(net, SerEmbedding)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    net.drop = Dropout(net.drop.p, torch.Generator().manual_seed(int(rng.integers(2**62))))  # type: ignore[assignment]
    net.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    log_variances = nn.Parameter(torch.tensor(LOG_VARIANCES))
    weights = [value for value in net.parameters() if value.dim() > 1]
    others = [value for value in net.parameters() if value.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": weights, "weight_decay": recipe.weight_decay},
            {"params": [*others, log_variances], "weight_decay": 0.0},
        ],
        lr=recipe.lr,
    )
    batches = max(1, len(rows) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe.lr,
        total_steps=batches * recipe.epochs,
        pct_start=recipe.warmup,
        cycle_momentum=False,
    )
    targets = _targets(net, corpus)
    losses: list[float] = []
    for epoch in range(recipe.epochs):
        # The clips left over by the division take part in the next epoch's draw: a batch of one has no statistics.
        order = rng.permutation(len(rows))
        copies = rng.integers(0, len(corpus.features), len(rows))
        total = 0.0
        for picked in np.array_split(order, batches):
            features = corpus.features[copies[picked], rows[picked]]
            x, truth = _perturb(recipe, features, [target[rows[picked]] for target in targets], rng)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                emotion, sex, age, _ = net.logits(x)
            loss = uncertainty_loss(
                torch.stack(
                    [
                        F.cross_entropy(emotion.float(), truth[0], label_smoothing=recipe.label_smoothing),
                        F.cross_entropy(sex.float(), truth[1], label_smoothing=recipe.label_smoothing),
                        F.mse_loss(age.float(), truth[2]),
                    ]
                ),
                log_variances,
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(picked)
        if not math.isfinite(total):
            raise ZooError(f"ser_embedding_small: the loss of fold {name} is not finite in epoch {epoch + 1}")
        losses.append(total / len(rows))
        if progress:
            progress(f"fold {name}", epoch + 1, recipe.epochs)
    return state_of(net), losses


def _targets(net: SerEmbedding, corpus: Corpus) -> list[Tensor]:
    """Of each clip: emotion and sex as shares (n, classes), age in the network's steps (n, 1)."""
    assert corpus.truth is not None
    emotion, sex, age = torch.from_numpy(corpus.truth).unbind(dim=1)
    return [
        F.one_hot(emotion.long(), net.emotion.out_features).float(),
        F.one_hot(sex.long(), net.sex.out_features).float(),
        ((age - net.age_mean) / net.age_std).float()[:, None],
    ]


def _perturb(
    recipe: Recipe, features: F32, truth: list[Tensor], rng: np.random.Generator
) -> tuple[Tensor, list[Tensor]]:
    """Blank bands and frames of each clip, and mix the clips in pairs."""
    x = features.copy()
    level = x.mean(axis=(1, 2))
    for clip, mean in zip(x, level, strict=True):
        for axis, most in ((0, recipe.mask_frames), (1, recipe.mask_bands)):
            if most:
                width = int(rng.integers(0, most + 1))
                begin = int(rng.integers(0, clip.shape[axis] - width + 1))
                np.moveaxis(clip, axis, 0)[begin : begin + width] = mean
    mixed = torch.from_numpy(x)
    if recipe.mixup:
        share = float(rng.beta(recipe.mixup, recipe.mixup))
        other = torch.from_numpy(rng.permutation(len(x)))
        mixed = share * mixed + (1 - share) * mixed[other]
        truth = [share * target + (1 - share) * target[other] for target in truth]
    return mixed, truth


def scores(config: Mapping[str, object], weights: Mapping[str, F32], features: F32) -> F32:
    """Emotion and sex as probabilities, and age in years, side by side: (n, classes + 3) of features (n, T, bands)."""
    net = fresh(build, config, 0).eval()
    net.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    parts = []
    with torch.inference_mode():
        for begin in range(0, len(features), 64):
            emotion, sex, age, _ = net(torch.from_numpy(features[begin : begin + 64]))
            parts.append(torch.cat([emotion, sex, age], dim=1).numpy())
    return np.concatenate(parts) if parts else np.zeros((0, int(str(config["classes"])) + 3), np.float32)


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
    """Train a variant and write weights, predictions and figures into ``out``.

    Parameters
    ----------
    variant : zoo.card.Variant
        Its ``config``, ``training``, ``pipeline``, ``decode``, ``labels`` and ``data`` are used.
    data : Path
        Folder of the data set.
    out : Path
        Gets the files of :func:`zoo.crossval.write_report` and ``checkpoints/``.
    protocol : {"final", "kfold", "loso"}
        One model on all items; random folds; each group (speaker) left out once. The folds are TIM-Net's.
    epochs, seed : int or None
        None: the card's.
    folds : sequence of str or None
        Only these: ``0``.. for kfold, group names for loso.
    threads : int
        Folds trained at once, one thread each. Changes no result.
    progress : callable or None
        Called with (stage, done, total).
    resume : bool
        Keep the finished folds in ``out``. They are found by everything that a result depends on, so trainings with
        other settings or data may share the folder.
    exclude : sequence of str
        Groups left out altogether, for choosing a recipe without the groups that will be reported.

    Raises
    ------
    DataError
        The data set is not as expected, a fold does not exist, or a checkpoint is damaged.
    """
    recipe, seed, command = settle(
        variant, Recipe, [f"--protocol {protocol}"], epochs=epochs, seed=seed, folds=folds
    )

    def train_fold(fold: Fold) -> Trained:
        key = training_key(variant, recipe, protocol, fold.seed, fold.corpus.fingerprint)

        def compute() -> dict[str, F32]:
            started = time.perf_counter()
            weights, losses = train_model(
                variant.config,
                recipe,
                fold.corpus,
                fold.rows,
                name=fold.name,
                seed=fold.seed,
                progress=progress,
            )
            wall = np.array(time.perf_counter() - started)
            return {"losses": np.array(losses), "wall_s": wall, **{f"net/{k}": v for k, v in weights.items()}}

        arrays = cached(fold.checkpoint(key, ".npz"), key, compute, resume=resume)
        weights = {k.removeprefix("net/"): value for k, value in arrays.items() if k.startswith("net/")}
        found = scores(variant.config, weights, fold.corpus.features[0][fold.test])
        return Trained(weights, arrays["losses"].tolist(), float(arrays["wall_s"]), found)

    return cross_validate(
        variant,
        recipe,
        train_fold,
        data=data,
        out=out,
        protocol=protocol,
        command=command,
        seed=seed,
        epochs=recipe.epochs,
        augment=recipe.augment,
        n_folds=recipe.folds,
        fold_seed=recipe.seed,
        environment=lambda: {"bfloat16": "AVX-512/AMX products" if recipe.bfloat16 else "none"},
        only=folds,
        exclude=exclude,
        threads=threads,
        progress=progress,
    )
