# SPDX-License-Identifier: Apache-2.0
"""The trainer on faces that the test draws: it learns, resumes to the same weights, and trains what the pipeline gives."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from zoo.data import ckplus, ferplus
from zoo.errors import DataError, ZooError
from zoo.pipeline import Pipeline

torch = pytest.importorskip("torch", reason="torch is not installed")

from safetensors.numpy import load_file  # noqa: E402

from zoo import registry  # noqa: E402
from zoo.models.neurogaze_distill import ablation  # noqa: E402
from zoo.models.neurogaze_distill import train as trainer  # noqa: E402
from zoo.models.neurogaze_distill.model import Student, build  # noqa: E402
from zoo.models.neurogaze_distill.train import Augment, Recipe, rate, training_corpus, views  # noqa: E402

STILL = Augment(flip=False, rotate_deg=0, scale=(1, 1), shift=0, brightness=0, contrast=0)
VARIANT = registry.find("neurogaze-distill-small")[1]
RECIPE = {
    "epochs": 8, "batch": 16, "lr": 0.05, "sizes": [[0, 32], [1, 48]], "seed": 1, "bfloat16": False,
    "augment": {"flip": False, "rotate_deg": 3.0, "shift": 0.02, "erase": 0.2},
}  # fmt: skip


class Tiny(Student):
    """Pixels of 8 x 8 and a linear layer: learns the drawn faces in a second; features are not as wide as prototypes."""

    def __init__(self, config: object) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)
        self._head(192, 8, 0.0)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(self.norm(image), 8).flatten(1)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "build", Tiny)


def variant(**changed: object) -> object:
    return msgspec.structs.replace(VARIANT, training={**RECIPE, **changed})


def drawn(label: int, rng: np.random.Generator) -> np.ndarray:
    """A bright bar at a place of its own for each class, on noise."""
    face = rng.integers(60, 120, (48, 48)).astype(np.uint8)
    place = 4 + 5 * label
    if label % 2:
        face[place : place + 4] = 220
    else:
        face[:, place : place + 4] = 220
    return face


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    (root / "ferplus_train").mkdir()
    sheets = np.zeros((1000, 48, 48), np.uint8)
    labels = rng.integers(0, 3, 96)
    sheets[:96] = [drawn(int(label), rng) for label in labels]
    tiles = sheets.reshape(25, 40, 48, 48)
    Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in tiles])).save(
        root / "ferplus_train" / "sheet_00.png"
    )

    def votes(labels: np.ndarray) -> np.ndarray:
        table = np.zeros((len(labels), 10), np.uint8)
        table[np.arange(len(labels)), labels] = 8
        table[np.arange(len(labels)), (labels + 1) % 3] = 2
        return table

    columns = np.array(ferplus.COLUMNS)
    np.savez(
        root / "ferplus_train" / "votes.npz", votes=votes(labels), fer_index=np.arange(96), columns=columns
    )
    valid = rng.integers(0, 3, 24)
    np.savez(
        root / "ferplus_valid.npz",
        images=np.stack([drawn(int(label), rng) for label in valid]),
        votes=votes(valid),
        fer_index=np.arange(24),
        columns=columns,
    )
    return root


def test_a_still_view_is_the_face_and_a_flip_its_mirror() -> None:
    rng = np.random.default_rng(1)
    faces = torch.from_numpy(rng.integers(0, 256, (4, 1, 48, 48), np.uint8))
    assert float((views(faces, 48, STILL, rng) - faces).abs().max()) < 1e-3
    mirrored = views(faces, 48, msgspec.structs.replace(STILL, flip=True), np.random.default_rng(3))
    for face, found in zip(faces.float(), mirrored, strict=True):
        assert min(float((found - other).abs().max()) for other in (face, face.flip(2))) < 1e-3
    assert any(
        float((found - face).abs().max()) > 1 for face, found in zip(faces.float(), mirrored, strict=True)
    )


def test_a_view_turns_about_the_middle() -> None:
    """A quarter turn of 90 degrees, an exact move of pixels."""

    class Fixed(np.random.Generator):
        def uniform(self, low=0.0, high=1.0, size=None):  # type: ignore[no-untyped-def,override]
            return np.full(size, high)

    faces = torch.arange(2 * 36, dtype=torch.uint8).reshape(2, 1, 6, 6)
    turned = views(faces, 6, msgspec.structs.replace(STILL, rotate_deg=90.0), Fixed(np.random.PCG64(0)))
    assert any(float((turned - faces.rot90(k, (2, 3)).float()).abs().max()) < 1e-2 for k in (1, -1))


def test_views_are_random_but_follow_the_generator_and_stay_pixels() -> None:
    faces = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (8, 1, 48, 48), np.uint8))
    strong = Augment(rotate_deg=20, scale=(0.8, 1.2), shift=0.1, brightness=0.5, contrast=0.5, erase=1.0)
    first, again, other = (views(faces, 40, strong, np.random.default_rng(seed)) for seed in (2, 2, 3))
    assert first.shape == (8, 1, 40, 40)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 255


def test_what_is_trained_on_is_what_the_pipeline_gives() -> None:
    faces = np.random.default_rng(4).integers(0, 256, (3, 48, 48), np.uint8)
    pipeline = Pipeline(VARIANT.pipeline)
    grey = views(torch.from_numpy(faces[:, None]), 48, STILL, np.random.default_rng(0))
    found = trainer.normalized(grey, VARIANT.pipeline[-1]).numpy()
    expected = np.stack([pipeline.run(face) for face in faces])
    assert np.abs(found - expected).max() < 1e-4


def test_the_rate_is_one_cycle() -> None:
    recipe = Recipe(epochs=1, sizes=((0, 48),), lr=0.1, warmup=0.2)
    rates = [rate(step, 100, recipe) for step in range(100)]
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) in (19, 20)
    assert rates[0] == pytest.approx(0.1 / 20)
    assert rates[60] == pytest.approx(0.05)
    assert rates[-1] < 1e-4


def test_votes_of_faces_that_are_mostly_unknown_are_left_out() -> None:
    votes = np.zeros((3, 10), np.uint8)
    votes[0, :3] = (5, 4, 1)
    votes[1, [1, 8]] = (3, 7)
    votes[2, [2, 9]] = (8, 2)
    faces = ferplus.Faces(np.zeros((3, 48, 48), np.uint8), votes, np.arange(3))
    soft = training_corpus(faces, Recipe(epochs=1, sizes=((0, 48),)))
    assert soft.targets[:, :3].tolist() == [[pytest.approx(5 / 9), pytest.approx(4 / 9), 0], [0, 0, 1]]
    assert soft.labels.tolist() == [0, 2]
    hard = training_corpus(faces, Recipe(epochs=1, sizes=((0, 48),), targets="majority"))
    assert hard.targets.argmax(dim=1).tolist() == [0, 2]


def test_training_learns_writes_and_goes_on_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    whole = trainer.train(variant(), data=data, out=tmp_path / "whole")
    assert whole.metrics["WAR"] > 0.8
    weights = load_file(tmp_path / "whole" / whole.weights)
    assert weights["fc.weight"].dtype == np.float16
    document = json.loads((tmp_path / "whole" / whole.result).read_text())
    assert len(document["losses"]) == len(document["scores"]) == 8
    assert document["losses"][-1] < document["losses"][0]
    assert max(document["scores"]) == pytest.approx(
        document["scores"][int(document["selection"].split()[1]) - 1]
    )

    class Stop(Exception):
        pass

    def interrupt(stage: str, done: int, total: int) -> None:
        if "epoch 3" in stage and done == 2:
            raise Stop

    with pytest.raises(Stop):
        trainer.train(variant(), data=data, out=tmp_path / "parts", progress=interrupt)
    resumed = trainer.train(variant(), data=data, out=tmp_path / "parts")
    other = load_file(tmp_path / "parts" / resumed.weights)
    assert all(np.array_equal(weights[name], other[name]) for name in weights)
    # Nothing left to do: the same report, from the checkpoint.
    again = trainer.train(variant(), data=data, out=tmp_path / "parts")
    assert again.metrics == whole.metrics
    (checkpoint,) = (tmp_path / "parts" / "checkpoints").glob("*.pt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(DataError, match="is no checkpoint of this training"):
        trainer.train(variant(), data=data, out=tmp_path / "parts")


def test_all_four_parts_of_the_loss_train(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distilled from a net of the folder, with the shipped prototypes and the late schedule."""
    trainer.train(variant(epochs=1), data=data, out=tmp_path / "teacher")
    file = tmp_path / "teacher" / "neurogaze-distill-small.safetensors"
    with pytest.raises(DataError, match="train neurogaze-distill-small first"):
        trainer.weights_file(tmp_path, "neurogaze-distill-small")
    monkeypatch.setattr(trainer, "weights_file", lambda folder, name: file)
    parts = {
        "kd": {"teacher": "neurogaze-distill-small"},
        "proto": {},
        "geo": {"start": 0.0, "end": 1.0},
    }
    found = {}
    still = {"kd": {**parts["kd"], "sees": "face"}}
    for name, chosen in {"ce": {}, "kd": {"kd": parts["kd"]}, "still": still, "full": parts}.items():
        report = trainer.train(variant(epochs=2, **chosen), data=data, out=tmp_path / name)
        found[name] = json.loads((tmp_path / name / report.result).read_text())["losses"]
    assert found["ce"][0] < found["kd"][0] < found["full"][0]  # each part adds to the loss
    assert found["ce"][0] < found["still"][0]
    assert len(set(map(tuple, found.values()))) == 4


def test_a_teacher_reads_faces_once_at_its_own_size(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.train(variant(epochs=1), data=data, out=tmp_path)
    file = tmp_path / "neurogaze-distill-small.safetensors"
    monkeypatch.setattr(trainer, "weights_file", lambda folder, name: file)
    net, folder = trainer.loaded(Tiny({}), file), Path(trainer.__file__).parent
    images = training_corpus(ferplus.faces(data, "train"), Recipe(epochs=1, sizes=((0, 48),))).images
    given = (net, "neurogaze-distill-small", folder, images, False, tmp_path / "out")
    first = trainer.lesson(*given)
    faces = images[:, 0].numpy()
    np.testing.assert_array_equal(first, trainer.taught(net, Pipeline(VARIANT.pipeline), faces))
    monkeypatch.setattr(trainer, "taught", lambda *_, **__: pytest.fail("read again"))
    np.testing.assert_array_equal(trainer.lesson(*given), first)
    file.write_bytes((tmp_path / "neurogaze-distill-small.safetensors").read_bytes() + b" ")
    with pytest.raises(pytest.fail.Exception, match="read again"):
        trainer.lesson(*given)


def test_the_ablation_adds_one_part_a_row_and_tells_the_gain(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 24)
    np.savez(
        data / ckplus.FILE,
        images=np.stack([drawn(int(label), rng) for label in labels]), labels=labels,
        label_names=np.array(["happy", "surprise"]), subject=np.arange(24) // 3,
        session=np.zeros(24, np.int64), frame=np.arange(24) % 3,
    )  # fmt: skip
    trainer.train(variant(epochs=1), data=data, out=tmp_path / "teacher")
    file = tmp_path / "teacher" / "neurogaze-distill-small.safetensors"
    monkeypatch.setattr(trainer, "weights_file", lambda folder, name: file)
    monkeypatch.setattr(ablation, "build", Tiny)
    kd = {"teacher": "neurogaze-distill-small", "sees": "face", "weight": 0.7}
    student = variant(kd=kd)
    monkeypatch.setattr(registry, "find", lambda name: (None, student))
    monkeypatch.setattr(ablation, "RESAMPLES", 50)
    found = ablation.run("x", data, tmp_path / "work", seeds=(1, 2), epochs=2)
    assert [entry["row"] for entry in found["table"]] == ["CE", "+ KD", "+ Proto-KD", "+ D-Geo"]
    assert found["prototypes"] == "synthetic"
    assert found["n"] == {"ferplus_valid": 24, "ckplus": 24}
    last = found["recipe_of_the_last_row"]
    assert (last["epochs"], last["sizes"], last["kd"]["weight"]) == (2, ((0, 32),), 0.7)
    assert last["geo"] == {"start": pytest.approx(0.4), "end": pytest.approx(1.2)}
    for before, entry in zip(found["table"][:-1], found["table"][1:], strict=True):
        for of in ("ferplus_valid", "ckplus"):
            told = entry[of]["acc"]
            assert told["mean"] == pytest.approx(np.mean(told["by_seed"]), abs=1e-4)
            assert told["gain"] == pytest.approx(told["mean"] - before[of]["acc"]["mean"], abs=1e-4)
            assert told["interval"][0] <= told["gain"] + 1e-6
            assert told["interval"][1] >= told["gain"] - 1e-6
    # Twelve trainings that differ: rows by their loss, seeds by their start.
    assert len(list((tmp_path / "work" / "checkpoints").glob("neurogaze-distill-small.*.pt"))) == 8 + 1
    again = ablation.run("x", data, tmp_path / "work", seeds=(1, 2), epochs=2)
    assert again == found


def test_a_teacher_is_heard_on_a_face_and_its_mirror_image(data: Path) -> None:
    torch.manual_seed(5)
    net = build(VARIANT.config).eval()
    pipeline = Pipeline(VARIANT.pipeline)
    faces = ferplus.faces(data, "train").images[:3]
    found = trainer.taught(net, pipeline, faces)
    both = np.stack([pipeline.run(image) for face in faces for image in (face, face[:, ::-1].copy())])
    with torch.inference_mode():
        expected = net(torch.from_numpy(both))[0].reshape(3, 2, -1).mean(dim=1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    assert not np.allclose(found, trainer.taught(net, pipeline, faces[:, ::-1, ::-1].copy()), atol=1e-3)


def test_what_cannot_be_trained_is_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="use --protocol final"):
        trainer.train(variant(), data=data, out=tmp_path, protocol="kfold")
    with pytest.raises(ZooError, match="training table is not valid"):
        trainer.train(variant(momentum=0.9), data=data, out=tmp_path)
    with pytest.raises(ZooError, match="what the first epoch"):
        trainer.train(variant(sizes=[[1, 48]]), data=data, out=tmp_path)
    with pytest.raises(ZooError, match="names no class joy"):
        trainer.train(variant(geo={"start": 0.0, "end": 1.0, "positive": ["joy"]}), data=data, out=tmp_path)
    short = msgspec.structs.replace(VARIANT, pipeline=VARIANT.pipeline[:-1])
    with pytest.raises(ZooError, match="must end with normalize"):
        trainer.train(short, data=data, out=tmp_path)
    assert not list(tmp_path.iterdir())
