# SPDX-License-Identifier: Apache-2.0
"""Training of the students on FERPlus: fact sheet 09, "Losses" and "Training".

Trained on the ``train`` split, with the votes as soft targets or with the majority; the epoch that does best on ``valid``
is kept and reported. The official test split is never read. The recipe is sized to a CPU, and not the sheet's: from
scratch (no ImageNet weights), faces at 48 pixels and, in the first epochs, at fewer, one cycle of SGD.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, cast

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import _native, metrics
from zoo.bundle import write_file
from zoo.crossval import Progress, TrainReport, read_recipe
from zoo.data import ferplus
from zoo.errors import DataError, ZooError
from zoo.evaluation import judge
from zoo.models.neurogaze_distill import losses
from zoo.models.neurogaze_distill.model import Student, build
from zoo.models.training import load_checkpoint, save_checkpoint
from zoo.pipeline import Normalize, Pipeline
from zoo.settings import command_of
from zoo.specs import Softmax

F32 = NDArray[np.float32]
N = TypeVar("N", bound=nn.Module)
S = TypeVar("S", bound="Schedule")
_EVALUATION_BATCH = 256


class Augment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Random changes of a face. ``scale``: of its size. ``shift``: of its place, a share of the side. ``erase``: how many
    faces lose a rectangle of up to ``erase_area``. ``brightness`` and ``contrast``: largest relative change.
    """

    flip: bool = True
    rotate_deg: float = 10.0
    scale: tuple[float, float] = (0.9, 1.1)
    shift: float = 0.05
    brightness: float = 0.2
    contrast: float = 0.2
    erase: float = 0.0
    erase_area: float = 0.2


class Distillation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """KD: ``teacher`` is the variant whose logits are learned, with its own weights of the folder; of several, the mean.

    ``sees``: the ``view`` that the student sees, or the ``face`` and its mirror image as they are, once for all epochs:
    cheaper by most of a step where the teacher is many times the student's size (our choice).
    """

    teacher: str | tuple[str, ...]
    weight: float = 0.3
    temperature: float = 5.0
    mode: Literal["mse", "kl"] = "mse"
    sees: Literal["view", "face"] = "view"

    @property
    def teachers(self) -> tuple[str, ...]:
        """All of them."""
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher


class PrototypeDistillation(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """Proto-KD: ``file`` of prototypes in the model's folder; the default ones are synthetic (:mod:`.prototypes`)."""

    file: str = "prototypes/eye_state_5x5_synthetic.npz"
    weight: float = 0.12
    tau: float = 0.9


class Geometry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """D-Geo: its weight rises between the epochs ``start`` and ``end``."""

    start: float
    end: float
    weight: float = 0.012
    positive: tuple[str, ...] = ("happiness", "surprise")
    cap: float = 0.2
    margin: float = 0.3


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """How a net is trained on faces, whatever the loss.

    The rate rises for ``warmup`` (share of all steps) to ``lr`` and falls to zero on a half cosine. ``sizes``: from which
    epoch on (from 0) faces have how many pixels a side.
    """

    epochs: int
    sizes: tuple[tuple[int, int], ...]
    batch: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.08
    warmup: float = 0.15
    weight_decay: float = 5e-4
    clip: float = 0.0
    bfloat16: bool = True
    seed: int = 1
    augment: Augment = Augment()


class Recipe(Schedule, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The ``training`` table of a card. ``class_power``: see :func:`losses.class_weights`; 0 for none."""

    targets: Literal["votes", "majority"] = "votes"
    label_smoothing: float = 0.0
    class_power: float = 0.0
    kd: Distillation | None = None
    proto: PrototypeDistillation | None = None
    geo: Geometry | None = None


# ---- faces ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Faces (n, 1, 48, 48) uint8, targets (n, 8), and the majority (n,), -1 for none."""

    images: Tensor
    targets: Tensor
    labels: Tensor


def training_corpus(faces: ferplus.Faces, recipe: Recipe) -> Corpus:
    """What is trained on: with votes all faces that a class was named for, with the majority those that have one."""
    labels = ferplus.majority(faces.votes)
    if recipe.targets == "votes":
        targets = ferplus.soft_targets(faces.votes)
        # More than half say "unknown" or "not a face": nothing to learn from the rest.
        named = faces.votes[:, : len(ferplus.LABELS)].sum(axis=1)
        rows = np.flatnonzero(2 * named > faces.votes.sum(axis=1))
    else:
        rows = np.flatnonzero(labels >= 0)
        targets = np.eye(len(ferplus.LABELS), dtype=np.float32)[labels]
    if not len(rows):
        raise DataError("neurogaze_distill: no face of the training split can be trained on")
    return Corpus(
        torch.from_numpy(faces.images[rows, None]),
        torch.from_numpy(targets[rows]),
        torch.from_numpy(labels[rows]),
    )


def views(images: Tensor, side: int, augment: Augment, rng: np.random.Generator) -> Tensor:
    """A random view of each face: uint8 (B, 1, H, W) to float32 grey levels (B, 1, side, side).

    One bilinear resampling does turn, size, place and flip.
    """
    count = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, shape or (count,)).astype(np.float32))

    angle = uniform(-augment.rotate_deg, augment.rotate_deg) * (math.pi / 180)
    scale = 1 / uniform(*augment.scale)
    mirror = torch.from_numpy(rng.integers(0, 2, count).astype(np.float32)) * 2 - 1
    mirror = mirror if augment.flip else torch.ones(count)
    shift = uniform(-2 * augment.shift, 2 * augment.shift, count, 2)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = torch.stack(
        [cosine * mirror, -sine, shift[:, 0], sine * mirror, cosine, shift[:, 1]], dim=1
    ).reshape(count, 2, 3)
    grid = F.affine_grid(rows, [count, 1, side, side], align_corners=False)
    x = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    gain = uniform(1 - augment.contrast, 1 + augment.contrast).view(-1, 1, 1, 1)
    light = 255 * uniform(-augment.brightness, augment.brightness).view(-1, 1, 1, 1)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = ((x - mean) * gain + mean + light).clamp_(0, 255)
    for i in np.flatnonzero(rng.random(count) < augment.erase):
        area, ratio = rng.uniform(0.02, augment.erase_area), math.exp(rng.uniform(-0.7, 0.7))
        height, width = (
            min(side, max(1, round(side * math.sqrt(area * part)))) for part in (ratio, 1 / ratio)
        )
        top, left = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
        x[i, :, top : top + height, left : left + width] = float(rng.uniform(0, 255))
    return x


def normalized(grey: Tensor, op: Normalize) -> Tensor:
    """Grey levels (B, 1, H, W) as the pipeline's last op makes them of RGB, float32 (B, 3, H, W)."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (op.mean, op.std))
    return (grey * op.scale - mean) / std


# ---- training one model --------------------------------------------------------------------------------------------


@dataclass
class State:
    """All that a checkpoint holds. ``best``: weights of the best epoch on valid."""

    net: nn.Module
    projection: nn.Linear | None
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    wall_s: float = 0.0
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def save(self, path: Path, key: str) -> None:
        """Write atomically."""
        content = {
            "net": self.net.state_dict(),
            "projection": None if self.projection is None else self.projection.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "wall_s": self.wall_s,
            "losses": self.losses,
            "scores": self.scores,
            "best": self.best,
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
            if self.projection is not None:
                self.projection.load_state_dict(content["projection"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.epoch, self.wall_s, self.losses, self.scores, self.best = (
                content[name] for name in ("epoch", "wall_s", "losses", "scores", "best")
            )

        load_checkpoint(path, key, take)


def rate(step: int, total: int, recipe: Schedule) -> float:
    """Learning rate of a step: one cycle."""
    peak = recipe.warmup * total
    if step < peak:
        return recipe.lr * (step + 1) / max(peak, 1)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - peak) / max(total - peak, 1)))


class Objective:
    """The whole loss of a batch.

    Parameters
    ----------
    recipe : Recipe
    targets : float32, shape (n, classes)
        Of all faces: the class weights come from them.
    folder : Path
        Holds the prototypes.
    teacher : sequence of Student, or float32, shape (n, classes), or None
        Needed with ``recipe.kd``: the nets, never trained, or their mean logits of all faces.
    """

    def __init__(
        self, recipe: Recipe, targets: Tensor, folder: Path, teacher: Sequence[Student] | Tensor | None
    ) -> None:
        self.recipe, self.teacher = recipe, teacher
        self.weights = (
            torch.from_numpy(losses.class_weights(targets.numpy(), recipe.class_power))
            if recipe.class_power
            else None
        )
        if recipe.proto is not None:
            self.prototypes = torch.from_numpy(losses.read_prototypes(folder / recipe.proto.file).vectors)
            self.wanted = torch.from_numpy(losses.prototype_targets())
        if recipe.geo is not None:
            unknown = sorted(set(recipe.geo.positive) - set(ferplus.LABELS))
            if unknown:
                raise ZooError(
                    f"neurogaze_distill: training.geo.positive names no class {', '.join(unknown)}"
                )
            self.positive = tuple(ferplus.LABELS.index(name) for name in recipe.geo.positive)

    def __call__(
        self,
        image: Tensor,
        logits: Tensor,
        embedding: Tensor,
        projection: nn.Linear | None,
        targets: Tensor,
        labels: Tensor,
        rows: Tensor,
        epoch: float,
    ) -> Tensor:
        """Loss of a batch, of float32 logits and features of the faces ``rows``; ``epoch`` counts from 0, with its
        fraction done.
        """
        recipe = self.recipe
        loss = losses.classification(logits, targets, smoothing=recipe.label_smoothing, weights=self.weights)
        if recipe.kd is not None:
            assert self.teacher is not None
            if isinstance(self.teacher, Tensor):
                wanted = self.teacher[rows]
            else:
                with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                    wanted = torch.stack([net(image)[0].float() for net in self.teacher]).mean(dim=0)
            loss = loss + recipe.kd.weight * losses.distillation(
                logits, wanted, temperature=recipe.kd.temperature, mode=recipe.kd.mode
            )
        if recipe.proto is not None:
            projected = embedding if projection is None else projection(embedding)
            loss = loss + recipe.proto.weight * losses.prototype_distillation(
                projected, self.prototypes, targets @ self.wanted, tau=recipe.proto.tau
            )
        if recipe.geo is not None:
            share = losses.late_cosine(epoch, recipe.geo.start, recipe.geo.end)
            if share > 0:
                loss = loss + share * recipe.geo.weight * losses.geometry(
                    embedding, labels, self.positive, cap=recipe.geo.cap, margin=recipe.geo.margin
                )
        return loss


def fit(
    state: State,
    images: Tensor,
    recipe: Schedule,
    loss_of: Callable[[Tensor, Tensor, float], Tensor],
    op: Normalize,
    score: Callable[[], float],
    *,
    name: str,
    checkpoint: tuple[Path, str],
    progress: Progress | None = None,
) -> None:
    """Train ``state`` up to the last epoch of the recipe; every epoch depends on the seed and its number alone.

    Parameters
    ----------
    images : uint8, shape (n, 1, H, W)
    loss_of : callable
        Normalised views (B, 3, side, side), their rows among the images, and the epoch from 0 with its fraction done, to
        the loss of the batch.
    score : callable
        The figure that the best epoch is chosen by, of the net in evaluation mode.
    checkpoint : (path, key)
        Written after every epoch.
    """
    path, key = checkpoint
    count = len(images)
    steps = -(-count // recipe.batch)
    learned = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    for epoch in range(state.epoch, recipe.epochs):
        started = time.perf_counter()
        rng = np.random.default_rng([recipe.seed, epoch])
        torch.manual_seed(recipe.seed * 100003 + epoch)  # dropout
        side = max((start, size) for start, size in recipe.sizes if start <= epoch)[1]
        order = torch.from_numpy(rng.permutation(count))
        state.net.train()
        total = 0.0
        for step in range(steps):
            for group in state.optimizer.param_groups:
                group["lr"] = rate(epoch * steps + step, recipe.epochs * steps, recipe)
            rows = order[step * recipe.batch : (step + 1) * recipe.batch]
            image = normalized(views(images[rows], side, recipe.augment, rng), op)
            loss = loss_of(image.contiguous(memory_format=torch.channels_last), rows, epoch + step / steps)
            state.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if recipe.clip:
                nn.utils.clip_grad_norm_(learned, recipe.clip)
            state.optimizer.step()
            total += float(loss.detach()) * len(rows)
            if progress:
                progress(f"{name}, epoch {epoch + 1}", step + 1, steps)
        state.losses.append(round(total / count, 5))
        state.net.eval()
        found = score()
        if not state.scores or found > max(state.scores):
            state.best = {key: value.clone() for key, value in state.net.state_dict().items()}
        state.scores.append(round(found, 5))
        state.epoch = epoch + 1
        state.wall_s += time.perf_counter() - started
        state.save(path, key)
        if progress:
            progress(f"{name}, epoch {epoch + 1}: loss {state.losses[-1]}, valid {state.scores[-1]}", 1, 1)


def probabilities(
    net: nn.Module, pipeline: Pipeline, images: NDArray[np.uint8], *, bfloat16: bool = False
) -> F32:
    """The net's probabilities (n, classes) of faces (n, H, W), through the pipeline; ``net`` is in evaluation mode."""
    return outputs(net, pipeline, images, bfloat16=bfloat16)[1]


def outputs(
    net: nn.Module, pipeline: Pipeline, images: NDArray[np.uint8], *, bfloat16: bool = False
) -> tuple[F32, ...]:
    """All that the net, in evaluation mode, gives for faces (n, H, W), through the pipeline."""
    found = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        for start in range(0, len(images), _EVALUATION_BATCH):
            features = [pipeline.run(image) for image in images[start : start + _EVALUATION_BATCH]]
            batch = torch.from_numpy(np.stack(features)).contiguous(memory_format=torch.channels_last)
            found.append([part.float().numpy() for part in net(batch)])
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def taught(net: Student, pipeline: Pipeline, images: NDArray[np.uint8], *, bfloat16: bool = False) -> F32:
    """Logits (n, classes) of faces (n, H, W): the mean over each face and its mirror image."""
    both = (images, np.ascontiguousarray(images[:, :, ::-1]))
    seen = [outputs(net, pipeline, faces, bfloat16=bfloat16)[0] for faces in both]
    mean: F32 = (seen[0] + seen[1]) * np.float32(0.5)
    return mean


def lesson(teacher: Student, name: str, folder: Path, images: Tensor, bfloat16: bool, out: Path) -> Tensor:
    """:func:`taught` by the variant ``name`` at its own input size; kept in ``out``, for it takes minutes."""
    from zoo.card import Card

    ops = Card(folder, None).variant(name).pipeline
    content = [
        ops,
        _digest(weights_file(folder, name)),
        hashlib.sha256(images.numpy().tobytes()).hexdigest(),
        bfloat16,
    ]
    key = hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()
    kept = out / "checkpoints" / f"{name}.{key[:12]}.logits.pt"
    found: list[Tensor] = []
    if kept.is_file():
        load_checkpoint(kept, key, lambda content: found.append(content["logits"]))
        return found[0]
    logits = torch.from_numpy(
        taught(teacher, Pipeline(ops, files=folder), images[:, 0].numpy(), bfloat16=bfloat16)
    )
    save_checkpoint(kept, key, {"logits": logits})
    return logits


# ---- zoo train -----------------------------------------------------------------------------------------------------


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
        The data are not there, or ``protocol`` or ``folds`` ask for a cross-validation.
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


def ready(
    variant: Any, kind: type[S], folder: Path, *, epochs: int | None, seed: int | None
) -> tuple[S, Pipeline, Normalize]:
    """The recipe with the caller's epochs and seed, the pipeline, and its last op, which training does on views.

    Raises
    ------
    ZooError
        The card's training table does not fit ``kind``, or the pipeline does not end as training needs it.
    """
    recipe = read_recipe(variant, kind)
    seed = recipe.seed if seed is None else seed
    recipe = msgspec.structs.replace(recipe, seed=seed, epochs=epochs or recipe.epochs)
    if not any(start == 0 for start, _ in recipe.sizes):
        raise ZooError(f"{variant.name}: training.sizes must say what the first epoch (0) takes")
    op = variant.pipeline[-1]
    if not isinstance(op, Normalize) or op.layout != "chw" or len(op.mean) != 3 or len(op.std) != 3:
        raise ZooError(
            f"{variant.name}: its pipeline must end with normalize to chw, 3 values of mean and std"
        )
    return recipe, Pipeline(variant.pipeline, files=folder), op


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
    faces = ferplus.faces(data, "train")
    corpus = training_corpus(faces, recipe)
    jury = Jury(data)
    teacher: list[Student] | Tensor | None = None
    teachers: dict[str, str] = {}
    if recipe.kd is not None:
        teachers = {name: _digest(weights_file(folder, name)) for name in recipe.kd.teachers}
        teacher = [trained(name, folder, build) for name in teachers]
        if recipe.kd.sees == "face":
            told = [
                lesson(net, name, folder, corpus.images, recipe.bfloat16, out)
                for net, name in zip(teacher, teachers, strict=True)
            ]
            teacher = torch.stack(told).mean(dim=0)
    torch.manual_seed(recipe.seed)
    net = channels_last(build(variant.config))
    width = net.fc.in_features
    projection = (
        nn.Linear(width, losses.WIDTH, bias=False)
        if recipe.proto is not None and width != losses.WIDTH
        else None
    )
    state = State(net, projection, optimizer(net, projection, recipe))
    content = [
        dict(variant.config), variant.pipeline, recipe,
        hashlib.sha256(corpus.images.numpy().tobytes() + corpus.targets.numpy().tobytes()).hexdigest(),
        list(teachers.values()),
        None if recipe.proto is None else _digest(folder / recipe.proto.file),
    ]  # fmt: skip
    checkpoint = resumed(state, variant.name, content, out, resume)
    objective = Objective(recipe, corpus.targets, folder, teacher)

    def loss_of(image: Tensor, rows: Tensor, epoch: float) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
            logits, _, embedding = net(image)
        return objective(
            image,
            logits.float(),
            embedding.float(),
            projection,
            corpus.targets[rows],
            corpus.labels[rows],
            rows,
            epoch,
        )

    fit(
        state,
        corpus.images,
        recipe,
        loss_of,
        op,
        lambda: jury.score(net, pipeline, recipe.bfloat16),
        name=f"{variant.name} seed {recipe.seed}",
        checkpoint=checkpoint,
        progress=progress,
    )
    about = {"teachers": teachers} if teachers else {}
    return finish(
        state, variant, recipe, pipeline, jury, data, out, trained_on=len(corpus.images), about=about
    )


class Jury:
    """The faces of valid that have a majority: accuracy chooses the epoch, and the net kept is reported on them."""

    def __init__(self, data: Path) -> None:
        held_out = ferplus.read(data, splits=("valid",))
        self.by = judge(Softmax(output="probs"), ferplus.LABELS)
        self.truth = self.by.truth(held_out)
        self.images = np.stack([cast("NDArray[np.uint8]", item.source) for item in held_out.items])

    def decide(self, net: nn.Module, pipeline: Pipeline, bfloat16: bool = False) -> NDArray[Any]:
        """Class of each face."""
        return self.by.decide(probabilities(net, pipeline, self.images, bfloat16=bfloat16))

    def score(self, net: nn.Module, pipeline: Pipeline, bfloat16: bool = False) -> float:
        """Accuracy."""
        return self.by.function("WAR")(self.truth, self.decide(net, pipeline, bfloat16))


def resumed(state: State, name: str, content: object, out: Path, resume: bool) -> tuple[Path, str]:
    """Where the checkpoint of a training is, and its key, made of all that the result depends on; ``state`` goes on from it."""
    key = hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()
    checkpoint = out / "checkpoints" / f"{name}.{key[:12]}.pt"
    if resume and checkpoint.is_file():
        state.load(checkpoint, key)
    return checkpoint, key


def finish(
    state: State,
    variant: Any,
    recipe: Schedule,
    pipeline: Pipeline,
    jury: Jury,
    data: Path,
    out: Path,
    *,
    trained_on: int,
    about: Mapping[str, object] = MappingProxyType({}),
) -> TrainReport:
    """Store the best epoch and report it on valid; the file of figures holds ``about``, too."""
    # Stored in half precision; what is scored is what is stored.
    stored = {
        name: value.half().contiguous().numpy() if value.is_floating_point() else value.numpy()
        for name, value in state.best.items()
        if not name.endswith("num_batches_tracked")
    }
    state.net.load_state_dict(
        {**state.best, **{name: torch.from_numpy(value).float() for name, value in stored.items()}}
    )
    state.net.eval()
    by, truth, found = jury.by, jury.truth, jury.decide(state.net, pipeline)
    report = TrainReport(
        variant=variant.name,
        protocol=f"train on train, best epoch on valid, seed {recipe.seed}",
        metrics={
            name: float(compute(truth, found)) for name, compute in by.metrics.items() if name != "Pearson"
        },
        intervals={"WAR": metrics.bootstrap_interval(by.function("WAR"), truth, found)},
        folds=(),
        result=f"{variant.name}.{recipe.seed}.json",
        predictions=None,
        weights=f"{variant.name}.safetensors",
    )
    epoch = int(np.argmax(state.scores)) + 1
    origin = {"variant": variant.name, "protocol": "final", "epochs": epoch, "seed": recipe.seed}
    write_file(out / f"{variant.name}.safetensors", save(stored, metadata={"zoo": json.dumps(origin)}))
    document = {
        "schema": 1,
        **msgspec.to_builtins(report),
        "n": len(truth),
        "confusion": {
            "labels": list(by.labels),
            "rows_are_truth": metrics.confusion(truth, found, len(by.labels)).tolist(),
        },
        "selection": f"epoch {epoch} of {recipe.epochs}, the best on valid",
        "recipe": msgspec.to_builtins(recipe),
        **about,
        "losses": state.losses,
        "scores": state.scores,
        "wall_s": round(state.wall_s, 1),
        "data": {
            "name": "ferplus",
            "trained_on": trained_on,
            "sha256": ferplus.read(data, splits=("train",)).fingerprint(),
        },
        "command": command_of(variant, f"--seed {recipe.seed}", f"--epochs {recipe.epochs}"),
        "environment": {
            "bfloat16": recipe.bfloat16,
            "isa": _native.isa(),
            "machine": platform.machine(),
            "numpy": np.__version__,
            "torch": str(torch.__version__),
        },
    }
    write_file(out / report.result, msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    return report


def optimizer(net: nn.Module, projection: nn.Linear | None, recipe: Schedule) -> torch.optim.Optimizer:
    """Norms and biases are not decayed."""
    parameters = [*net.parameters(), *(projection.parameters() if projection is not None else ())]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)


def weights_file(folder: Path, name: str) -> Path:
    """Where a variant's weights lie.

    Raises
    ------
    DataError
        It has none yet.
    """
    path = folder / "weights" / f"{name}.safetensors"
    if not path.is_file():
        raise DataError(f"{path} is missing; train {name} first and put its weights there")
    return path


def trained(name: str, folder: Path, build: Callable[[Mapping[str, object]], N]) -> N:
    """A trained variant of a model's folder, in evaluation mode."""
    from zoo.card import Card

    weights = weights_file(folder, name)
    return loaded(build(Card(folder, None).variant(name).config), weights)


def loaded(net: N, weights: Path) -> N:
    """The same net with the weights that :func:`train` wrote, in evaluation mode."""
    found: Mapping[str, Any] = load_file(weights)
    state = net.state_dict()
    state.update({key: torch.from_numpy(value).to(state[key].dtype) for key, value in found.items()})
    net.load_state_dict(state)
    return channels_last(net).eval()


def channels_last(net: N) -> N:
    """The same net; its convolutions then run on pixels with their channels side by side, faster on a CPU."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
