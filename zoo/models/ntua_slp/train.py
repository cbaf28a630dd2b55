# SPDX-License-Identifier: Apache-2.0
"""Training of NTUA-SLP: fact sheet 01, sections 1 to 3.

Trained on the ``train`` group of the data set, stopped and reported on ``dev``. Departures from the authors' code, all
mending what the sheet calls defects: every dev row is scored (theirs dropped the last partial batch), the class
weights of V-oc stand in the order of the classes. Besides, batches hold tweets of like length, and the forward pass
runs in bf16 (weights and updates in fp32), to be affordable on a CPU.
"""

from __future__ import annotations

import copy
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from torch import Tensor, nn

from zoo import _native
from zoo.bundle import write_file
from zoo.crossval import read_recipe
from zoo.data import Dataset
from zoo.errors import DataError
from zoo.evaluation import Judge, evaluate, judge
from zoo.models.ntua_slp.model import Head, NtuaSlp, build
from zoo.pipeline import Pipeline
from zoo.settings import command_of

Start = Literal["random", "frozen", "fine-tuned"]
Progress = Callable[[str, int, int], None]
#: Batches whose tweets are sorted by length together, so that few pads are computed.
_POOL = 32


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``training`` table of a card. ``patience``: epochs without a better dev score until the end.

    ``lr_end``: the learning rate falls linearly over ``epochs`` to this part of ``lr``; 1 keeps it. ``ema``: what is scored
    and kept is a moving average of the weights, of which each step keeps this part (the first steps less); 0: the
    weights themselves. ``weights``: how much each of several heads counts; none: all alike. ``positive``: how much a
    label that a tweet has counts in the loss against one that it has not. ``start``: random weights, or the extractor of
    the model called ``source``, frozen or fine-tuned (sheet, section 3).
    """

    epochs: int = 50
    batch: int = 32
    lr: float = 1e-3
    lr_end: float = 1.0
    ema: float = 0.0
    clip: float = 1.0
    patience: int = 20
    seed: int = 1
    start: Start = "random"
    source: str = "ntua-slp-sentiment"
    weights: tuple[float, ...] = ()
    positive: float = 1.0


@dataclass(frozen=True)
class Encoded:
    """Tweets as word indices, and the truth: (n, labels) 0/1, (n,) class indices or (n, 1) values. Of several heads these
    side by side, NaN where a tweet has no truth for a head (``Judge.truth``).
    """

    ids: tuple[NDArray[np.int64], ...]
    truth: NDArray[Any]


@dataclass(frozen=True)
class Fitted:
    """The weights of the best epoch, its score on dev, and the scores and losses of all epochs."""

    state: dict[str, Tensor]
    epoch: int
    score: float
    scores: tuple[float, ...]
    losses: tuple[float, ...]
    seconds: float


def fit(
    net: NtuaSlp,
    train: Encoded,
    dev: Encoded,
    recipe: Recipe,
    score: Callable[[NDArray[Any], NDArray[np.float32]], float],
    *,
    seed: int,
    progress: Progress | None = None,
) -> Fitted:
    """Train until the dev score has not risen for ``recipe.patience`` epochs.

    Parameters
    ----------
    score : callable
        Truth and logits (n, outputs) to the figure that the best epoch is chosen by; higher is better.

    Raises
    ------
    DataError
        There is no tweet to train on.
    """
    if not train.ids or not dev.ids:
        raise DataError("ntua-slp: training and development sets must not be empty")
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    frozen = recipe.start == "frozen"
    for parameter in net.feature_extractor.parameters():
        parameter.requires_grad_(not frozen)
    learned: list[Tensor] = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=recipe.lr)
    shown = copy.deepcopy(net) if recipe.ema else net
    averages: list[Tensor] = [p for p in shown.parameters() if p.requires_grad]
    steps = 0
    loss_of = _loss(net, train, recipe.weights, recipe.positive)
    started = time.perf_counter()
    best: Fitted | None = None
    scores: list[float] = []
    losses: list[float] = []
    for epoch in range(recipe.epochs):
        net.train()
        total = 0.0
        batches = _batches(train.ids, recipe.batch, order)
        for done, chosen in enumerate(batches):
            share = (epoch + done / len(batches)) / recipe.epochs
            optimizer.param_groups[0]["lr"] = recipe.lr * (1 - (1 - recipe.lr_end) * share)
            ids = _pad([train.ids[i] for i in chosen])
            with torch.autocast("cpu", torch.bfloat16):
                with torch.set_grad_enabled(not frozen):
                    pooled, _ = net.feature_extractor(ids)
                logits = net.linear(pooled).float()
            loss = loss_of(logits, chosen)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(learned, recipe.clip)
            optimizer.step()
            if recipe.ema:
                steps += 1
                kept = min(recipe.ema, steps / (steps + 9))
                with torch.no_grad():
                    torch._foreach_lerp_(averages, learned, 1 - kept)
            total += float(loss.detach()) * len(chosen)
        losses.append(total / len(train.ids))
        scores.append(score(dev.truth, logits_of(shown, dev.ids)))
        if progress:
            progress(f"epoch {epoch + 1}, dev {scores[-1]:.4f}", epoch + 1, recipe.epochs)
        if best is None or scores[-1] > best.score:
            state = {name: value.clone() for name, value in shown.state_dict().items()}
            best = Fitted(state, epoch + 1, scores[-1], (), (), 0.0)
        elif epoch + 1 - best.epoch > recipe.patience:
            break
    assert best is not None
    return Fitted(
        best.state, best.epoch, best.score, tuple(scores), tuple(losses), time.perf_counter() - started
    )


def logits_of(net: NtuaSlp, ids: Sequence[NDArray[np.int64]], batch: int = 64) -> NDArray[np.float32]:
    """Logits (n, outputs) in evaluation mode, float32."""
    net.eval()
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found: NDArray[np.float32] = np.empty((len(ids), net.linear.out_features), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            found[chosen] = net.logits(_pad([ids[i] for i in chosen]))[0].numpy()
    return found


def start_from(net: NtuaSlp, pretrained: Mapping[str, Tensor]) -> None:
    """Take the whole feature extractor of ``pretrained``; the head stays fresh."""
    prefix = "feature_extractor."
    state = {name[len(prefix) :]: value for name, value in pretrained.items() if name.startswith(prefix)}
    net.feature_extractor.load_state_dict(state)


def _loss(
    net: NtuaSlp, train: Encoded, weights: Sequence[float] = (), positive: float = 1.0
) -> Callable[[Tensor, NDArray[np.int64]], Tensor]:
    """Logits of some tweets, and which they are, to their mean loss.

    Of several heads: the mean of theirs over the tweets that have a truth, each in units of what the best constant
    would lose on ``train`` (to be comparable) and times its weight. ``positive`` as in :class:`Recipe`.
    """
    truth = torch.from_numpy(train.truth.reshape(len(train.truth), -1).astype(np.float64))
    widths = [1 if head.task == "classes" else head.outputs for head in net.heads]
    parts = torch.split(truth, widths, dim=1)
    known = [~torch.isnan(part[:, 0]) for part in parts]
    losses = [
        _head_loss(head, part[there], positive)
        for head, part, there in zip(net.heads, parts, known, strict=True)
    ]
    if len(losses) == 1:
        return lambda logits, chosen: losses[0](logits, truth[torch.from_numpy(chosen)])
    scales = [
        weight / float(loss(_constant(head, part[there]), part[there]))
        for head, part, there, loss, weight in zip(
            net.heads, parts, known, losses, weights or [1.0] * len(losses), strict=True
        )
    ]

    def together(logits: Tensor, chosen: NDArray[np.int64]) -> Tensor:
        rows = torch.from_numpy(chosen)
        total = logits.new_zeros(())
        for own, part, there, loss, scale in zip(
            net.split(logits), parts, known, losses, scales, strict=True
        ):
            present = there[rows]
            if present.any():
                total = total + scale * loss(own[present], part[rows[present]])
        return total / sum(weights or [len(losses)])

    return together


def _head_loss(head: Head, truth: Tensor, positive: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Mean loss of a head from its logits and truth; ``truth`` gives the weights of the classes."""
    if head.task == "classes":
        counts = torch.bincount(truth[:, 0].long(), minlength=head.outputs)
        weight = (len(truth) / (head.outputs * counts.clamp_min(1))).float()
        return lambda logits, wanted: nn.functional.cross_entropy(logits, wanted[:, 0].long(), weight)
    if head.task == "labels":
        weight = torch.tensor(positive)
        return lambda logits, wanted: nn.functional.binary_cross_entropy_with_logits(
            logits, wanted.float(), pos_weight=weight
        )
    return lambda logits, wanted: nn.functional.mse_loss(logits, wanted.float())


def _constant(head: Head, truth: Tensor) -> Tensor:
    """The logits (n, outputs) that fit ``truth`` best without looking at the tweets; all alike for weighted classes."""
    if head.task == "classes":
        return torch.zeros(len(truth), head.outputs)
    mean = truth.mean(0).float()
    return (torch.logit(mean, 1e-4) if head.task == "labels" else mean).expand(len(truth), -1)


def _batches(
    ids: Sequence[NDArray[np.int64]], size: int, order: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Random batches of tweets of like length."""
    shuffled = order.permutation(len(ids))
    batches = []
    for start in range(0, len(shuffled), size * _POOL):
        pool = sorted(shuffled[start : start + size * _POOL], key=lambda i: len(ids[i]))
        batches += [np.array(pool[i : i + size]) for i in range(0, len(pool), size)]
    return [batches[i] for i in order.permutation(len(batches))]


def _pad(rows: Sequence[NDArray[np.int64]]) -> Tensor:
    """int64 (n, longest), 0 after the last token; at least one column."""
    padded = np.zeros((len(rows), max(1, *(len(row) for row in rows))), np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)


# ---- zoo train ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainReport:
    """What a training gave: figures of the best epoch on ``dev``, fractions of one; files are relative to ``out``."""

    variant: str
    protocol: str
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    seed: int
    epoch: int
    scores: tuple[float, ...]
    result: str
    weights: str


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
    """Train a variant of the card on SemEval's train file, and score the best epoch on its dev file.

    Parameters
    ----------
    variant : zoo.card.Variant
    protocol : str
        Only ``final``: the official files fix what is held out.
    resume : bool
        A training that is finished in ``out`` is not made again.

    Raises
    ------
    DataError
        The data are not there, or ``protocol`` or ``folds`` ask for a cross-validation.
    """
    if protocol != "final" or folds is not None:
        raise DataError(f"{variant.name}: the official files fix the held-out tweets; use --protocol final")
    recipe = read_recipe(variant, Recipe)
    seed = recipe.seed if seed is None else seed
    recipe = msgspec.structs.replace(recipe, seed=seed, epochs=epochs or recipe.epochs)
    stem = f"{variant.name}.{recipe.start}.{seed}"
    command = command_of(variant, *((f"--epochs {epochs}",) if epochs is not None else ()), f"--seed {seed}")
    result, weights = out / f"{stem}.json", out / f"{stem}.safetensors"
    config = dict(variant.config)
    settled = msgspec.json.decode(msgspec.json.encode({"recipe": recipe, "config": config}))
    if resume and result.is_file() and weights.is_file():
        document = json.loads(result.read_text("utf-8"))
        if {key: document.get(key) for key in settled} == settled:
            return msgspec.convert(document["report"], TrainReport)
    torch.set_num_threads(threads)
    dataset = import_module(f"zoo.data.{variant.data.reader}").read(data, **variant.data.options)
    folder = Path(__file__).parent
    pipeline = Pipeline(variant.pipeline, files=folder)
    by = judge(variant.decode, variant.labels)
    parts = {group: _encode(dataset.only([group]), pipeline, by) for group in ("train", "dev")}
    torch.manual_seed(seed)
    net = build(config)
    shared = _read(folder / variant.weights.shared)
    net.load_state_dict({**net.state_dict(), **shared})
    if recipe.start != "random":
        start_from(net, {**_read(folder / "weights" / f"{recipe.source}.safetensors"), **shared})
    function = by.function(variant.metric)

    def score(truth: NDArray[Any], logits: NDArray[np.float32]) -> float:
        return function(truth, by.decide(scores_of(net, logits)))

    fitted = fit(net, parts["train"], parts["dev"], recipe, score, seed=seed, progress=progress)
    # Stored in half precision; what is scored is what is stored.
    own = {name: value.half() for name, value in fitted.state.items() if name not in shared}
    net.load_state_dict({**fitted.state, **own})
    dev = dataset.only(["dev"])
    found = dict(
        zip(
            (item.source for item in dev.items),
            scores_of(net, logits_of(net, parts["dev"].ids)),
            strict=True,
        )
    )
    scored = evaluate(
        found.__getitem__, dev, decode=variant.decode, labels=variant.labels, metric=variant.metric
    )
    report = TrainReport(
        variant=variant.name,
        protocol=f"train on train, best epoch on dev, seed {seed}",
        metrics=scored.metrics,
        intervals={variant.metric: scored.interval},
        seed=seed,
        epoch=fitted.epoch,
        scores=fitted.scores,
        result=result.name,
        weights=weights.name,
    )
    out.mkdir(parents=True, exist_ok=True)
    about = {"variant": variant.name, "start": recipe.start, "seed": seed, "epoch": fitted.epoch}
    tensors = {name: value.numpy() for name, value in own.items()}
    write_file(weights, save(tensors, metadata={"zoo": json.dumps(about)}))
    document = {
        "schema": 1,
        "report": msgspec.to_builtins(report),
        "losses": [round(loss, 5) for loss in fitted.losses],
        "command": command,
        **settled,
        "data": {"name": dataset.name, "sha256": dataset.fingerprint(), "train": len(parts["train"].ids)},
        "seconds": round(fitted.seconds, 1),
        "environment": {"isa": _native.isa(), "torch": str(torch.__version__), "machine": platform.machine()},
    }
    write_file(result, msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    return report


def scores_of(net: NtuaSlp, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network makes of logits (n, outputs): probabilities, or the values themselves, of all heads."""
    return np.concatenate([scores.numpy() for scores in net.scores(torch.from_numpy(logits))], axis=1)


def _encode(dataset: Dataset, pipeline: Pipeline, by: Judge) -> Encoded:
    return Encoded(tuple(pipeline.run(str(item.source)) for item in dataset.items), by.truth(dataset))


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise DataError(f"{path} is missing; train that model first")
    return {name: torch.from_numpy(value) for name, value in load_file(path).items()}
