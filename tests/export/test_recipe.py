# SPDX-License-Identifier: Apache-2.0
"""Recipe bundles: what only the device can build, and ``zoo build``, planned with a builder made up here."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

import zoo
from zoo.bundle import Bundle, open_bundle, write_bundle
from zoo.cli import cli
from zoo.errors import BundleError, CheckFailed, ProviderUnavailable, ZooError
from zoo.export import export_model
from zoo.export.targets import load_targets
from zoo.runtime import build
from zoo.runtime.engines.tensorrt_builder import Plan, PlanRequest, build_plan
from zoo.runtime.engines.tensorrt_layers import Layer

DEVICE_TARGETS = sorted(name for name, target in load_targets().items() if target.build == "device")


@pytest.fixture(scope="module")
def recipe(toy_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_MODELS", str(toy_root))
        patch.delenv("ZOO_DATA", raising=False)
        out = tmp_path_factory.mktemp("recipe") / "orin.zoo"
        return export_model("toy", target="jetson-orin-nano-jp6", precision="fp16", out=out).path


class FakeBuilder:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.requests: list[tuple[PlanRequest, str]] = []

    def __call__(self, request: PlanRequest, package: str) -> Plan:
        self.requests.append((request, package))
        layers = (Layer(name="c", op="Convolution", inputs=("fp16",)),)
        return Plan(b"engine bytes", "10.3.0", ("INFO: built",), b"timings", ("WARNING: slow",), layers)


def nothing(bundle: Bundle) -> None:
    return None


def test_every_device_target_gives_a_recipe(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_MODELS", str(toy_root))
    monkeypatch.delenv("ZOO_DATA", raising=False)
    assert len(DEVICE_TARGETS) == 5
    for name in DEVICE_TARGETS:
        manifest = export_model("toy", target=name, precision="fp32", out=tmp_path / name).manifest
        assert manifest.recipe is not None
        assert manifest.key.compute_capability == load_targets()[name].compute_capability
        assert manifest.engines[0].kind == "tensorrt"
        assert "was not run" in str(manifest.parity and manifest.parity.verified_on)


def test_a_recipe_is_not_run_but_says_how_to_finish_it(recipe: Path) -> None:
    manifest = open_bundle(recipe).manifest
    assert [file.path for file in manifest.files] == ["golden.npz", "model.onnx"]
    with pytest.raises(
        BundleError, match=r"is a recipe: its tensorrt engine is built on the device.*zoo build"
    ):
        zoo.load(recipe)


def test_the_request_holds_all_that_the_builder_needs(recipe: Path) -> None:
    bundle = open_bundle(recipe)
    request = build.plan_request(bundle, b"cache")
    assert request.graph == bundle.read("model.onnx")
    assert (request.engine, request.precision, request.compute_capability) == ("tensorrt", "fp16", "8.7")
    assert (request.workspace_mib, request.timing_cache) == (1024, b"cache")
    assert dict(request.profile) == {"batch": (1, 1, 4), "time": (16, 16, 16)}
    assert [tensor.name for tensor in request.inputs] == ["features"]


def test_the_finished_bundle_is_keyed_to_its_builder(recipe: Path, tmp_path: Path) -> None:
    builder, seen = FakeBuilder(), []
    out = build.build_bundle(
        recipe, tmp_path / "built.zoo", builder=builder, verify=lambda b: seen.append(b.read("engine.plan"))
    )
    assert seen == [b"engine bytes"]
    assert builder.requests[0][1] == "tensorrt"
    done, before = open_bundle(out).manifest, open_bundle(recipe).manifest
    assert done.recipe is None
    assert (done.key.engine_version, done.key.onnx_sha256) == ("==10.3.0", before.key.onnx_sha256)
    assert done.provenance.tools["tensorrt"] == "10.3.0"
    assert [f.path for f in done.files] == [
        "build.log",
        "engine.plan",
        "golden.npz",
        "layers.json",
        "timing.cache",
    ]
    assert done.build is not None
    assert (done.build.log, done.build.layers) == (("WARNING: slow",), "layers.json")
    assert done.build.timing_cache_sha256 == hashlib.sha256(b"timings").hexdigest()
    assert done.engines[0].placement == {"tensorrt fp16": 1}
    assert not any(note.startswith("A recipe") for note in done.notes)
    with pytest.raises(ProviderUnavailable):
        zoo.load(out)  # no TensorRT here: refused, not run elsewhere
    with pytest.raises(BundleError, match="holds its engine already"):
        build.build_bundle(out, tmp_path / "again", builder=builder, verify=nothing)


def test_a_rebuild_takes_the_kept_timings(recipe: Path, tmp_path: Path) -> None:
    first = build.build_bundle(recipe, tmp_path / "built.zoo", builder=FakeBuilder(), verify=nothing)
    folder = build.build_bundle(recipe, tmp_path / "folder", builder=FakeBuilder(), verify=nothing)
    for kept in (first, folder, folder / "timing.cache"):
        builder = FakeBuilder()
        timings = build.read_timing_cache(kept)
        again = build.build_bundle(
            recipe, tmp_path / "again", timing_cache=timings, builder=builder, verify=nothing, force=True
        )
        assert builder.requests[0][0].timing_cache == b"timings"
        assert open_bundle(again).manifest.build == open_bundle(first).manifest.build
    with pytest.raises(BundleError, match=r"holds no timing.cache: give a bundle that zoo build finished"):
        build.read_timing_cache(recipe)


def test_an_engine_that_fails_the_selftest_is_not_written(recipe: Path, tmp_path: Path) -> None:
    def fail(bundle: Bundle) -> None:
        raise CheckFailed("off by 1")

    with pytest.raises(CheckFailed, match="off by 1"):
        build.build_bundle(recipe, tmp_path / "out", builder=FakeBuilder(), verify=fail)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    builder = FakeBuilder()
    with pytest.raises(ZooError, match="exists; give --force"):
        build.build_bundle(recipe, tmp_path / "out", builder=builder, verify=nothing)
    assert builder.requests == []  # refused before any work


def test_another_builder_version_or_gpu_is_refused(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_version", lambda package, install: "8.6.2")
    with pytest.raises(BundleError, match=r"key.engine_version is >=10.3,<10.4, this machine has 8.6.2"):
        build.build_bundle(recipe, tmp_path / "out")
    monkeypatch.setattr(build, "_version", lambda package, install: "10.3.0")
    monkeypatch.setattr(build, "gpu_problem", lambda capability: f"no GPU of {capability}")
    with pytest.raises(ProviderUnavailable, match=r"cannot be finished here: no GPU of 8\.7"):
        build.build_bundle(recipe, tmp_path / "out")


def test_the_command_without_tensorrt(recipe: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["build", str(recipe), "--out", str(tmp_path / "out")])
    assert done.exit_code == 5
    assert "built with tensorrt, which cannot be imported here" in done.stderr


def test_a_recipe_beside_an_engine_is_refused(recipe: Path, tmp_path: Path) -> None:
    bundle = open_bundle(recipe)
    contents = {file.path: bundle.read(file.path) for file in bundle.manifest.files}
    with pytest.raises(BundleError, match=r"engines\[0\].file is there already, but recipe says"):
        write_bundle(tmp_path / "a", bundle.manifest, contents | {"engine.plan": b"x"})
    gone = msgspec.structs.replace(
        bundle.manifest, recipe=msgspec.structs.replace(bundle.manifest.recipe, graph="other.onnx")
    )
    with pytest.raises(BundleError, match=r"recipe.graph names 'other.onnx', which is not in files"):
        write_bundle(tmp_path / "b", gone, contents)


def test_a_recipe_builds_with_the_real_builder(recipe: Path) -> None:
    """TensorRT proper is not here; its sister, with nearly the same API, takes the same request."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    request = dataclasses.replace(
        build.plan_request(open_bundle(recipe)), engine="tensorrt_rtx", compute_capability="8.6"
    )
    plan = build_plan(request, "tensorrt_rtx")
    assert len(plan.data) > 1000
    assert {layer.precision for layer in plan.layers} >= {"fp16"}
