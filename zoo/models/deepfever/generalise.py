# SPDX-License-Identifier: Apache-2.0
"""What the vectors are worth: pseudo-triplets of FERPlus's valid split, and CK+, a data set that no net has been trained on.

Of CK+ a linear probe and 5 nearest neighbours tell the class from frozen features, in 10 folds that keep a subject's faces
together (three nearly equal frames each: other folds would leak). Run::

    python -m zoo.models.deepfever.generalise --data DIR --weights DIR --out FILE.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import metrics
from zoo.bundle import write_file
from zoo.card import Card
from zoo.data import ckplus, ferplus
from zoo.models.deepfever import triplets
from zoo.models.deepfever.model import ExpressionNet, build
from zoo.models.neurogaze_distill.train import Jury, outputs
from zoo.models.training import rounded
from zoo.pipeline import Pipeline

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
FOLDS, NEIGHBOURS = 10, 5
#: Strength of the probe's penalty: that of scikit-learn's default, fixed before anything was scored.
PENALTY = 1.0
#: Triplets drawn of the valid split, and faces resampled for their interval.
DRAWN, RESAMPLES = 60000, 2000
#: What is compared: the student's vector, and what it is held against.
NETS = ("deepfever", "deepfever-teacher", "deepfever-plain")


def folds(groups: Sequence[str], count: int = FOLDS) -> I64:
    """The fold of each item: groups stay whole; the largest first, each to the fold that has the fewest items."""
    names, sizes = np.unique(np.asarray(groups), return_counts=True)
    load = np.zeros(count, np.int64)
    fold_of = {}
    for place in np.lexsort((names, -sizes)):
        fold_of[names[place]] = int(load.argmin())
        load[fold_of[names[place]]] += sizes[place]
    return np.array([fold_of[group] for group in groups], np.int64)


def linear_probe(train: F32, labels: I64, test: F32, classes: int) -> I64:
    """Classes (m,) of ``test`` (m, width): multinomial logistic regression on standardised features (n, width)."""
    mean, std = train.mean(axis=0), train.std(axis=0) + 1e-6
    x = torch.from_numpy((train - mean) / std).double()
    y = torch.from_numpy(labels)
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(x @ weight.T + bias, y, reduction="sum") + PENALTY / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    scores = torch.from_numpy((test - mean) / std).double() @ weight.T + bias
    return np.asarray(scores.argmax(dim=1).numpy())


def nearest(train: F32, labels: I64, test: F32, classes: int) -> I64:
    """Classes (m,) of ``test``: each of the 5 nearest by cosine votes with it."""
    unit = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (train, test)]
    cosines = unit[1] @ unit[0].T
    near = np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBOURS]
    # A vote is worth one and, to part ties, a little by its cosine.
    worth = 1 + 1e-3 * np.take_along_axis(cosines, near, axis=1)
    votes = np.zeros((len(test), classes))
    for column in range(near.shape[1]):
        np.add.at(votes, (np.arange(len(test)), labels[near[:, column]]), worth[:, column])
    return np.asarray(votes.argmax(axis=1))


def held_out(
    features: F32, labels: I64, fold: I64, decide: Callable[[F32, I64, F32, int], I64], classes: int
) -> I64:
    """The class of each item, by the features of the other folds."""
    found = np.empty(len(labels), np.int64)
    for number in range(int(fold.max()) + 1):
        test = fold == number
        found[test] = decide(features[~test], labels[~test], features[test], classes)
    return found


def triplet_figures(fec: F32, votes: F32) -> dict[str, Any]:
    """Pseudo-triplet accuracy of vectors (n, width) of faces with shares of votes (n, 8); interval: bootstrap over faces."""
    drawn = triplets.draw(len(votes), DRAWN, np.random.default_rng(0))
    chosen, types = triplets.choose(votes, drawn)
    right = triplets.correct(fec, chosen)
    rng = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(0, len(votes), len(votes)), minlength=len(votes))
        weights = times[chosen].prod(axis=1)
        values.append(float((weights * right).sum() / weights.sum()))
    low, high = np.quantile(values, (0.025, 0.975))
    return {
        "accuracy": float(right.mean()),
        "interval": [float(low), float(high)],
        "triplets": len(chosen),
        "by_classes": {
            str(kind): {"accuracy": float(right[types == kind].mean()), "n": int((types == kind).sum())}
            for kind in sorted(set(types.tolist()))
        },
    }


class _Opened(nn.Module):
    """All outputs, and the pooled features before the vector."""

    def __init__(self, net: ExpressionNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return *self.net(image), self.net.backbone.features(image)


def report(data: Path, weights: Mapping[str, Path]) -> dict[str, Any]:
    """All figures, of the weights files of :data:`NETS`.

    Raises
    ------
    DataError
        A data set is not there.
    """
    card = Card(Path(__file__).parent, None)
    pipeline = Pipeline(card.variant(NETS[0]).pipeline)
    jury = Jury(data)
    valid = ferplus.faces(data, "valid")
    named = valid.votes[:, : len(ferplus.LABELS)].sum(axis=1)
    clear = 2 * named > valid.votes.sum(axis=1)
    votes = ferplus.soft_targets(valid.votes[clear])
    ck = ckplus.read(data)
    faces = np.stack([np.asarray(item.source) for item in ck.items])
    labels = np.array([item.label for item in ck.items], np.int64)
    groups = [item.group for item in ck.items]
    fold = folds(groups)
    classes = len(ck.labels)

    features: dict[str, F32] = {}
    document: dict[str, Any] = {"schema": 1, "nets": {}}
    for name in NETS:
        net = build(card.variant(name).config)
        state = net.state_dict()
        state.update(
            {key: torch.from_numpy(value).float() for key, value in load_file(weights[name]).items()}
        )
        net.load_state_dict(state)
        net.eval()
        truth, found = jury.truth, jury.decide(net, pipeline)
        low, high = metrics.bootstrap_interval(metrics.accuracy, truth, found)
        document["nets"][name] = {
            "valid_accuracy": metrics.accuracy(truth, found),
            "valid_accuracy_interval": [low, high],
            "valid_macro_F1": metrics.macro_f1(truth, found),
            "pseudo_triplets": {
                space: triplet_figures(vectors, votes)
                for space, vectors in zip(
                    ("vector", "fec"), _vectors(net, pipeline, valid.images[clear]), strict=True
                )
            },
        }
        logits, _, vector, fec, pooled = outputs(_Opened(net), pipeline, faces)
        features |= {f"{name}: vector": vector, f"{name}: logits": logits, f"{name}: pooled": pooled}
        if name != NETS[2]:
            features[f"{name}: fec"] = fec
    torch.manual_seed(0)
    random = build(card.variant(NETS[0]).config).eval()
    _, _, vector, _, pooled = outputs(_Opened(random), pipeline, faces)
    features |= {"random: vector": vector, "random: pooled": pooled}

    ways = {"linear_probe": linear_probe, "5nn": nearest}
    found_by = {
        (name, way): held_out(rows, labels, fold, decide, classes)
        for name, rows in features.items()
        for way, decide in ways.items()
    }
    document["ckplus"] = {
        "n": len(labels),
        "subjects": len(set(groups)),
        "folds": f"{FOLDS}, subjects kept whole",
        "intervals": "95 %, bootstrap over subjects",
        "accuracy": {
            name: {way: _accuracy(labels, found_by[name, way], groups) for way in ways} for name in features
        },
        "vector_less_plain": {
            way: _difference(
                labels, found_by[f"{NETS[0]}: vector", way], found_by[f"{NETS[2]}: vector", way], groups
            )
            for way in ways
        },
    }
    return document


def _vectors(net: ExpressionNet, pipeline: Pipeline, images: NDArray[np.uint8]) -> tuple[F32, F32]:
    _, _, vector, fec = outputs(net, pipeline, images)
    return vector / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-12), fec


def _accuracy(truth: I64, found: I64, groups: Sequence[str]) -> dict[str, Any]:
    low, high = metrics.bootstrap_interval(metrics.accuracy, truth, found, groups=groups)
    return {"accuracy": metrics.accuracy(truth, found), "interval": [low, high]}


def _difference(truth: I64, found: I64, other: I64, groups: Sequence[str]) -> dict[str, Any]:
    """Points that ``found`` gains over ``other``."""
    points = [
        100 * value
        for value in metrics.paired_bootstrap(metrics.accuracy, truth, other, found, groups=groups)
    ]
    return {"points": points[0], "interval": points[1:]}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of FERPlus and CK+")
    parser.add_argument("--weights", type=Path, default=Path(__file__).parent / "weights")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "generalisation.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    document = report(given.data, {name: given.weights / f"{name}.safetensors" for name in NETS})
    document["command"] = "python -m zoo.models.deepfever.generalise --data DIR"
    write_file(given.out, msgspec.json.format(msgspec.json.encode(rounded(document)), indent=1) + b"\n")


if __name__ == "__main__":
    main()
