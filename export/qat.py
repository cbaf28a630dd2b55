# SPDX-License-Identifier: Apache-2.0
"""``zoo train --qat``: a short fine-tune of a finished model for INT8, where calibration alone loses too much.

The student is the reference with the Q/DQ pairs of its INT8 graph (:mod:`zoo.export.fake_quant`), the teacher the
same weights in float32; labels are not used. Weights and activation ranges are learned. Every fold model of the card
is tuned on the groups that it was trained on, so that the accuracy gate scores the tuned recipe on unheard items.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor
from torch.nn import functional as F

from zoo import _native, metrics, registry
from zoo.bundle import write_output
from zoo.data import Dataset, Item, open_dataset
from zoo.errors import DataError, ZooError
from zoo.export import calibrate, gate, quantize
from zoo.export.exporter import DEFAULT_BUDGET, DEFAULT_CALIBRATION, Exporter
from zoo.export.fake_quant import FakeQuantized
from zoo.export.graph import Graph
from zoo.export.inputs import Features, Progress
from zoo.export.recipe import Recipe
from zoo.export.session import Session
from zoo.export.targets import find_target
from zoo.export.weights import Tuned
from zoo.models.training import one_thread
from zoo.specs import Curve, Decode, Embedding, Heads, Regression, Sigmoid, Softmax, read_outputs

if TYPE_CHECKING:
    from zoo.card import Card, Variant
    from zoo.export.weights import Tensors

_FORMAT = 1
_DIGEST = hashlib.sha256().digest_size
#: The student must compute what the INT8 graph computes: median difference over this many inputs, as a share of the
#: output's range. Single activations may round the other way, which the median does not see.
_CHECKED = 8
_CLOSE = 1e-3
_TINY = 1e-7


@dataclass(frozen=True)
class Options:
    """Adam, with rates that fall to zero on a half cosine. ``limit_lr`` is that of the logarithms of the ranges."""

    epochs: int = 8
    batch: int = 32
    lr: float = 3e-4
    limit_lr: float = 5e-2
    seed: int = 0


@dataclass(frozen=True)
class ModelResult:
    """One tuned model: its distillation loss over the training items with calibrated ranges, and after."""

    without: str | None
    """The group that it has not seen; None: the model on all items."""
    items: int
    before: float
    after: float
    difference: float
    """From the exported INT8 graph in onnxruntime: median over inputs, as a share of the output's range."""


@dataclass(frozen=True)
class QatReport:
    """What the fine-tune gave. ``metrics`` are of the headline metric over held-out items, all layers in INT8: float32,
    calibrated only, and tuned; ``gain`` is tuned minus calibrated with its 95 % interval (paired bootstrap). All three
    are empty where the card has no fold models.
    """

    variant: str
    weights: str
    metrics: dict[str, float]
    gain: tuple[float, ...]
    n: int
    models: tuple[ModelResult, ...]
    seconds: float


def train_qat(
    name: str,
    *,
    data: Path,
    out: Path,
    weights: Path | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    calibration: str = DEFAULT_CALIBRATION,
    resume: bool = True,
    progress: Progress | None = None,
) -> QatReport:
    """Fine-tune a variant for INT8.

    Parameters
    ----------
    name : str
        A variant with trained weights and a data set.
    data : Path
        Folder of the variant's data set.
    out : Path
        Folder. Gets ``NAME.qat.safetensors`` (for ``zoo export --weights``), ``NAME.qat.json`` and ``checkpoints/``.
    weights : Path or None
        Other weights to start from; the card's fold models do not belong to them, so no accuracy is measured.
    epochs, seed : int or None
        None: 8 epochs, seed 0.
    calibration : str
        How the ranges that the fine-tune starts from follow from the recorded activations.
    resume : bool
        Go on from the checkpoints in ``out``; the result is the same, bit for bit, as without a break.

    Raises
    ------
    UnknownModel
        No such variant.
    DataError
        The data set or the weights are missing or do not fit, or a checkpoint is damaged.
    ZooError
        The weights are random, a layer cannot be tuned, the loss is not finite, or ``out`` cannot be written.
    """
    start = time.monotonic()
    card, variant = registry.find(name)
    dataset = open_dataset(card, variant.data, data)
    usual = Options()
    options = Options(
        epochs=usual.epochs if epochs is None else epochs, seed=usual.seed if seed is None else seed
    )
    method = calibrate.check_method(calibration)
    made = Exporter(card, variant, find_target("cpu-x86"), weights, dataset, method, DEFAULT_BUDGET, progress)
    if made.weights.status == "random":
        raise ZooError(
            f"{name}: the weights are random, so there is nothing to keep; train it first, or give --weights FILE"
        )
    recipe = made.recipe("int8", learned=True)
    teachers = made.folds() if made.weights.own else {}
    models: list[tuple[str | None, Tensors]] = [(None, made.weights.tensors)]
    if not variant.held_out:
        models += teachers.items()
    folder = out / "checkpoints"
    tuned: dict[str | None, Tuned] = {}
    results = []
    for group, teacher in models:
        tuner = Tuner(card, recipe, teacher, dataset, group, options)
        checkpoint = folder / f"{variant.name}.qat.{tuner.key[:16]}.ckpt"
        if not resume:
            checkpoint.unlink(missing_ok=True)
        tuned[group], result = tuner.run(checkpoint, progress)
        results.append(result)
    figures, gain, n = _score(card, recipe, dataset, teachers, tuned, progress)
    path = out / f"{variant.name}.qat.safetensors"
    source = f"fine-tuned for int8 ({options.epochs} epochs, seed {options.seed}) from: {made.weights.source}"
    write_output(path, _weights_file(variant, source, tuned))
    report = QatReport(
        variant=variant.name,
        weights=path.name,
        metrics=figures,
        gain=gain,
        n=n,
        models=tuple(results),
        seconds=time.monotonic() - start,
    )
    document = {
        "schema": 1,
        **asdict(report),
        "options": asdict(options),
        "calibration": method,
        "data": {"name": dataset.name, "sha256": dataset.fingerprint()},
        "from": made.weights.sha256,
        "environment": {"isa": _native.isa(), "machine": platform.machine(), "torch": str(torch.__version__)},
    }
    text = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
    write_output(out / f"{variant.name}.qat.json", text)
    return report


class Tuner:
    """One model's fine-tune: teacher, student, training items.

    Parameters
    ----------
    recipe : Recipe
        Of the INT8 cell whose graph the student computes.
    group : str or None
        The group of the data set that is neither trained nor calibrated on, as are those that the variant holds out.
    """

    def __init__(
        self,
        card: Card,
        recipe: Recipe,
        teacher: Tensors,
        dataset: Dataset,
        group: str | None,
        options: Options,
    ) -> None:
        self._card, self._recipe, self._options = card, recipe, options
        self._teacher, self._graph = teacher, recipe.trace.finish(teacher)
        self._group = group
        without = recipe.variant.held_out if group is None else (group,)
        self._items: tuple[Item, ...] = tuple(item for item in dataset.items if item.group not in without)
        self._limits = recipe.limits(self._graph, calibrate.choose(dataset, without=without))
        ids = tuple(item.id for item in self._items)
        parts = (
            _FORMAT,
            self._graph.sha256,
            self._limits,
            ids,
            dataset.fingerprint(ids),
            recipe.preprocessor.description,
            asdict(options),
            _native.isa(),
            platform.machine(),
            str(torch.__version__),
        )
        self.key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def run(self, checkpoint: Path, progress: Progress | None = None) -> tuple[Tuned, ModelResult]:
        """Train to the end, from the checkpoint if it is there; it is written after every epoch.

        Raises
        ------
        DataError
            The checkpoint is damaged or of another training.
        ZooError
            The loss is not finite, or the student does not compute the INT8 graph.
        """
        with one_thread(), torch.inference_mode(False), torch.enable_grad():
            return self._run(checkpoint, progress)

    def _run(self, checkpoint: Path, progress: Progress | None) -> tuple[Tuned, ModelResult]:
        stage = "tuning on all items" if self._group is None else f"tuning without {self._group}"
        options, variant, decode = (
            self._options,
            self._recipe.variant,
            self._card.decode(self._recipe.variant),
        )
        net = FakeQuantized(
            self._card, variant, self._teacher, self._graph, self._limits, self._features([0])[0]
        )
        self._check(net, self._graph, self._limits)
        targets = [
            self._forward(net, part, quantized=False) for part in self._batches(range(len(self._items)))
        ]
        wanted = {name: torch.cat([each[name] for each in targets]) for name in targets[0]}
        weights, ranges = net.parameters(), net.log_limits
        for value in ranges.values():
            value.requires_grad_()
        groups = [
            {"params": list(weights.values()), "lr": options.lr},
            {"params": list(ranges.values()), "lr": options.limit_lr},
        ]
        adam = torch.optim.Adam(groups, foreach=False)
        state = _State({**weights, **{f"int8/{name}": value for name, value in ranges.items()}}, adam)
        before = self._loss(net, wanted)
        done = state.load(checkpoint, self.key)
        steps = len(self._batches(range(len(self._items))))
        for epoch in range(done, options.epochs):
            if progress:
                progress(stage, epoch, options.epochs)
            order = np.random.default_rng([options.seed, epoch]).permutation(len(self._items))
            for step, part in enumerate(self._batches(order)):
                share = (epoch + step / steps) / options.epochs
                for group, rate in zip(adam.param_groups, (options.lr, options.limit_lr), strict=True):
                    group["lr"] = rate * (1 + math.cos(math.pi * share)) / 2
                adam.zero_grad()
                loss = distillation(decode, self._forward(net, part), _rows(wanted, part))
                if not math.isfinite(loss.item()):
                    raise ZooError(f"{variant.name}: {stage}: the loss is not finite in epoch {epoch + 1}")
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
            state.save(checkpoint, self.key, epoch + 1)
        if progress:
            progress(stage, options.epochs, options.epochs)
        tensors = dict(self._teacher)
        tensors.update({name: value.detach().numpy().copy() for name, value in weights.items()})
        tuned = Tuned(tensors, net.limits())
        difference = self._check(net, self._recipe.trace.finish(tensors), tuned.limits)
        result = ModelResult(self._group, len(self._items), before, self._loss(net, wanted), difference)
        return tuned, result

    def _features(self, part: Sequence[int]) -> list[Features]:
        return [self._recipe.preprocessor.item(self._items[i]) for i in part]

    def _batches(self, order: Sequence[int] | np.ndarray) -> list[list[int]]:
        """Items in this order, as many at once as the graph takes, all of one shape."""
        most = min(self._options.batch, self._graph.profile.get("batch", (1, 1, 1))[2])
        parts: list[list[int]] = []
        shape: object = None
        for i in (int(i) for i in order):
            found = [array.shape for array in self._features([i])[0]]
            if found != shape or len(parts[-1]) == most:
                parts.append([])
                shape = found
            parts[-1].append(i)
        return parts

    def _forward(
        self, net: FakeQuantized, part: Sequence[int], *, quantized: bool = True
    ) -> dict[str, Tensor]:
        """The outputs that are decoded."""
        columns = zip(*self._features(part), strict=True)
        inputs = [torch.from_numpy(np.stack(arrays)) for arrays in columns]
        with torch.set_grad_enabled(quantized):
            outputs = net.forward(inputs, quantized=quantized)
        return {name: outputs[name] for name in read_outputs(self._card.decode(self._recipe.variant))}

    def _loss(self, net: FakeQuantized, wanted: Mapping[str, Tensor]) -> float:
        total = 0.0
        with torch.no_grad():
            for part in self._batches(range(len(self._items))):
                loss = distillation(
                    self._card.decode(self._recipe.variant), self._forward(net, part), _rows(wanted, part)
                )
                total += loss.item() * len(part)
        return total / len(self._items)

    def _check(self, net: FakeQuantized, graph: Graph, limits: Mapping[str, float]) -> float:
        """How far the student is from the INT8 graph; ZooError where it computes something else."""
        session = Session(quantize.quantize(graph.model, limits), optimize=False)
        part = list(range(min(_CHECKED, len(self._items))))
        expected = [session.run(features) for features in self._features(part)]
        found = [self._forward(net, [i]) for i in part]
        difference = 0.0
        for output in found[0]:
            wanted = np.stack([each[output][0] for each in expected])
            given = np.stack([each[output].detach().numpy()[0] for each in found])
            span = max(float(np.ptp(wanted)), _TINY)
            errors = np.abs(given - wanted).reshape(len(part), -1).max(1) / span
            difference = max(difference, float(np.median(errors)))
        if not difference <= _CLOSE:
            raise ZooError(
                f"{self._recipe.variant.name}: the model to tune differs from its INT8 graph by {difference:.1e} of "
                f"the output's range (at most {_CLOSE:.0e}); it cannot be tuned as it is written"
            )
        return difference


def _rows(outputs: Mapping[str, Tensor], part: Sequence[int]) -> dict[str, Tensor]:
    return {name: values[part] for name, values in outputs.items()}


def distillation(decode: Decode, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Mean loss of a batch of engine outputs against the teacher's; zero where they are equal.

    Heads: the sum of theirs. Softmax: Kullback-Leibler divergence. Sigmoid: that of every label's two outcomes. Regression: squared error in
    units of the range. Embedding and curve: one minus cosine, plus squared error relative to the teacher's power.
    """
    if isinstance(decode, Heads):
        losses = [_distillation(head.decode, student, teacher) for head in decode.heads]
        return torch.stack(losses).sum()
    return _distillation(decode, student, teacher)


def _distillation(
    decode: Softmax | Sigmoid | Regression | Embedding | Curve,
    outputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
) -> Tensor:
    student, teacher = outputs[decode.output], targets[decode.output]
    if isinstance(decode, Softmax):
        # The floor is float32's own: a higher one would leave confident mistakes without a gradient.
        rows = _divergence(student, teacher, torch.finfo(torch.float32).tiny).flatten(1).sum(1)
    elif isinstance(decode, Sigmoid):
        rows = _divergence(student, teacher, _TINY) + _divergence(1 - student, 1 - teacher, _TINY)
        rows = rows.flatten(1).mean(1)
    elif isinstance(decode, Regression):
        low, high = decode.range
        rows = ((student - teacher) / (high - low)).square().flatten(1).mean(1)
    else:
        power = teacher.flatten(1).square().mean(1).clamp_min(_TINY)
        rows = 1 - F.cosine_similarity(student.flatten(1), teacher.flatten(1))
        rows = rows + (student - teacher).flatten(1).square().mean(1) / power
    return rows.mean()


def _divergence(student: Tensor, teacher: Tensor, floor: float) -> Tensor:
    return teacher * (teacher.clamp_min(floor).log() - student.clamp_min(floor).log())


class _State:
    """All that a checkpoint holds: what is learned, and Adam's averages."""

    def __init__(self, learned: Mapping[str, Tensor], adam: torch.optim.Adam) -> None:
        self._learned, self._adam = learned, adam

    def save(self, path: Path, key: str, epochs: int) -> None:
        """SHA-256 of the payload, then the payload (safetensors); written atomically."""
        about = json.dumps({"key": key, "epochs": epochs}).encode()
        arrays = {"about": np.frombuffer(about, np.uint8)}
        for name, value in self._learned.items():
            arrays[f"value/{name}"] = value.detach().numpy()
            for kind, average in self._adam.state[value].items():
                arrays[f"{kind}/{name}"] = average.numpy()
        payload = save(arrays)
        write_output(path, hashlib.sha256(payload).digest() + payload)

    def load(self, path: Path, key: str) -> int:
        """Epochs done; 0 where there is no checkpoint.

        Raises
        ------
        DataError
            It is damaged or of another training.
        """
        if not path.exists():
            return 0
        try:
            content = path.read_bytes()
            payload = content[_DIGEST:]
            if hashlib.sha256(payload).digest() != content[:_DIGEST]:
                raise ValueError("its content does not fit its hash")
            arrays = load(payload)
            about = json.loads(arrays["about"].tobytes())
            if about["key"] != key:
                raise ValueError("it is of another training")
            with torch.no_grad():
                for name, value in self._learned.items():
                    value.copy_(torch.from_numpy(arrays[f"value/{name}"]))
                    self._adam.state[value] = {
                        kind: torch.from_numpy(arrays[f"{kind}/{name}"].copy())
                        for kind in ("step", "exp_avg", "exp_avg_sq")
                        if f"{kind}/{name}" in arrays
                    }
            return int(about["epochs"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{path}: not a usable checkpoint: {error}; delete it, or use --restart"
            ) from error


def _score(
    card: Card,
    recipe: Recipe,
    dataset: Dataset,
    teachers: Mapping[str, Tensors],
    tuned: Mapping[str | None, Tuned],
    progress: Progress | None,
) -> tuple[dict[str, float], tuple[float, ...], int]:
    """Held-out figures with all layers in INT8, calibrated and tuned; empty where there is nothing to score."""
    if not teachers:
        return {}, (), 0
    held_out: dict[str, Tuned] = {group: one for group, one in tuned.items() if group is not None}
    held_out = held_out or dict.fromkeys(teachers, tuned[None])
    calibrated = gate.Scorer(card, recipe, dataset, teachers, progress=progress)
    made = gate.Scorer(card, recipe, dataset, teachers, tuned=held_out, progress=progress)
    found = {
        "fp32": calibrated.reference,
        "int8 calibrated": calibrated.found(recipe, ()),
        "int8 tuned": made.found(recipe, ()),
    }
    metric, truth = calibrated.metric, calibrated.truth
    gain = metrics.paired_bootstrap(metric, truth, found["int8 calibrated"], found["int8 tuned"])
    names = {name: f"{recipe.variant.metric} {name}" for name in found}
    return {names[name]: float(metric(truth, labels)) for name, labels in found.items()}, gain, len(truth)


def _weights_file(variant: Variant, source: str, tuned: Mapping[str | None, Tuned]) -> bytes:
    arrays = {}
    for group, one in tuned.items():
        start = "" if group is None else f"fold/{group}/"
        arrays.update({f"{start}{name}": np.ascontiguousarray(value) for name, value in one.tensors.items()})
        arrays.update(
            {f"{start}int8/{name}": np.array(value, np.float32) for name, value in one.limits.items()}
        )
    about = {"variant": variant.name, "status": "trained", "source": source, "qat": True}
    return save({name: arrays[name] for name in sorted(arrays)}, {"zoo": json.dumps(about)})
