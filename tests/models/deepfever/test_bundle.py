# SPDX-License-Identifier: Apache-2.0
"""From faces and photos to vectors: bundle, runtime and commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo import faces, ops, registry
from zoo.cli import cli
from zoo.data import ckplus, ferplus

pytest.importorskip("torch", reason="torch is not installed")

NAME = "deepfever"
CARD, VARIANT = registry.find(NAME)
GOLDEN = [CARD.folder / name for name in CARD.file.golden]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zoo.export import export_model

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ZOO_DATA", raising=False)
        return export_model(
            NAME, target="cpu-x86", precision="fp32", out=tmp_path_factory.mktemp("fever") / "bundle"
        ).path


@pytest.fixture(scope="module")
def model(bundle: Path) -> zoo.Model:
    return zoo.load(bundle)


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def test_heads_are_what_the_engine_gives(model: zoo.Model) -> None:
    assert model.selftest().passed
    found = model(GOLDEN[0])
    assert set(found.outputs) == {"expr_logits", "expr_probs", "embedding", "fec"}
    assert set(found.heads["expression"].scores) == set(ferplus.LABELS)
    embedding = found.outputs["embedding"]
    assert found.heads["vector"].values == pytest.approx(embedding / np.linalg.norm(embedding), abs=1e-6)
    assert np.linalg.norm(found.outputs["fec"]) == pytest.approx(1, abs=1e-6)  # in the graph


def test_run_tells_how_alike_expressions_are(bundle: Path, model: zoo.Model) -> None:
    rows = json.loads(run("run", bundle, *GOLDEN, "--json"))
    vectors = np.stack([model(path).heads["vector"].values for path in GOLDEN]).astype(np.float64)
    assert np.array([row["cosines"]["vector"] for row in rows]) == pytest.approx(
        vectors @ vectors.T, abs=1e-5
    )
    shown = run("run", bundle, GOLDEN[0], GOLDEN[1]).splitlines()
    (header,) = [line for line in shown if "vector cosine" in line]
    pair = shown[shown.index(header) + 1]
    assert pair.split()[2:] == [f"{rows[0]['cosines'][name][1]:.3f}" for name in ("vector", "fec")]
    assert "cosine" not in run("run", bundle, GOLDEN[0])
    # An input that fails takes no part.
    failed = json.loads(
        CliRunner().invoke(cli, ["run", str(bundle), "none.png", *map(str, GOLDEN[:2]), "--json"]).stdout
    )
    assert "error" in failed[0]
    assert failed[2]["cosines"]["vector"] == pytest.approx(rows[1]["cosines"]["vector"][:2])


def test_photos_give_one_answer_a_face_with_its_place(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finder is a stand-in here (tests/test_faces.py has the real one): two faces, or none in a dark photo."""

    class Finder:
        def __call__(self, image: np.ndarray) -> tuple[faces.Face, ...]:
            if image.max() < 10:
                return ()
            return tuple(
                faces.Face((x, 1.0, x + 40.0, 41.0), 5.0 * x, image[1:41, int(x) : int(x) + 40])
                for x in (2.0, 50.0)
            )

    monkeypatch.setattr(faces, "FaceFinder", Finder)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 100, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "two.png")
    Image.fromarray(pixels // 64).save(tmp_path / "none.png")
    rows = json.loads(run("run", bundle, "--faces", tmp_path / "two.png", "--json"))
    assert [row["face"] for row in rows] == [
        {"place": 1, "box": [2.0, 1.0, 42.0, 41.0], "turned_deg": 10.0},
        {"place": 2, "box": [50.0, 1.0, 90.0, 41.0], "turned_deg": 250.0},
    ]
    model = zoo.load(bundle)
    alone = model(np.ascontiguousarray(pixels[1:41, 50:90])).heads["expression"].scores
    assert rows[1]["heads"]["expression"]["scores"] == pytest.approx(alone, abs=1e-6)
    assert "two.png (face 2: 50,1 to 90,41)" in run("run", bundle, "--faces", tmp_path / "two.png")
    told = run("run", bundle, "--faces", tmp_path / "none.png", tmp_path / "two.png", code=3)
    assert "none.png: no face found (frontal, upright, 24 pixels or more)" in told
    assert "face 1" in told


def test_faces_are_for_models_that_take_them(ready_bundle: Path) -> None:
    assert "models that take a cropped face; tim-net-emodb takes audio" in run(
        "run", ready_bundle, "--faces", "x.wav", code=2
    )
    assert registry.find("neurogaze-distill-small")[0].file.input.name == "face"


def test_plot_maps_a_folder(bundle: Path, ready_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "faces"
    folder.mkdir()
    image = ops.read_image(GOLDEN[1])
    for number in range(4):
        Image.fromarray(np.roll(image, 7 * number, axis=1)).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"none")
    (folder / "notes.txt").write_text("no image")
    told = CliRunner().invoke(cli, ["plot", str(bundle), str(folder), "--out", str(tmp_path / "map.png")])
    assert told.exit_code == 0, told.output
    assert "broken.jpg: not a readable PNG or JPEG" in told.stderr
    assert ops.read_image(tmp_path / "map.png").shape == (700, 800, 3)
    assert "exists; give --force" in run("plot", bundle, folder, "--out", tmp_path / "map.png", code=1)
    for name in ("0.png", "1.png"):
        (folder / name).unlink()
    assert "needs 3 PNG or JPEG images or more; 2 of 3 can be read" in run(
        "plot", bundle, folder, "--out", tmp_path / "few.png", code=3
    )
    assert not (tmp_path / "few.png").exists()
    assert "takes audio, no images" in run("plot", ready_bundle, folder, "--out", tmp_path / "a.png", code=2)


def test_a_held_back_file_is_scored_by_its_expression(bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    votes = np.zeros((24, 10), np.uint8)
    votes[np.arange(24), np.arange(24) % 8] = 10
    np.savez(
        tmp_path / "ferplus_test.npz",
        images=rng.integers(0, 256, (24, 48, 48), np.uint8), votes=votes, fer_index=np.arange(24),
        columns=np.array(ferplus.COLUMNS),
    )  # fmt: skip
    scored = json.loads(run("eval", bundle, "--data", tmp_path / "ferplus_test.npz", "--json"))
    assert (scored["n"], scored["metric"]) == (24, "heads-mean")
    assert scored["metrics"]["expression/WAR"] == scored["metrics"]["heads-mean"]


def test_another_data_set_is_the_truth_of_the_head_that_has_its_labels(bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    np.savez(
        tmp_path / ckplus.FILE,
        images=rng.integers(0, 256, (12, 48, 48), np.uint8), labels=np.arange(12) % 3,
        label_names=np.array(["anger", "happy", "surprise"]),
        subject=np.arange(12) % 4, session=np.arange(12), frame=np.arange(12),
    )  # fmt: skip
    told = json.loads(run("eval", bundle, "--reader", "ckplus", "--data", tmp_path, "--json"))
    assert (told["n"], told["data"]) == (12, "ckplus")
    found = [told["predictions"][item.id]["expression"] for item in ckplus.read(tmp_path).items]
    right = [
        name == ("anger", "happiness", "surprise")[i % 3] for i, name in zip(range(12), found, strict=True)
    ]
    assert told["metrics"]["expression/WAR"] == pytest.approx(np.mean(right))
    assert told["metrics"]["heads-mean"] == told["metrics"]["expression/WAR"]


def test_cosines_of_many_and_of_none() -> None:
    from zoo.cli import similar
    from zoo.runtime.prediction import Prediction, Timing
    from zoo.specs import Embedding, Softmax

    def prediction(vector: list[float]) -> Prediction:
        return Prediction(None, (), {}, np.array(vector, np.float32), {}, Timing(0, 0, 0, 0, 0))

    decode = Embedding(output="e")
    rows = [prediction([3, 4]), prediction([-6, -8]), prediction([0, 0]), prediction([4, -3])]
    assert similar.alike(decode, rows)["embedding"][0].tolist() == pytest.approx([1, -1, 0, 0], abs=1e-12)
    assert similar.alike(decode, rows[:1]) == similar.alike(Softmax(output="p"), rows) == {}
    assert similar.alike(decode, rows * 200) == {}
