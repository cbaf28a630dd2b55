# SPDX-License-Identifier: Apache-2.0
"""Training on FERPlus with part of the labels withheld: fact sheet 08, "Teacher loss", "Student loss".

A teacher learns from the labelled faces: cross-entropy and pseudo-triplets. A student of the same architecture learns from
those and, from the teacher alone, from the faces whose labels are withheld. A plain net that has only the cross-entropy
is what both are compared with. The sheet's schedule is made for a GPU; ours is sized to one CPU core.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.crossval import Progress, TrainReport
from zoo.data import ferplus
from zoo.errors import DataError
from zoo.models.deepfever import triplets
from zoo.models.deepfever.model import ExpressionNet, build
from zoo.models.neurogaze_distill import losses
from zoo.models.neurogaze_distill.train import (
    Jury,
    Schedule,
    State,
    channels_last,
    finish,
    fit,
    optimizer,
    ready,
    resumed,
    trained,
    weights_file,
)
from zoo.pipeline import Normalize, Pipeline


class Triplets(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Pseudo-triplets: ``drawn`` of each batch's labelled faces; those that the votes are clear about are learned."""

    weight: float = 1.0
    drawn: int = 512


class Teacher(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Self-distillation: ``variant`` teaches its logits (``logits``: weight, at ``temperature``) and its vector."""

    variant: str
    logits: float = 1.0
    temperature: float = 2.0
    vector: float = 1.0


class Recipe(Schedule, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The ``training`` table of a card. ``labelled``: share of the faces whose votes are known, drawn by ``withheld_seed``,
    the same for all nets. Without a teacher the others are not used. ``class_power``: see :func:`losses.class_weights`.
    """

    labelled: float = 0.5
    withheld_seed: int = 8
    label_smoothing: float = 0.0
    class_power: float = 0.0
    triplets: Triplets | None = None
    teacher: Teacher | None = None


@dataclass(frozen=True)
class Corpus:
    """Faces (n, 1, 48, 48) uint8, shares of votes (n, 8), and whether they are known (n,); rows of unknown ones are 0."""

    images: Tensor
    targets: Tensor
    known: Tensor


def training_corpus(faces: ferplus.Faces, recipe: Recipe) -> Corpus:
    """What is trained on, of the faces that most votes name a class for.

    Raises
    ------
    DataError
        Fewer than three have known votes.
    """
    named = faces.votes[:, : len(ferplus.LABELS)].sum(axis=1)
    rows = np.flatnonzero(2 * named > faces.votes.sum(axis=1))
    order = np.random.default_rng(recipe.withheld_seed).permutation(len(rows))
    known = np.zeros(len(rows), bool)
    known[order[: round(recipe.labelled * len(rows))]] = True
    if known.sum() < 3:
        raise DataError(f"deepfever: {int(known.sum())} faces with known votes are too few to train on")
    if recipe.teacher is None:
        rows, known = rows[known], known[known]
    targets = np.where(known[:, None], ferplus.soft_targets(faces.votes[rows]), 0).astype(np.float32)
    return Corpus(
        torch.from_numpy(faces.images[rows, None]), torch.from_numpy(targets), torch.from_numpy(known)
    )


class Objective:
    """The whole loss of a batch.

    Parameters
    ----------
    recipe : Recipe
    corpus : Corpus
    net : ExpressionNet
    teacher : ExpressionNet or None
        Needed with ``recipe.teacher``; never trained.
    """

    def __init__(
        self, recipe: Recipe, corpus: Corpus, net: ExpressionNet, teacher: ExpressionNet | None
    ) -> None:
        self.recipe, self.corpus, self.net, self.teacher = recipe, corpus, net, teacher
        known = corpus.targets[corpus.known].numpy()
        self.weights = (
            torch.from_numpy(losses.class_weights(known, recipe.class_power)) if recipe.class_power else None
        )

    def __call__(self, image: Tensor, rows: Tensor, epoch: float) -> Tensor:
        """Loss of the views (B, 3, H, W) of the corpus's ``rows``; triplets depend on the seed and ``epoch`` alone."""
        recipe = self.recipe
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
            logits, _, vector, fec = self.net(image)
        logits, vector, fec = logits.float(), vector.float(), fec.float()
        known = self.corpus.known[rows]
        targets = self.corpus.targets[rows][known]
        loss: Tensor = logits.new_zeros(())
        if len(targets):
            loss = losses.classification(
                logits[known], targets, smoothing=recipe.label_smoothing, weights=self.weights
            )
        if recipe.triplets is not None:
            rng = np.random.default_rng([recipe.seed, round(epoch * 1e6)])
            drawn = triplets.draw(len(targets), recipe.triplets.drawn, rng)
            chosen, types = triplets.choose(targets.numpy(), drawn)
            loss = loss + recipe.triplets.weight * triplets.loss(
                fec[known], torch.from_numpy(chosen), torch.from_numpy(triplets.margins(types))
            )
        if recipe.teacher is not None:
            assert self.teacher is not None
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                wanted, _, aim, _ = self.teacher(image)
            loss = loss + recipe.teacher.logits * losses.distillation(
                logits, wanted.float(), temperature=recipe.teacher.temperature, mode="kl"
            )
            loss = loss + recipe.teacher.vector * (1 - F.cosine_similarity(vector, aim.float())).mean()
        return loss


def train(
    variant: Any,
    *,
    data: Path,
    out: Path,
    protocol: str = "final",
    epochs: int | None = None,
    seed: int | None = None,
    folds: Sequence[str] | None = None,
    threads: int = 1,
    progress: Progress | None = None,
    resume: bool = True,
) -> TrainReport:
    """Train a variant of the card and write weights, checkpoint and figures into ``out``.

    Parameters
    ----------
    variant : zoo.card.Variant
    data : Path
        Folder that :mod:`zoo.data.ferplus` reads.
    protocol : str
        Only ``final``: the official splits fix what is held out.
    resume : bool
        Go on from the checkpoint in ``out``. It is found by everything that the result depends on.

    Raises
    ------
    DataError
        The data are not there, the teacher is not trained yet, or ``protocol`` or ``folds`` ask for a cross-validation.
    """
    if protocol != "final" or folds is not None:
        raise DataError(f"{variant.name}: the official files fix the held-out faces; use --protocol final")
    folder = Path(__file__).parent
    recipe, pipeline, op = ready(variant, Recipe, folder, epochs=epochs, seed=seed)
    inner = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _train(variant, recipe, folder, pipeline, op, data, out, progress, resume)
    finally:
        torch.set_num_threads(inner)


def _train(
    variant: Any,
    recipe: Recipe,
    folder: Path,
    pipeline: Pipeline,
    op: Normalize,
    data: Path,
    out: Path,
    progress: Progress | None,
    resume: bool,
) -> TrainReport:
    corpus = training_corpus(ferplus.faces(data, "train"), recipe)
    jury = Jury(data)
    teacher = (
        None if recipe.teacher is None else channels_last(trained(recipe.teacher.variant, folder, build))
    )
    torch.manual_seed(recipe.seed)
    net = channels_last(build(variant.config))
    state = State(net, None, optimizer(net, None, recipe))
    content = [
        dict(variant.config), variant.pipeline, recipe,
        hashlib.sha256(corpus.images.numpy().tobytes() + corpus.targets.numpy().tobytes()).hexdigest(),
        None if recipe.teacher is None
        else hashlib.sha256(weights_file(folder, recipe.teacher.variant).read_bytes()).hexdigest(),
    ]  # fmt: skip
    checkpoint = resumed(state, variant.name, content, out, resume)
    fit(
        state,
        corpus.images,
        recipe,
        Objective(recipe, corpus, net, teacher),
        op,
        lambda: jury.score(net, pipeline, recipe.bfloat16),
        name=f"{variant.name} seed {recipe.seed}",
        checkpoint=checkpoint,
        progress=progress,
    )
    return finish(state, variant, recipe, pipeline, jury, data, out, trained_on=len(corpus.images))
