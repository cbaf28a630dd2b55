# SPDX-License-Identifier: Apache-2.0
"""Training of the fusion nets on sound, fact sheet 5, section 4, but for one thing: no film that is scored is looked at.

The source stops each fold early by the very film that it then scores. Here another film of the training set decides: of the films
in order of name the one after the held-out one (for the final model: the last one). Features are scaled by each film's own
extremes, as everywhere in this model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import registry
from zoo.bundle import write_file
from zoo.curves import judged
from zoo.data.films import Annotated, moments_of, read_films
from zoo.errors import DataError, ZooError
from zoo.media import open_sound
from zoo.metrics import finite
from zoo.models.movie_affect.model import BINS, HEADS, STEPS, build
from zoo.models.training import settle
from zoo.pipeline import MinMax, Op, Pipeline
from zoo.specs import Curve, Smooth

Progress = Callable[[str, int, int], None]
#: Logits are divided by it before cross-entropy.
TEMPERATURE = 2.0


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``training`` table of a card: plain SGD until the watched film's loss has not fallen for ``patience`` epochs."""

    epochs: int = 200
    patience: int = 25
    batch: int = 128
    lr: float = 0.001
    weight_decay: float = 0.001
    seed: int = 1


@dataclass(frozen=True)
class Trained:
    """What training made. ``metrics``: means over the scored films of ``<head>/<figure>``; empty for the final model."""

    metrics: dict[str, float]
    films: dict[str, dict[str, float]] = field(default_factory=dict)
    validation: dict[str, str] = field(default_factory=dict)


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
) -> Trained:
    """Train on the films below ``data`` (see :mod:`zoo.data.films`).

    Parameters
    ----------
    protocol : str
        ``final``: one model, the last film decides when to stop. ``loso``: leave one film out, for each one a model that
        another film stopped.
    folds : sequence of str or None
        loso: only these held-out films.
    resume : bool
        Keep the folds that ``out`` holds already, where films and settings were the same.

    Returns
    -------
    Trained
        Also written to ``out``: ``weights.safetensors`` (final) or ``<film>.safetensors`` and ``results.json`` (loso).

    Raises
    ------
    DataError
        Films are missing or not readable, or fewer than three.
    ZooError
        Another protocol, or a net with pictures: only sound is trained here.
    """
    if protocol not in ("final", "loso"):
        raise ZooError(
            f"{variant.name}: films are left out one by one (--protocol loso) or not at all (final)"
        )
    if tuple(variant.config["modalities"]) != ("audio",):
        raise ZooError(f"{variant.name}: only nets of sound are trained here")
    recipe, seed, command = settle(
        variant, Recipe, [f"--protocol {protocol}"], epochs=epochs, seed=seed, folds=folds
    )
    recipe = msgspec.structs.replace(recipe, seed=seed)
    films = read_films(data)
    names = [film.name for film in films]
    if len(films) < 3:
        raise DataError(
            f"{variant.name}: {len(films)} films below {data}; one to score, one to stop by and one to learn from are needed"
        )
    unknown = sorted(set(folds or ()) - set(names))
    if unknown:
        raise DataError(f"{variant.name}: no film is called {unknown[0]}; there are {', '.join(names)}")
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    steps = [_steps(variant.pipeline, film) for film in _told(films, "features", progress)]
    table = {name: (x, y) for name, (x, y, _) in zip(names, steps, strict=True)}
    key = hashlib.sha256(
        msgspec.json.encode([recipe, variant.config, [digest for _, _, digest in steps]], order="sorted")
    ).hexdigest()
    if protocol == "final":
        weights = _fit(variant.config, recipe, {n: table[n] for n in names[:-1]}, table[names[-1]], progress)
        _write(out / "weights.safetensors", weights, variant.name, key, {})
        return Trained({}, validation={"final": names[-1]})
    results: dict[str, dict[str, float]] = {}
    validation = {name: names[(i + 1) % len(names)] for i, name in enumerate(names)}
    for name in folds or names:
        path = out / f"{name}.safetensors"
        kept = _kept(path, key) if resume else None
        if kept is None:
            learn = {n: table[n] for n in names if n not in (name, validation[name])}
            weights = _fit(variant.config, recipe, learn, table[validation[name]], progress)
            kept = _score(variant, weights, table[name])
            _write(path, weights, variant.name, key, kept)
        results[name] = kept
    figures = {
        figure: float(np.mean([one[figure] for one in results.values()]))
        for figure in next(iter(results.values()))
    }
    trained = Trained(figures, results, {name: validation[name] for name in results})
    about = {
        "metrics": finite(figures),
        "films": {name: finite(one) for name, one in results.items()},
        "validation": trained.validation,
        "recipe": msgspec.to_builtins(recipe),
        "command": command,
    }
    write_file(out / "results.json", (json.dumps(about, indent=1, sort_keys=True) + "\n").encode())
    return trained


def _steps(ops: Sequence[Op], film: Annotated) -> tuple[NDArray[np.float32], NDArray[np.int64], str]:
    """Scaled features (n, values) of the film's steps, their bins (n, heads), and a hash of both."""
    assert isinstance(ops[-1], MinMax)
    sound = open_sound(film.path)
    stream = Pipeline(ops[:-1]).stream(sound.rate)
    rows = np.concatenate([*(stream.push(block) for block in sound.blocks()), stream.finish()])
    true = film.bins(moments_of(0, len(rows)), count=BINS)
    bins = np.stack([true[head] for head in HEADS], axis=1)
    scaled: NDArray[np.float32] = Pipeline([ops[-1]], shape=(-1, rows.shape[1])).run(rows)[: len(bins)]
    return scaled, bins, hashlib.sha256(scaled.tobytes() + bins.tobytes()).hexdigest()


def _fit(
    config: Mapping[str, Any],
    recipe: Recipe,
    learn: Mapping[str, tuple[NDArray[np.float32], NDArray[np.int64]]],
    watch: tuple[NDArray[np.float32], NDArray[np.int64]],
    progress: Progress | None,
) -> dict[str, NDArray[np.float32]]:
    """The weights with the least loss on the film that is watched, plain SGD."""
    torch.manual_seed(recipe.seed)
    net = build(config)
    order = torch.Generator().manual_seed(recipe.seed)
    optimiser = torch.optim.SGD(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    parts = [_windows(config, *pair) for pair in learn.values()]
    x, y = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    watched = _windows(config, *watch)
    best, least, since = net.state_dict(), float("inf"), 0
    for epoch in range(recipe.epochs):
        if progress:
            progress("training", epoch, recipe.epochs)
        net.train()
        shuffled = torch.randperm(len(x), generator=order)
        for start in range(0, len(x), recipe.batch):
            rows = shuffled[start : start + recipe.batch]
            optimiser.zero_grad()
            _loss(net, x[rows], y[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        net.eval()
        with torch.no_grad():
            loss = float(_loss(net, *watched))
        since += 1
        if loss < least:
            best, least, since = {k: v.clone() for k, v in net.state_dict().items()}, loss, 0
        if since >= recipe.patience:
            break
    return {name: value.numpy() for name, value in best.items()}


def _windows(
    config: Mapping[str, Any], x: NDArray[np.float32], y: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """What one item of a batch is: a step, or for the LSTM the five that it sees, none from another film."""
    length = STEPS if config["net"] == "lstm" else 1
    before = np.concatenate((x[:1].repeat(length - 1, axis=0), x))
    windows = np.lib.stride_tricks.sliding_window_view(before, length, axis=0).transpose(0, 2, 1)
    return torch.from_numpy(windows.copy()), torch.from_numpy(y)


def _loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    logits = net(x)
    losses = [F.cross_entropy(one[:, -1] / TEMPERATURE, y[:, i]) for i, one in enumerate(logits)]
    return torch.stack(losses).sum()


def _score(
    variant: Any,
    weights: Mapping[str, NDArray[np.float32]],
    film: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> dict[str, float]:
    net = build(variant.config).eval()
    net.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    with torch.no_grad():
        logits = net(torch.from_numpy(film[0])[None])
    found: dict[str, float] = {}
    for i, head in enumerate(HEADS):
        figures = judged(
            film[1][:, i], logits[i][0].argmax(1).numpy(), count=BINS, smooth=_smooth(variant, head)
        )
        found |= {f"{head}/{figure}": value for figure, value in figures.items()}
    return found


def _smooth(variant: Any, head: str) -> Smooth | None:
    """How the variant smooths a head's curve; its card's way where it has none of its own."""
    card, _ = registry.find(variant.name)
    for one in getattr(card.decode(variant), "heads", ()):
        if one.name == head and isinstance(one.decode, Curve):
            return one.decode.smooth
    return None


def _write(
    path: Path,
    weights: Mapping[str, NDArray[np.float32]],
    variant: str,
    key: str,
    results: Mapping[str, float],
) -> None:
    about = {"status": "trained", "source": "trained here on annotated films", "variant": variant, "key": key}
    about["results"] = json.dumps(finite(results))
    ordered = {name: np.ascontiguousarray(weights[name]) for name in sorted(weights)}
    write_file(path, save(ordered, {"zoo": json.dumps(about)}))


def _kept(path: Path, key: str) -> dict[str, float] | None:
    """Results of a fold that is there already and was made in the same way."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get("zoo", "{}"))
    except (SafetensorError, OSError, ValueError):
        return None
    results = json.loads(about.get("results", "{}"))
    found = {name: float("nan") if value is None else float(value) for name, value in results.items()}
    return found if about.get("key") == key else None


def _told(films: Sequence[Annotated], stage: str, progress: Progress | None) -> Iterable[Annotated]:
    for i, film in enumerate(films):
        if progress:
            progress(stage, i, len(films))
        yield film
