# SPDX-License-Identifier: Apache-2.0
"""Training of TIM-Net: fact sheet 10, section 3, and the finishing phase of the ``robust`` variant.

The last epoch counts: no test fold is looked at before its model is finished. One fold runs on one thread and
depends on nothing but the seed, the data and the instruction set, so ``threads`` (folds at once) changes no result.

The step itself (forward, backward) is ``train_step.cc``, compiled on first use with the system's C++ compiler;
without one the same step runs in PyTorch, several times slower.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import math
import os
import platform
import subprocess
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from zoo import _native
from zoo.crossval import Augment, Corpus, Progress, ProtocolName, Trained, TrainReport
from zoo.errors import DataError, ZooError
from zoo.models.tim_net.model import BatchNorm, TimNet, build
from zoo.models.training import Fold, cross_validate, settle, training_key

F32 = NDArray[np.float32]
Backend = Literal["auto", "native", "torch"]

_SOURCE = Path(__file__).with_name("train_step.cc")
_FLAGS = ("-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
#: The step is compiled for the instruction set that the kernels use (``zoo._native.isa()``), so that what a training
#: depends on has a name.
_ISA_FLAGS = {"avx512": ("-march=x86-64-v4",), "avx2": ("-march=x86-64-v3",)}
_CHECKPOINT_EVERY = 20  # epochs


class Finish(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A second, short phase on altered clips, with a rate that falls to zero on a half cosine.

    ``ema``: decay of the average of the weights that is kept as the model (0: none). ``mixup``: alpha of the Beta
    distribution (0: none). ``noise``: deviation of what is added to the features. ``prior``: this times the log of
    each label's share is taken off the final bias, so that rare labels are named as often as they occur in UAR.
    """

    epochs: int
    lr: float = 1e-3
    weight_decay: float = 0.0
    ema: float = 0.0
    mixup: float = 0.0
    noise: float = 0.0
    prior: float = 0.0
    augment: Augment | None = None


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``training`` table of a card. Defaults are the sheet's, which knows no ``finish``."""

    epochs: int = 500
    batch: int = 64
    lr: float = 1e-3
    beta1: float = 0.93
    beta2: float = 0.98
    eps: float = 1e-8
    label_smoothing: float = 0.1
    seed: int = 46
    folds: int = 10
    fold_seed: int | None = None
    finish: Finish | None = None


# ---- parameters as one vector ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """Order of the parameters and running statistics in the flat vectors (that of ``train_step.cc``)."""

    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    running: tuple[tuple[str, tuple[int, ...]], ...]

    @staticmethod
    def of(net: TimNet) -> Layout:
        """The layout of a network: inputs, then per block and direction conv, norm, conv, norm, then the head."""
        names = [f"{side}_in.{kind}" for side in ("forward", "backward") for kind in ("weight", "bias")]
        running: list[str] = []
        for j in range(len(net.forward_blocks)):
            for side in ("forward", "backward"):
                for layer in ("1", "2"):
                    stem = f"{side}_blocks.{j}."
                    names += [
                        f"{stem}{kind}{layer}.{name}"
                        for kind in ("conv", "bn")
                        for name in ("weight", "bias")
                    ]
                    running += [f"{stem}bn{layer}.running_mean", f"{stem}bn{layer}.running_var"]
        names += ["fusion", "dense.weight", "dense.bias"]
        state = net.state_dict()
        return Layout(
            tuple((name, tuple(state[name].shape)) for name in names),
            tuple((name, tuple(state[name].shape)) for name in running),
        )

    def flatten(self, net: TimNet) -> tuple[F32, F32]:
        """Copies of a network's parameters and running statistics."""
        state = net.state_dict()
        return (
            np.concatenate([state[name].detach().numpy().ravel() for name, _ in self.parameters]).astype(
                np.float32
            ),
            np.concatenate([state[name].numpy().ravel() for name, _ in self.running]).astype(np.float32),
        )

    def state(self, parameters: F32, running: F32) -> dict[str, F32]:
        """The state dict of flat vectors (copies)."""
        out: dict[str, F32] = {}
        for vector, entries in ((parameters, self.parameters), (running, self.running)):
            at = 0
            for name, shape in entries:
                size = math.prod(shape)
                out[name] = vector[at : at + size].reshape(shape).copy()
                at += size
            if at != vector.size:
                raise ZooError(
                    f"tim_net: a flat vector of {vector.size} numbers does not fit the layout of {at}"
                )
        return out


class Step(Protocol):
    """Loss and gradient of one batch; updates the running statistics."""

    def __call__(self, params: F32, running: F32, grad: F32, x: F32, target: F32, mask: F32) -> float:
        """Features x (B, T, F), target (B, C), mask (4 * blocks, B, F) in the order block, direction, layer."""
        ...


class TorchStep:
    """The step in plain PyTorch: the oracle of ``NativeStep``, and the way without a compiler."""

    name = "torch"

    def __init__(self, config: Mapping[str, object], layout: Layout, frames: int) -> None:
        del frames
        net = build(config)
        assert isinstance(net, TimNet)
        self.net = net.train()
        self.layout = layout
        self.drops: list[_Mask] = []
        for forward_block, backward_block in zip(net.forward_blocks, net.backward_blocks, strict=True):
            for block in (forward_block, backward_block):
                for name in ("drop1", "drop2"):
                    self.drops.append(_Mask())
                    setattr(block, name, self.drops[-1])

    def __call__(self, params: F32, running: F32, grad: F32, x: F32, target: F32, mask: F32) -> float:
        """See ``Step``."""
        state = self.layout.state(params, running)
        self.net.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        for drop, factors in zip(self.drops, mask, strict=True):
            drop.factors = torch.from_numpy(factors)[:, :, None]
        self.net.zero_grad()
        logits, _ = self.net(torch.from_numpy(x))
        loss = -(torch.from_numpy(target) * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        by_name = dict(self.net.named_parameters())
        parts = []
        for name, _ in self.layout.parameters:
            gradient = by_name[name].grad
            assert gradient is not None
            # a bias in front of a batch normalisation has no gradient but rounding: keep it where it is
            before_norm = "conv" in name and name.endswith("bias")
            parts.append(torch.zeros_like(gradient).numpy() if before_norm else gradient.numpy())
        np.concatenate([part.ravel() for part in parts], out=grad)
        running[:] = self.layout.flatten(self.net)[1]
        return float(loss.detach())


class _Mask(nn.Module):
    factors: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factors


class NativeStep:
    """The step in C++ (``train_step.cc``): at most 64 clips of 39 channels, kernel 2."""

    name = "native"

    def __init__(self, config: Mapping[str, object], layout: Layout, frames: int) -> None:
        library = native_library()
        if library is None:
            raise ZooError("tim_net: the training step could not be compiled; use the torch backend")
        net = build(config)
        assert isinstance(net, TimNet)
        self.classes, self.blocks = net.dense.out_features, len(net.forward_blocks)
        total = sum(math.prod(shape) for _, shape in layout.parameters)
        if net.filters != 39 or library.timnet_parameters(self.blocks, self.classes) != total:
            raise ZooError(
                "tim_net: the compiled training step is for 39 filters and kernel 2; use the torch backend"
            )
        self.library, self.frames = library, frames
        self.handle = library.timnet_create(frames, self.blocks, self.classes)
        if not self.handle:
            raise ZooError(
                f"tim_net: no training step for {frames} frames, {self.blocks} blocks, {self.classes} classes"
            )

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.library.timnet_destroy(self.handle)
            self.handle = None

    def __call__(self, params: F32, running: F32, grad: F32, x: F32, target: F32, mask: F32) -> float:
        """See ``Step``."""
        batch = len(x)
        for name, array, shape in (
            ("features", x, (batch, self.frames, 39)),
            ("targets", target, (batch, self.classes)),
            ("masks", mask, (4 * self.blocks, batch, 39)),
        ):
            if array.shape != shape or array.dtype != np.float32 or not array.flags.c_contiguous:
                raise ZooError(f"tim_net: {name} must be float32 {shape}, found {array.dtype} {array.shape}")
        logits = np.empty((batch, self.classes), np.float32)
        loss = self.library.timnet_step(
            self.handle,
            *(array.ctypes.data for array in (params, running, grad, x, target, mask)),
            batch,
            BatchNorm(1).eps,
            1.0 - BatchNorm(1).momentum,
            logits.ctypes.data,
        )
        if loss < 0:
            raise ZooError(f"tim_net: the training step takes 1 to 64 clips, found {batch}")
        return float(loss)


@functools.cache
def native_library() -> Any:
    """The compiled ``train_step.cc``, or None where it cannot be compiled. Kept in the user's cache folder."""
    compiler = os.environ.get("CXX", "c++")
    flags = (*_FLAGS, *_ISA_FLAGS.get(_native.isa(), ()))
    text = _SOURCE.read_bytes() + " ".join((compiler, *flags, platform.machine())).encode()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "affect-zoo"
    target = cache / f"tim_net-train-{hashlib.sha256(text).hexdigest()[:16]}.so"
    try:
        if not target.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                built = Path(folder) / "step.so"
                subprocess.run(
                    [compiler, *flags, "-o", str(built), str(_SOURCE)],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                built.replace(target)
        library = ctypes.CDLL(str(target))
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        warnings.warn(
            f"tim_net: {_SOURCE.name} was not compiled, training uses PyTorch: {detail[:400]}", stacklevel=2
        )
        return None
    pointer = ctypes.c_void_p
    library.timnet_create.restype = pointer
    library.timnet_create.argtypes = [ctypes.c_int] * 3
    library.timnet_destroy.restype = None
    library.timnet_destroy.argtypes = [pointer]
    library.timnet_step.restype = ctypes.c_float
    library.timnet_step.argtypes = [pointer] * 7 + [ctypes.c_int, ctypes.c_float, ctypes.c_float, pointer]
    return library


def make_step(
    config: Mapping[str, object], layout: Layout, frames: int, backend: Backend
) -> NativeStep | TorchStep:
    """The fastest step that this machine and network allow, or the one asked for."""
    small = config.get("filters", 39) == 39 and config.get("kernel", 2) == 2
    if backend == "native" or (backend == "auto" and small and native_library() is not None):
        return NativeStep(config, layout, frames)
    return TorchStep(config, layout, frames)


# ---- training one model ------------------------------------------------------------------------------------------


@dataclass
class State:
    """All that a checkpoint holds."""

    params: F32
    running: F32
    first: F32
    second: F32
    mean_params: F32
    mean_running: F32
    epoch: int
    updates: int
    wall_s: float
    losses: list[float]
    rng: np.random.Generator

    def save(self, path: Path, key: str) -> None:
        """Write atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez(
                file,
                params=self.params,
                running=self.running,
                first=self.first,
                second=self.second,
                mean_params=self.mean_params,
                mean_running=self.mean_running,
                numbers=np.array([self.epoch, self.updates]),
                wall_s=np.array(self.wall_s),
                losses=np.array(self.losses),
                rng=np.array(json.dumps(self.rng.bit_generator.state)),
                key=np.array(key),
            )
        temporary.replace(path)

    @staticmethod
    def load(path: Path, key: str) -> State:
        """Read a checkpoint.

        Raises
        ------
        DataError
            The file is damaged or belongs to a training with other settings or data.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                entries = {name: file[name] for name in file.files}
            found = str(entries["key"])
            rng = np.random.default_rng()
            rng.bit_generator.state = json.loads(str(entries["rng"]))
            state = State(
                **{
                    name: np.ascontiguousarray(entries[name], np.float32)
                    for name in ("params", "running", "first", "second", "mean_params", "mean_running")
                },
                epoch=int(entries["numbers"][0]),
                updates=int(entries["numbers"][1]),
                wall_s=float(entries["wall_s"]),
                losses=[float(value) for value in entries["losses"]],
                rng=rng,
            )
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} is no checkpoint of this training ({error}); delete it or start anew"
            ) from error
        if found != key:
            raise DataError(
                f"{path} is a checkpoint of another training; delete it or start anew (--restart)"
            )
        return state


def train_model(
    config: Mapping[str, object],
    recipe: Recipe,
    corpus: Corpus,
    rows: NDArray[np.int64],
    *,
    name: str,
    seed: int,
    checkpoints: tuple[tuple[Path, str], tuple[Path, str]],
    backend: Backend,
    resume: bool,
    progress: Progress | None,
) -> tuple[dict[str, F32], State]:
    """Train on ``rows`` of the corpus for all epochs of the recipe.

    ``checkpoints`` holds file and key for the plain phase and for the finishing one. The plain phase is the same
    with and without a finish, so a variant with one goes on from the other variant's checkpoint if it is there.

    Returns
    -------
    state dict : dict of float32 arrays
        Ready for ``TimNet.load_state_dict``.
    state : State
        As in the checkpoint.
    """
    with torch.random.fork_rng(devices=[]):
        net = build(config)
    assert isinstance(net, TimNet)
    net.reset_parameters(torch.Generator().manual_seed(seed))
    layout = Layout.of(net)
    total = recipe.epochs + (recipe.finish.epochs if recipe.finish else 0)
    (plain, plain_key), (finished, finished_key) = checkpoints
    if resume and recipe.finish and finished.is_file():
        state = State.load(finished, finished_key)
    elif resume and plain.is_file():
        state = State.load(plain, plain_key)
    else:
        params, running = layout.flatten(net)
        zeros = np.zeros_like(params)
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        state = State(params, running, zeros, zeros.copy(), params.copy(), running.copy(), 0, 0, 0.0, [], rng)
    epoch = _Epoch(config, recipe, corpus, rows, layout, backend)
    while state.epoch < total:
        started = time.perf_counter()
        finish = recipe.finish if state.epoch >= recipe.epochs else None
        if finish and state.epoch == recipe.epochs:
            state.rng = np.random.default_rng([seed, zlib.crc32(name.encode()), 1])
            state.mean_params, state.mean_running = state.params.copy(), state.running.copy()
        epoch(state, finish, name)
        state.epoch += 1
        state.wall_s += time.perf_counter() - started
        if state.epoch % _CHECKPOINT_EVERY == 0 or state.epoch in (recipe.epochs, total):
            state.save(*((finished, finished_key) if finish else (plain, plain_key)))
        if progress:
            progress(f"fold {name}", state.epoch, total)
    averaged = recipe.finish is not None and recipe.finish.ema > 0
    weights = layout.state(
        *((state.mean_params, state.mean_running) if averaged else (state.params, state.running))
    )
    if recipe.finish and recipe.finish.prior:
        counts = np.bincount(corpus.labels[rows], minlength=int(str(config["classes"])))
        shift = recipe.finish.prior * np.log(np.maximum(counts, 1) / counts.sum())
        weights["dense.bias"] -= shift.astype(np.float32)
    return weights, state


class _Epoch:
    """One pass over the training rows."""

    def __init__(
        self,
        config: Mapping[str, object],
        recipe: Recipe,
        corpus: Corpus,
        rows: NDArray[np.int64],
        layout: Layout,
        backend: Backend,
    ) -> None:
        classes = int(str(config["classes"]))
        self.recipe, self.corpus, self.rows = recipe, corpus, rows
        self.dropout = float(str(config.get("dropout", 0.1)))
        self.masks = len(layout.running) // 2  # one for each normalisation
        self.step = make_step(config, layout, corpus.features.shape[2], backend)
        self.decay = np.concatenate(
            [np.full(math.prod(shape), float(len(shape) > 1), np.float32) for _, shape in layout.parameters]
        )
        self.grad, self.scratch = np.zeros_like(self.decay), np.zeros_like(self.decay)
        onehot = np.eye(classes, dtype=np.float32)[corpus.labels]
        self.target = onehot * (1 - recipe.label_smoothing) + np.float32(recipe.label_smoothing / classes)
        self.batches = -(-len(rows) // recipe.batch)

    def __call__(self, state: State, finish: Finish | None, name: str) -> None:
        recipe, rng = self.recipe, state.rng
        order = rng.permutation(len(self.rows))
        copies = rng.integers(0, len(self.corpus.features) if finish else 1, len(self.rows))
        total = 0.0
        for begin in range(0, len(self.rows), recipe.batch):
            picked = order[begin : begin + recipe.batch]
            items = self.rows[picked]
            x, target = self.corpus.features[copies[picked], items], self.target[items]
            if finish:
                x, target = _perturb(finish, x, target, rng)
            mask = (rng.random((self.masks, len(items), x.shape[2]), np.float32) >= self.dropout).astype(
                np.float32
            )
            mask /= np.float32(1 - self.dropout)
            loss = self.step(state.params, state.running, self.grad, x, target, mask)
            if not math.isfinite(loss):
                raise ZooError(f"tim_net: the loss of fold {name} is not finite in epoch {state.epoch + 1}")
            total += loss * len(items)
            self._update(state, finish)
        state.losses.append(total / len(self.rows))

    def _update(self, state: State, finish: Finish | None) -> None:
        """Adam as Keras writes it: the bias correction is in the rate, eps is added to the plain square root."""
        recipe, scratch = self.recipe, self.scratch
        state.updates += 1
        since = state.updates - recipe.epochs * self.batches
        rate = recipe.lr
        if finish:
            rate = finish.lr * 0.5 * (1 + math.cos(math.pi * since / (finish.epochs * self.batches)))
        rate *= math.sqrt(1 - recipe.beta2**state.updates) / (1 - recipe.beta1**state.updates)
        if finish and finish.weight_decay:
            state.params -= np.float32(rate * finish.weight_decay) * self.decay * state.params
        state.first += (self.grad - state.first) * np.float32(1 - recipe.beta1)
        np.multiply(self.grad, self.grad, out=scratch)
        state.second += (scratch - state.second) * np.float32(1 - recipe.beta2)
        np.sqrt(state.second, out=scratch)
        scratch += np.float32(recipe.eps)
        np.divide(state.first, scratch, out=scratch)
        scratch *= np.float32(rate)
        state.params -= scratch
        if finish and finish.ema:
            fresh = np.float32(1 - min(finish.ema, since / (since + 10)))
            state.mean_params += (state.params - state.mean_params) * fresh
            state.mean_running += (state.running - state.mean_running) * fresh


def _perturb(finish: Finish, x: F32, target: F32, rng: np.random.Generator) -> tuple[F32, F32]:
    """Noise on the features, and clips mixed in pairs."""
    if finish.noise:
        x = x + rng.standard_normal(x.shape, np.float32) * np.float32(finish.noise)
    if finish.mixup:
        share = np.float32(rng.beta(finish.mixup, finish.mixup))
        other = rng.permutation(len(x))
        x = share * x + (1 - share) * x[other]
        target = share * target + (1 - share) * target[other]
    return np.ascontiguousarray(x), np.ascontiguousarray(target)


def probabilities(config: Mapping[str, object], weights: Mapping[str, F32], features: F32) -> F32:
    """Class probabilities (n, C) of features (n, T, F) with the reference network in inference mode."""
    net = build(config).eval()
    net.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    parts = []
    with torch.inference_mode():
        for begin in range(0, len(features), 64):
            parts.append(net(torch.from_numpy(features[begin : begin + 64]))[1].numpy())
    return np.concatenate(parts)


# ---- protocols ---------------------------------------------------------------------------------------------------


def checkpoint_keys(
    variant: Any, recipe: Recipe, protocol: ProtocolName, seed: int, fingerprint: str
) -> tuple[str, str]:
    """Of the plain phase, which does not depend on the finishing one, and of the whole training."""
    plain, whole = (
        training_key(variant, phase, protocol, seed, fingerprint)
        for phase in (msgspec.structs.replace(recipe, finish=None), recipe)
    )
    return plain, whole


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
    backend: Backend = "auto",
    exclude: Sequence[str] = (),
) -> TrainReport:
    """Train a variant of TIM-Net and write weights, predictions and figures into ``out``.

    Parameters
    ----------
    variant : zoo.card.Variant
        Its ``config``, ``training``, ``pipeline``, ``labels`` and ``data`` are used.
    data : Path
        Folder of the data set.
    out : Path
        Gets ``<variant>.<protocol>.json`` (figures), ``<variant>.<protocol>.predictions.json``,
        ``<variant>.safetensors`` (final), ``<variant>.loso.safetensors`` (loso) and ``checkpoints/``.
    protocol : {"final", "kfold", "loso"}
        One model on all items; random folds; each group (speaker) left out once.
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
    backend : {"auto", "native", "torch"}
        Which training step; see the module's text.
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
        plain, whole = checkpoint_keys(variant, recipe, protocol, fold.seed, fold.corpus.fingerprint)
        weights, state = train_model(
            variant.config,
            recipe,
            fold.corpus,
            fold.rows,
            name=fold.name,
            seed=fold.seed,
            checkpoints=((fold.checkpoint(plain, ".npz"), plain), (fold.checkpoint(whole, ".npz"), whole)),
            backend=backend,
            resume=resume,
            progress=progress,
        )
        probs = np.zeros((0, len(variant.labels)), np.float32)
        if len(fold.test):
            probs = probabilities(variant.config, weights, fold.corpus.features[0][fold.test])
        return Trained(weights, state.losses, state.wall_s, probs)

    return cross_validate(
        variant,
        recipe,
        train_fold,
        data=data,
        out=out,
        protocol=protocol,
        command=command,
        seed=seed,
        epochs=recipe.epochs + (recipe.finish.epochs if recipe.finish else 0),
        augment=recipe.finish.augment if recipe.finish else None,
        n_folds=recipe.folds,
        fold_seed=recipe.seed if recipe.fold_seed is None else recipe.fold_seed,
        environment=lambda: environment(variant.config, backend),
        only=folds,
        exclude=exclude,
        threads=threads,
        progress=progress,
    )


def environment(config: Mapping[str, object], backend: Backend) -> dict[str, object]:
    """What the figures depend on beside what every report names."""
    net = build(config)
    assert isinstance(net, TimNet)
    step = make_step(config, Layout.of(net), 1, backend)
    lanes = native_library().timnet_lanes() if step.name == "native" else None
    return {"step": step.name, "step_float_lanes": lanes}
