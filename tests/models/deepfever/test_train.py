# SPDX-License-Identifier: Apache-2.0
"""The trainer on faces that the test draws: what is withheld stays unseen, teacher and student learn, resuming is exact."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from zoo import registry
from zoo.data import ferplus
from zoo.errors import DataError, ZooError

torch = pytest.importorskip("torch", reason="torch is not installed")

from safetensors.numpy import load_file  # noqa: E402

from zoo.models.deepfever import train as trainer  # noqa: E402
from zoo.models.deepfever.model import build  # noqa: E402
from zoo.models.deepfever.train import Objective, Recipe, Teacher, Triplets, training_corpus  # noqa: E402
from zoo.models.neurogaze_distill import train as shared  # noqa: E402

VARIANT = registry.find("deepfever")[1]
CONFIG = {"base": 8, "blocks": [1, 1, 1, 1], "classes": 8}
RECIPE = {
    "epochs": 6, "batch": 24, "optimizer": "adamw", "lr": 5e-3, "sizes": [[0, 32]], "bfloat16": False,
    "augment": {"flip": False, "rotate_deg": 2.0}, "triplets": {},
}  # fmt: skip


def variant(**changed: object) -> object:
    return msgspec.structs.replace(VARIANT, training={**RECIPE, **changed}, config=CONFIG)


def faces(count: int, seed: int) -> ferplus.Faces:
    """A bright bar at a place of its own for each of three classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    images = rng.integers(60, 120, (count, 48, 48)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[6 + 14 * label : 12 + 14 * label] = 230
    votes = np.zeros((count, 10), np.uint8)
    votes[np.arange(count), labels] = 8
    votes[np.arange(count), (labels + 1) % 3] = 2
    return ferplus.Faces(images, votes, np.arange(count))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faces")
    (root / "ferplus_train").mkdir()
    columns = np.array(ferplus.COLUMNS)
    train, valid = faces(96, 0), faces(30, 1)
    sheet = np.zeros((1000, 48, 48), np.uint8)
    sheet[:96] = train.images
    tiles = sheet.reshape(25, 40, 48, 48)
    Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in tiles])).save(
        root / "ferplus_train" / "sheet_00.png"
    )
    np.savez(root / "ferplus_train" / "votes.npz", votes=train.votes, fer_index=train.index, columns=columns)
    np.savez(
        root / "ferplus_valid.npz",
        images=valid.images, votes=valid.votes, fer_index=valid.index, columns=columns,
    )  # fmt: skip
    return root


def recipe(**changed: object) -> Recipe:
    return Recipe(epochs=1, sizes=((0, 32),), bfloat16=False, **changed)


def test_withheld_votes_are_not_in_the_corpus_and_all_nets_know_the_same_faces() -> None:
    drawn = faces(40, 3)
    drawn.votes[5] = 0
    drawn.votes[5, 8] = 10  # "unknown": nothing to learn
    alone = training_corpus(drawn, recipe())
    with_teacher = training_corpus(drawn, recipe(teacher=Teacher(variant="x")))
    assert (len(alone.images), len(with_teacher.images), int(with_teacher.known.sum())) == (20, 39, 20)
    assert bool(alone.known.all())
    assert torch.equal(with_teacher.images[with_teacher.known], alone.images)
    assert float(with_teacher.targets[~with_teacher.known].abs().sum()) == 0
    assert torch.allclose(alone.targets.sum(dim=1), torch.ones(20))
    other = training_corpus(drawn, recipe(withheld_seed=9))
    assert not torch.equal(other.images, alone.images)
    with pytest.raises(DataError, match="2 faces with known votes are too few"):
        training_corpus(drawn, recipe(labelled=0.05))


def test_the_loss_is_its_parts_and_without_labels_the_teacher_alone() -> None:
    corpus = training_corpus(faces(24, 4), recipe(teacher=Teacher(variant="x")))
    torch.manual_seed(0)
    net, teacher = build(CONFIG).eval(), build(CONFIG).eval()
    image = torch.randn(24, 3, 32, 32)
    rows = torch.arange(24)

    def loss(chosen: Recipe, batch: torch.Tensor = rows) -> float:
        with torch.no_grad():
            return float(Objective(chosen, corpus, net, teacher)(image[batch], batch, 0.0))

    plain, triples = loss(recipe()), loss(recipe(triplets=Triplets()))
    taught = loss(recipe(teacher=Teacher(variant="x")))
    assert triples > plain
    assert loss(recipe(triplets=Triplets(weight=2.0))) - plain == pytest.approx(
        2 * (triples - plain), rel=1e-4
    )
    vector_only = loss(recipe(teacher=Teacher(variant="x", logits=0.0)))
    logits_only = loss(recipe(teacher=Teacher(variant="x", vector=0.0)))
    assert taught - plain == pytest.approx(vector_only + logits_only - 2 * plain, rel=1e-4)
    withheld = rows[~corpus.known]
    assert loss(recipe(triplets=Triplets()), withheld) == 0.0
    assert loss(recipe(teacher=Teacher(variant="x")), withheld) > 0
    # Its own teacher has nothing more to say.
    own = Objective(recipe(teacher=Teacher(variant="x")), corpus, net, net)
    assert float(own(image[withheld], withheld, 0.0).detach()) == pytest.approx(0.0, abs=1e-5)


def test_teacher_and_student_learn_and_resuming_gives_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="train no-such first"):
        trainer.train(variant(teacher={"variant": "no-such"}), data=data, out=tmp_path / "none")
    taught = trainer.train(variant(), data=data, out=tmp_path / "teacher")
    assert taught.metrics["WAR"] > 0.8
    weights = load_file(tmp_path / "teacher" / taught.weights)
    assert weights["fec.weight"].dtype == np.float16
    file = tmp_path / "teacher" / taught.weights
    monkeypatch.setattr(shared, "weights_file", lambda folder, name: file)
    monkeypatch.setattr(trainer, "weights_file", lambda folder, name: file)
    monkeypatch.setattr(
        trainer,
        "trained",
        lambda name, folder, build: shared.trained(name, folder, lambda config: build(CONFIG)),
    )
    student = variant(teacher={"variant": "deepfever-teacher"}, epochs=8)
    whole = trainer.train(student, data=data, out=tmp_path / "whole")
    assert whole.metrics["WAR"] > 0.8
    document = json.loads((tmp_path / "whole" / whole.result).read_text())
    assert document["data"]["trained_on"] == 96
    assert document["losses"][-1] < document["losses"][0]

    class Stop(Exception):
        pass

    def interrupt(stage: str, done: int, total: int) -> None:
        if "epoch 2" in stage and done == 2:
            raise Stop

    with pytest.raises(Stop):
        trainer.train(student, data=data, out=tmp_path / "parts", progress=interrupt)
    resumed = trainer.train(student, data=data, out=tmp_path / "parts")
    first, second = (load_file(tmp_path / name / resumed.weights) for name in ("whole", "parts"))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_what_cannot_be_trained_is_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="use --protocol final"):
        trainer.train(variant(), data=data, out=tmp_path, protocol="loso")
    with pytest.raises(ZooError, match="training table is not valid"):
        trainer.train(variant(prototypes={}), data=data, out=tmp_path)
    assert not list(tmp_path.iterdir())
