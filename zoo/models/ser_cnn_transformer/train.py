# SPDX-License-Identifier: Apache-2.0
"""Training of the parallel CNNs and Transformer. The last epoch counts: no test fold is looked at before.

The source trains 500 epochs of plain SGD; the recipe here is sized to one core (the card's ``training``, the README
says what differs). A fold runs on one thread and depends only on the seed, the data and the machine's arithmetic, so
``threads`` (folds at once) changes no result.
"""

from __future__ import annotations

import json
import math
import time
import zlib
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

from zoo.crossval import Augment, Corpus, Progress, ProtocolName, Trained, TrainReport
from zoo.errors import ZooError
from zoo.models.ser_cnn_transformer.model import ParallelCnnTransformer, build
from zoo.models.training import (
    Fold,
    cross_validate,
    fresh,
    load_checkpoint,
    save_checkpoint,
    settle,
    state_of,
    training_key,
)

F32 = NDArray[np.float32]
_CHECKPOINT_EVERY = 5  # epochs


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``training`` table of a card.

    AdamW; the rate rises for ``warmup`` (share of all steps) and falls to zero on a half cosine. ``bfloat16``: forward
    and backward pass with bfloat16 products. Each epoch takes one version of each clip: as it is, or one of the
    ``augment.copies``.
    """

    epochs: int
    batch: int = 32
    lr: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 1e-2
    label_smoothing: float = 0.0
    bfloat16: bool = True
    seed: int = 46
    folds: int = 10
    augment: Augment | None = None


class ByteDropout(nn.Module):
    """Dropout from random bytes: several times faster than ``nn.Dropout``'s draw of a float for each value.

    The share dropped is the nearest multiple of 1/256, and the kept values are scaled by exactly its complement.
    """

    def __init__(self, share: float, rng: np.random.Generator) -> None:
        super().__init__()
        self.limit, self.rng = round(share * 256), rng

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of ``x`` (any shape) in training."""
        if not self.training or self.limit == 0:
            return x
        drawn = np.frombuffer(bytearray(self.rng.bytes(x.numel())), np.uint8)
        keep = (torch.from_numpy(drawn) >= self.limit).to(x.dtype).mul_(256 / (256 - self.limit))
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            batch, channels, height, width = x.shape
            return x * keep.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return x * keep.view(x.shape)


def quicken(net: nn.Module, rng: np.random.Generator) -> None:
    """Make a network faster to train without changing its function: byte dropout, and max-pool before ReLU."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(module, name, ByteDropout(child.p, rng))
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                if isinstance(module[i], nn.ReLU) and isinstance(module[i + 1], nn.MaxPool2d):
                    module[i], module[i + 1] = module[i + 1], module[i]


# ---- training one model ------------------------------------------------------------------------------------------


@dataclass
class State:
    """All that a checkpoint holds."""

    net: ParallelCnnTransformer
    optimizer: torch.optim.AdamW
    rng: np.random.Generator
    epoch: int
    wall_s: float
    losses: list[float]

    def save(self, path: Path, key: str) -> None:
        """Write atomically."""
        content = {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": json.dumps(self.rng.bit_generator.state),
            "epoch": self.epoch,
            "wall_s": self.wall_s,
            "losses": self.losses,
        }
        save_checkpoint(path, key, content)

    def load(self, path: Path, key: str) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        DataError
            The file is damaged or belongs to a training with other settings or data.
        """

        def take(content: dict[str, Any]) -> None:
            self.net.load_state_dict(content["net"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.rng.bit_generator.state = json.loads(content["rng"])
            self.epoch, self.wall_s, self.losses = (content[name] for name in ("epoch", "wall_s", "losses"))

        load_checkpoint(path, key, take)


def train_model(
    config: Mapping[str, object],
    recipe: Recipe,
    corpus: Corpus,
    rows: NDArray[np.int64],
    *,
    name: str,
    seed: int,
    checkpoint: tuple[Path, str],
    resume: bool,
    progress: Progress | None,
) -> tuple[dict[str, F32], State]:
    """Train on ``rows`` of the corpus for all epochs of the recipe; file and key of its ``checkpoint``.

    A model of a part of the clips carries that part's own statistics (``rescale``): the pipeline's scaler was fitted
    on all clips, held-out ones too.

    Returns
    -------
    state dict : dict of float32 arrays
        Ready for ``ParallelCnnTransformer.load_state_dict``.
    state : State
        As in the checkpoint.
    """
    net = fresh(build, config, seed)
    assert isinstance(net, ParallelCnnTransformer)
    if net.rescale and len(rows) < len(corpus.labels):
        mean, std = statistics(corpus.features[0][rows])
        net.input_scale.copy_(torch.from_numpy(1 / std))
        net.input_shift.copy_(torch.from_numpy(-mean / std))
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    quicken(net, rng)
    net.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    decayed = [value for value in net.parameters() if value.dim() > 1]
    plain = [value for value in net.parameters() if value.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=recipe.lr,
    )
    state = State(net, optimizer, rng, 0, 0.0, [])
    path, key = checkpoint
    if resume and path.is_file():
        state.load(path, key)
    labels = torch.from_numpy(corpus.labels)
    batches = -(-len(rows) // recipe.batch)
    while state.epoch < recipe.epochs:
        started = time.perf_counter()
        order = rng.permutation(len(rows))
        copies = rng.integers(0, len(corpus.features), len(rows))
        total = 0.0
        for step in range(batches):
            picked = order[step * recipe.batch : (step + 1) * recipe.batch]
            rate = _rate(recipe, state.epoch * batches + step, recipe.epochs * batches)
            for group in optimizer.param_groups:
                group["lr"] = rate
            x = torch.from_numpy(corpus.features[copies[picked], rows[picked]])
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                logits = net(x)[0]
            loss = F.cross_entropy(
                logits.float(), labels[rows[picked]], label_smoothing=recipe.label_smoothing
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach()) * len(picked)
        if not math.isfinite(total):
            raise ZooError(
                f"ser_cnn_transformer: the loss of fold {name} is not finite in epoch {state.epoch + 1}"
            )
        state.losses.append(total / len(rows))
        state.epoch += 1
        state.wall_s += time.perf_counter() - started
        if state.epoch % _CHECKPOINT_EVERY == 0 or state.epoch == recipe.epochs:
            state.save(path, key)
        if progress:
            progress(f"fold {name}", state.epoch, recipe.epochs)
    return state_of(net), state


def _rate(recipe: Recipe, step: int, steps: int) -> float:
    warm = max(1, round(recipe.warmup * steps))
    if step < warm:
        return recipe.lr * (step + 1) / warm
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def statistics(features: F32) -> tuple[F32, F32]:
    """Mean and standard deviation of each column of features (n, T, F), each float32 (F,)."""
    flat = features.reshape(-1, features.shape[-1]).astype(np.float64)
    return flat.mean(axis=0).astype(np.float32), flat.std(axis=0).astype(np.float32)


def probabilities(config: Mapping[str, object], weights: Mapping[str, F32], features: F32) -> F32:
    """Class probabilities (n, C) of features (n, T, F) with the reference network in inference mode."""
    net = fresh(build, config, 0).eval()
    net.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    with torch.inference_mode():
        parts = [
            net(torch.from_numpy(features[begin : begin + 64]))[1].numpy()
            for begin in range(0, len(features), 64)
        ]
    return np.concatenate(parts) if parts else np.zeros((0, int(str(config["classes"]))), np.float32)


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
        Its ``config``, ``training``, ``pipeline``, ``labels`` and ``data`` are used.
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
        Go on from the checkpoints in ``out``. They are found by everything that a result depends on, so trainings
        with other settings or data may share the folder.
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
        weights, state = train_model(
            variant.config,
            recipe,
            fold.corpus,
            fold.rows,
            name=fold.name,
            seed=fold.seed,
            checkpoint=(fold.checkpoint(key, ".pt"), key),
            resume=resume,
            progress=progress,
        )
        found = probabilities(variant.config, weights, fold.corpus.features[0][fold.test])
        return Trained(weights, state.losses, state.wall_s, found)

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
