# SPDX-License-Identifier: Apache-2.0
"""Small networks of kinds that the registry may lack, trained for a comparison: ``benchmarks/stand_ins`` as a registry folder.

They are real networks with real weights on real data, so that what INT8 costs them is real; they are no models of the zoo.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from zoo.card import Card, Variant
from zoo.data import Dataset, open_dataset
from zoo.export.inputs import Preprocessor

STAND_INS = Path(__file__).resolve().parent.parent / "stand_ins"

Progress = Callable[[str, int, int], None]
Tensors = dict[str, NDArray[Any]]


def prepare(out: Path, data: Path | None, progress: Progress, source: Path = STAND_INS) -> Path:
    """Copy the stand-ins to ``out`` and train them, about a minute each, but for those that are there already.

    Returns
    -------
    Path
        ``out``, a folder for ``ZOO_MODELS``.

    Raises
    ------
    DataError
        The data set of a card is not at hand.
    """
    for folder in sorted(path.parent for path in source.glob("*/card.toml")):
        copy = out / folder.name
        if (copy / "trained").exists():
            continue
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        card = Card(copy, None)
        (variant,) = card.file.variants
        dataset = open_dataset(card, variant.data, data)
        for name, item in zip(card.file.golden, dataset.items, strict=False):
            (copy / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(item.source, copy / name)
        _train_all(card, variant, dataset, copy, progress)
        (copy / "trained").touch()
    return out


def _train_all(card: Card, variant: Variant, dataset: Dataset, folder: Path, progress: Progress) -> None:
    """The card's weights from all items, and one fold for each group from the others."""
    assert variant.weights.file is not None
    assert variant.folds is not None
    preprocessor = Preprocessor(card, variant)
    x = np.stack([preprocessor.item(item)[0] for item in dataset.items])
    order = [variant.labels.index(label) for label in dataset.labels]
    y = np.array([order[item.label] for item in dataset.items])
    group = np.array([item.group for item in dataset.items])
    names = sorted(set(group.tolist()))
    folds: Tensors = {}
    for done, name in enumerate(names):
        progress(f"training {variant.name}", done, len(names) + 1)
        made = train(card, variant, x[group != name], y[group != name])
        folds.update({f"fold/{name}/{key}": value for key, value in made.items()})
    progress(f"training {variant.name}", len(names), len(names) + 1)
    for file, tensors in ((variant.weights.file, train(card, variant, x, y)), (variant.folds.file, folds)):
        (folder / file).parent.mkdir(exist_ok=True)
        save_file(tensors, folder / file)


def train(card: Card, variant: Variant, x: NDArray[Any], y: NDArray[Any]) -> Tensors:
    """AdamW with a cosine schedule on features [items, time, coefficients] and labels; the settings are the card's."""
    plan = variant.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan["seed"])
        net = card.build(variant.config).train()
        optimizer = torch.optim.AdamW(net.parameters(), plan["lr"], weight_decay=plan["weight_decay"])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan["epochs"])
        features, labels = torch.from_numpy(x), torch.from_numpy(y)
        for _ in range(plan["epochs"]):
            for rows in torch.randperm(len(labels)).split(plan["batch"]):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(net(features[rows])[0], labels[rows]).backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
            schedule.step()
    state = net.state_dict()
    return {
        name: np.array(state[name].numpy()) for name in sorted(state) if not name.endswith("batches_tracked")
    }
