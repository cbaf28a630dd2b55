# SPDX-License-Identifier: Apache-2.0
"""What ``zoo train`` of the model folders shares on the side of PyTorch and the command; folds and reports are
:mod:`zoo.crossval`.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from zoo import _native
from zoo.bundle import write_file
from zoo.crossval import (
    Augment,
    Corpus,
    Progress,
    ProtocolName,
    Trained,
    TrainReport,
    check_protocol,
    read_corpus,
    read_recipe,
    run_folds,
    splits,
    write_report,
)
from zoo.errors import DataError
from zoo.settings import command_of

F32 = NDArray[np.float32]
R = TypeVar("R", bound=msgspec.Struct)

#: PyTorch initialises networks from one generator of the process; folds that train at once would draw from it in turns.
_GLOBAL_GENERATOR = Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: more only get in each other's way on single small inputs, and folds run side by side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fresh(
    build: Callable[[Mapping[str, object]], nn.Module], config: Mapping[str, object], seed: int
) -> nn.Module:
    """A network as ``seed`` initialises it, whatever other threads build meanwhile; no other draw is disturbed."""
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(config)


def settle(
    variant: Any,
    kind: type[R],
    options: Sequence[str],
    *,
    epochs: int | None,
    seed: int | None,
    folds: Sequence[str] | None = None,
) -> tuple[R, int, str]:
    """The recipe with the caller's epochs, the seed, and the ``zoo train`` command that gives just that.

    Parameters
    ----------
    variant : zoo.card.Variant
    kind : type
        The recipe's struct; it has ``epochs`` and ``seed``.
    options : sequence of str
        Further options of the command.
    epochs, seed : int or None
        None: the card's.

    Raises
    ------
    ZooError
        The variant's training table does not fit ``kind``.
    """
    recipe: Any = read_recipe(variant, kind)
    options = list(options)
    if epochs is not None and epochs != recipe.epochs:
        recipe = msgspec.structs.replace(recipe, epochs=epochs)
        options.append(f"--epochs {epochs}")
    if seed is not None and seed != recipe.seed:
        options.append(f"--seed {seed}")
    if folds is not None:
        options.append(f"--folds {','.join(folds)}")
    return recipe, recipe.seed if seed is None else seed, command_of(variant, *options)


def training_key(
    variant: Any, recipe: msgspec.Struct, protocol: ProtocolName, seed: int, fingerprint: str
) -> str:
    """SHA-256 over all that a training depends on but the fold: what its checkpoints are found by."""
    what = [recipe, dict(variant.config), variant.pipeline, protocol, seed, fingerprint]
    return hashlib.sha256(msgspec.json.encode(what, order="sorted")).hexdigest()


@dataclass(frozen=True)
class Fold:
    """One model to train: on ``rows`` of the corpus, scored on the rows ``test``. ``name`` holds the protocol too."""

    name: str
    corpus: Corpus
    rows: NDArray[np.int64]
    test: NDArray[np.int64]
    seed: int
    folder: Path

    def checkpoint(self, key: str, suffix: str) -> Path:
        """Where what depends on ``key`` is kept."""
        return self.folder / f"{self.name.replace('/', '.')}.{key[:12]}{suffix}"


def cross_validate(
    variant: Any,
    recipe: msgspec.Struct,
    train_fold: Callable[[Fold], Trained],
    *,
    data: Path,
    out: Path,
    protocol: ProtocolName,
    command: str,
    seed: int,
    epochs: int,
    augment: Augment | None,
    n_folds: int,
    fold_seed: int,
    environment: Callable[[], Mapping[str, object]],
    only: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    threads: int = 1,
    progress: Progress | None = None,
) -> TrainReport:
    """Read the corpus, train each fold of the protocol on one thread, ``threads`` folds at once, and report.

    Parameters
    ----------
    train_fold : callable
        Trains one fold; called from several threads.
    epochs : int
        Of all phases together, for the report.
    n_folds, fold_seed : int
        Of the protocol ``kfold``.
    environment : callable
        What the figures may depend on beside what every report names; called after the training.
    only, exclude : sequence of str
        These folds only; groups left out altogether.

    Raises
    ------
    DataError
        The data set is not as expected, a protocol or fold does not exist, or a checkpoint is damaged.
    """
    check_protocol(variant, protocol)
    corpus = read_corpus(variant, data, augment=augment, seed=seed, exclude=exclude, progress=progress)
    held_out = splits(protocol, corpus, folds=n_folds, seed=fold_seed)

    def run(name: str, rows: NDArray[np.int64], test: NDArray[np.int64]) -> Trained:
        return train_fold(Fold(f"{protocol}/{name}", corpus, rows, test, seed, out / "checkpoints"))

    with one_thread():
        trained = run_folds(variant.name, corpus, held_out, run, only=only, threads=threads)
    return write_report(
        variant,
        corpus,
        protocol,
        held_out,
        trained,
        out,
        seed=seed,
        epochs=epochs,
        recipe=recipe,
        command=command,
        environment={
            **environment(),
            "isa": _native.isa(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": str(torch.__version__),
        },
    )


def save_checkpoint(path: Path, key: str, content: Mapping[str, Any]) -> None:
    """Write what a training goes on from, as a whole or not at all; it is found again by ``key``."""
    buffer = io.BytesIO()
    torch.save({**content, "key": key}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, buffer.getvalue())


def load_checkpoint(path: Path, key: str, take: Callable[[dict[str, Any]], None]) -> None:
    """Read a checkpoint and let ``take`` go on from its content; nothing in it is executed.

    Raises
    ------
    DataError
        The file is damaged or belongs to a training with other settings or data.
    """
    try:
        content = torch.load(path, weights_only=True)
        if content["key"] != key:
            raise DataError(
                f"{path} is a checkpoint of another training; delete it or start anew (--restart)"
            )
        take(content)
    except (
        OSError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise DataError(
            f"{path} is no checkpoint of this training ({error}); delete it or start anew"
        ) from error


def state_of(net: nn.Module) -> dict[str, F32]:
    """The weights of a network, for ``load_state_dict``; counters of batches are left out."""
    return {
        key: np.ascontiguousarray(value.detach().numpy())
        for key, value in net.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def rounded(value: Any) -> Any:
    """A document for JSON with its floats cut to five digits."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(float(value), 5) if isinstance(value, float) and math.isfinite(value) else value
