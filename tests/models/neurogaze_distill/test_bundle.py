# SPDX-License-Identifier: Apache-2.0
"""From a picture to a label: bundle, runtime and commands, on the small student."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo import ops, registry
from zoo.cli import cli
from zoo.data import ckplus, ferplus
from zoo.errors import DataError, InputError

pytest.importorskip("torch", reason="torch is not installed")

from zoo.export.inputs import Raw, derived_inputs, golden_inputs

NAME = "neurogaze-distill-small"
CARD, VARIANT = registry.find(NAME)
GOLDEN = [CARD.folder / name for name in CARD.file.golden]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zoo.export import export_model

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ZOO_DATA", raising=False)
        out = tmp_path_factory.mktemp("faces") / "bundle"
        return export_model(NAME, target="cpu-x86", precision="fp32", out=out).path


@pytest.fixture(scope="module")
def model(bundle: Path) -> zoo.Model:
    return zoo.load(bundle)


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def test_a_file_and_its_pixels_give_the_same_numbers(model: zoo.Model) -> None:
    assert model.selftest().passed
    for path in GOLDEN:
        from_file, from_pixels = model(path), model(ops.read_image(path))
        assert from_file.scores == from_pixels.scores
        assert set(from_file.scores) == set(ferplus.LABELS)
        assert from_file.label == max(from_file.scores, key=lambda name: from_file.scores[name])
        assert from_file.timing.decode_input > 0
        assert from_file.outputs["embedding"].shape == (224,)
    together = model.batch([str(path) for path in GOLDEN])
    for path, found in zip(GOLDEN, together, strict=True):
        assert found.outputs["logits"] == pytest.approx(model(path).outputs["logits"], abs=1e-4)


def test_selftest_notices_pixels_that_changed(model: zoo.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    original = model.pipeline.run
    monkeypatch.setattr(
        model.front, "pipeline", type("Off", (), {"run": staticmethod(lambda x: original(255 - x))})()
    )
    assert not model.selftest().passed


def test_colour_grey_and_any_size_are_one_face(model: zoo.Model) -> None:
    """Grey is what the model sees, so RGB of equal channels, and an alpha channel, change nothing."""
    grey = ops.read_image(GOLDEN[1])
    logits = model(grey).outputs["logits"]
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    assert np.array_equal(model(rgb).outputs["logits"], logits)
    assert np.array_equal(model(np.dstack([rgb, grey])).outputs["logits"], logits)
    for odd in (grey[:1, :1], np.zeros((3000, 2), np.uint8), np.full((10_000, 10_000), 7, np.uint8)):
        assert np.isfinite(model(odd).outputs["logits"]).all()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.zeros((0, 48), np.uint8), "0 rows"),
        (np.zeros((48, 48), np.float32), "image must be uint8"),
        (np.zeros((48, 48), np.uint16), "elements of type"),
        (np.zeros((48, 48, 5), np.uint8), "1 to 4 channels"),
        (np.zeros(48, np.uint8), "2 or 3"),
        ((np.zeros(48, np.float32), 16000), "tuple; give the path of a PNG or JPEG file, or pixels"),
        (None, "NoneType; give the path"),
    ],
)
def test_what_is_no_picture_is_one_clear_error(model: zoo.Model, raw: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model(raw)


def test_the_commands_take_pictures(bundle: Path, tmp_path: Path) -> None:
    results = json.loads(run("run", bundle, *GOLDEN, "--json"))
    assert [row["input"] for row in results] == [str(path) for path in GOLDEN]
    assert all(row["label"] in ferplus.LABELS and row["weights"] == "trained" for row in results)
    (tmp_path / "cut.png").write_bytes(GOLDEN[0].read_bytes()[:200])
    assert "cut.png: not a readable PNG or JPEG image" in run("run", bundle, tmp_path / "cut.png", code=3)
    assert "this model takes images" in run("run", bundle, GOLDEN[0], "--hop", "1", code=2)
    assert "this model takes image files" in run("run", bundle, "-", code=2)
    report = json.loads(run("diff", bundle, "--input", GOLDEN[2], "--json"))
    assert report["first_over"] is None
    assert len(report["tensors"]) > 20


def test_a_held_back_file_and_another_data_set_are_scored(bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (24, 48, 48), np.uint8)
    votes = np.zeros((24, 10), np.uint8)
    votes[np.arange(24), np.arange(24) % 8] = 10
    np.savez(
        tmp_path / "ferplus_test.npz",
        images=images, votes=votes, fer_index=np.arange(24), columns=np.array(ferplus.COLUMNS),
    )  # fmt: skip
    scored = json.loads(run("eval", bundle, "--data", tmp_path / "ferplus_test.npz", "--json"))
    assert (scored["n"], scored["data"], scored["metric"]) == (24, "ferplus/test", "WAR")
    assert set(scored["readings"]) == {"8way", "present_only"}
    assert scored["readings"]["8way"]["acc"] == scored["metrics"]["WAR"]
    assert scored["readings"]["8way"] == scored["readings"]["present_only"]
    np.savez(
        tmp_path / ckplus.FILE,
        images=images, labels=np.arange(24) % 3, label_names=np.array(["anger", "happy", "surprise"]),
        subject=np.arange(24) % 4, session=np.arange(24), frame=np.arange(24),
    )  # fmt: skip
    other = json.loads(run("eval", bundle, "--reader", "ckplus", "--data", tmp_path, "--json"))
    present = other["readings"]["present_only"]
    assert present["present_names"] == ["happiness", "surprise", "anger"]
    assert present["acc"] >= other["readings"]["8way"]["acc"]
    assert other["group_interval"] is not None
    assert "present_only (3 of 8 labels occur)" in run(
        "eval", bundle, "--reader", "ckplus", "--data", tmp_path
    )


def test_derived_pictures_are_distinct_and_the_same_in_every_run() -> None:
    golden = golden_inputs(CARD)
    made = derived_inputs(golden, 64)
    assert len({image.samples.tobytes() for image in made}) == 64
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(made, golden, strict=False))
    again = derived_inputs(golden, 64)
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(made, again, strict=True))
    with pytest.raises(DataError, match="larger images"):
        derived_inputs([Raw(np.zeros((1, 1), np.uint8), 0)], 4)


def test_bench_inputs_are_distinct_crops(bundle: Path, tmp_path: Path) -> None:
    from zoo.bundle import open_bundle
    from zoo.runtime.bench.inputs import Inputs, make_inputs

    made = make_inputs(open_bundle(bundle), count=16)
    assert {item.shape for item in made.items} == {(112, 112, 3)}
    assert len({item.tobytes() for item in made.items}) == 16
    made.save(tmp_path / "inputs.npz")
    assert all(
        np.array_equal(a, b)
        for a, b in zip(Inputs.open(tmp_path / "inputs.npz").raws(), made.items, strict=True)
    )
    Image.fromarray(made.items[0]).save(tmp_path / "one.png")
    own = make_inputs(open_bundle(bundle), data=tmp_path, count=4)
    assert np.array_equal(own.items[0], made.items[0])
    assert "1 of 1 image files" in own.source
    with pytest.raises(DataError, match="holds no PNG or JPEG file"):
        make_inputs(open_bundle(bundle), data=bundle, count=4)


def test_bench_takes_images(bundle: Path, bench_inputs: Callable[..., list[Any]]) -> None:
    assert {raw.shape for raw in bench_inputs(bundle)} == {(112, 112, 3)}
