# SPDX-License-Identifier: Apache-2.0
"""The whole net: backbones as torchvision has them, conversion of written files, and a narrow one from film to curves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

import zoo
from zoo import registry
from zoo.bundle import decode_manifest, encode_manifest, open_bundle
from zoo.card import Card
from zoo.errors import BundleError, DataError, InputError, ZooError
from zoo.export.weights import random_tensors
from zoo.media import Film, of_frames, of_samples
from zoo.models.movie_affect_full.convert import convert
from zoo.models.movie_affect_full.model import MOTION, PICTURES, Backbone, WholeNet, build

WIDTH = 4
STAGES = {50: PICTURES, 101: MOTION}


class Asked:
    """A variant with a narrow net."""

    name = "tiny"
    config = {"net": "folded", "width": WIDTH}


def backbone(depth: int, channels: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict of random values with torchvision's names, its classifier too."""
    with torch.device("meta"):
        shapes = Backbone(STAGES[depth], channels, WIDTH).state_dict()
    generator = torch.Generator().manual_seed(seed)
    state = {
        key: torch.zeros((), dtype=torch.int64)
        if key.endswith("num_batches_tracked")
        else torch.rand(value.shape, generator=generator)
        for key, value in shapes.items()
    }
    return state | {"fc.weight": torch.rand(10, 32 * WIDTH, generator=generator), "fc.bias": torch.zeros(10)}


def test_backbones_have_torchvisions_names_and_sizes() -> None:
    # torchvision's counts without the classifier of 1000: 25,557,032 and 44,549,160 less 2,049,000
    for depth, parameters in ((50, 23508032), (101, 42500160)):
        with torch.device("meta"):
            net = Backbone(STAGES[depth], 3, 64)
        assert sum(p.numel() for p in net.parameters()) == parameters
        names = set(net.state_dict())
        assert {
            "conv1.weight",
            "bn1.running_mean",
            "layer1.0.downsample.1.weight",
            "layer4.2.bn3.bias",
        } <= names
        assert f"layer3.{5 if depth == 50 else 22}.conv2.weight" in names
        assert "layer4.1.downsample.0.weight" not in names


def test_the_residual_blocks_equal_transformers() -> None:
    """An independent ResNet: that of the transformers package, fed with the same weights."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        num_channels=3,
        embedding_size=8,
        hidden_sizes=[32, 64, 128, 256],
        depths=[3, 4, 6, 3],
        layer_type="bottleneck",
    )
    other = transformers.ResNetModel(config).eval()
    torch.manual_seed(0)
    net = Backbone(PICTURES, 3, 8).eval()
    state = {}
    for key, value in net.state_dict().items():
        if value.is_floating_point():
            value = torch.rand(value.shape) * 0.2 + (0.5 if "running_var" in key else 0.0)
            net.state_dict()[key].copy_(value)
        state[_transformers_name(key)] = value
    other.load_state_dict(state, strict=True)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = other(x).pooler_output.flatten(1)
        np.testing.assert_allclose(net(x), expected, rtol=1e-4)


def _transformers_name(key: str) -> str:
    head, _, rest = key.partition(".")
    if head in ("conv1", "bn1"):
        kind = "convolution" if head == "conv1" else "normalization"
        return f"embedder.embedder.{kind}.{rest}"
    stage = int(head.removeprefix("layer")) - 1
    block, part, name = rest.split(".", 2)
    place = f"encoder.stages.{stage}.layers.{block}"
    if part == "downsample":
        index, name = name.split(".")
        return f"{place}.shortcut.{'convolution' if index == '0' else 'normalization'}.{name}"
    kind = "convolution" if part.startswith("conv") else "normalization"
    return f"{place}.layer.{int(part[-1]) - 1}.{kind}.{name}"


def test_each_part_is_told_by_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "resnet50.pth"
    pictures = backbone(50, 3)
    torch.save(pictures, path)
    found = convert(path, Asked)
    assert set(found) == {
        f"rgb.{key}" for key in pictures if not key.startswith("fc.") and "num_batches" not in key
    }
    np.testing.assert_array_equal(found["rgb.layer3.5.conv2.weight"], pictures["layer3.5.conv2.weight"])
    motion = backbone(101, 20)
    renamed = {
        f"module.{key.replace('conv1.weight', 'conv1_custom.weight', 1) if key == 'conv1.weight' else key.replace('fc.', 'fc_custom.')}": v
        for key, v in motion.items()
    }
    torch.save({"epoch": 3, "arch": "resnet101", "state_dict": renamed}, path)
    found = convert(path, Asked)
    np.testing.assert_array_equal(found["motion.conv1.weight"], motion["conv1.weight"])
    assert "motion.fc.weight" not in found
    coloured = backbone(101, 3)
    torch.save(coloured, path)
    first = convert(path, Asked)["motion.conv1.weight"]
    assert first.shape == (WIDTH, 20, 7, 7)
    np.testing.assert_allclose(first[:, 7], coloured["conv1.weight"].mean(1), rtol=1e-6)
    torch.save({key: value for key, value in coloured.items() if "layer3.2" not in key}, path)
    with pytest.raises(DataError, match=r"a ResNet with 19 blocks in layer3"):
        convert(path, Asked)
    torch.save({**pictures, "bn1.running_var": -torch.ones(WIDTH)}, path)
    with pytest.raises(DataError, match=r"negative variances in bn1\.running_var"):
        convert(path, Asked)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "arousal.pth")
    with pytest.raises(DataError, match=r"it has no class_dim\.weight"):
        convert(tmp_path / "arousal.pth", Asked)


def test_the_official_fusion_files_fit(data_root: Path) -> None:
    folder = data_root / "movie-affect"
    if not folder.is_dir():
        pytest.skip(f"official weights not at hand: {folder}")
    names = {}
    for path in sorted(folder.glob("*_audio_video.pth")):
        variant = registry.find("movie-affect-full")[1]
        names |= {key: value.shape for key, value in convert(path, variant).items()}
    assert names == {f"fusion.{head}.matrix.weight": (7, 5678) for head in ("arousal", "valence")}


def test_other_configs_are_refused() -> None:
    for config in (
        {},
        {"net": "2fc", "depth": 50},
        {"net": "2fc", "width": 0},
        {"net": "3fc"},
        {"net": "2fc", "motion": [3]},
    ):
        with pytest.raises(ZooError, match="movie_affect"):
            build(config)


def film(seconds: float) -> tuple[Film, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (int(25 * seconds), 6, 8, 3), np.uint8).repeat(6, 1).repeat(6, 2)
    sound = (rng.normal(0, 3000, int(16000 * seconds)) * np.linspace(0, 1, int(16000 * seconds))).astype(
        np.int16
    )
    return Film(of_samples(sound, 16000), of_frames(frames, 25)), frames, sound


def test_a_film_goes_through_all_branches(film_bundle: Path, film_models: Path) -> None:
    model = zoo.load(film_bundle)
    assert model.selftest().passed
    assert [len(branch.pipeline) for branch in model.manifest.all_branches()] == [3, 4, 4]
    whole, frames, sound = film(1.6)
    found = model(whole)
    steps = 1 + (1 + (25600 - 960) // 160 - 40) // 4
    assert len(found.outputs["arousal"]) == steps
    assert set(found.timing.stages) == {
        "engine",
        *(f"{kind} {name}" for kind in ("decode", "preprocess") for name in ("pictures", "flow", "sound")),
    }
    # the reference on the whole film at once: blocks of steps, with the LSTM's four before them, change nothing
    card = Card(film_models, None)
    (variant,) = card.file.variants
    net = build(variant.config).eval()
    tensors = random_tensors(card, variant, 0)
    net.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()}, strict=False)
    parts = [p.run(*(frames, 25) if i < 2 else (sound, 16000)) for i, p in enumerate(card.pipelines(variant))]
    with torch.no_grad():
        expected = net(*(torch.from_numpy(part[:steps])[None] for part in parts))
    for name, wanted in zip(("arousal", "valence"), expected, strict=True):
        np.testing.assert_allclose(found.outputs[name], wanted[0], atol=2e-5)


def test_bench_takes_films(film_bundle: Path, bench_inputs: Callable[..., list[Film]]) -> None:
    films = bench_inputs(film_bundle)
    assert {raw.pictures.shape for raw in films if raw.pictures} == {(48, 64, 3)}
    assert {sum(map(len, raw.sound.blocks())) for raw in films if raw.sound} == {7680}


def test_bench_takes_video_files(
    film_bundle: Path, data_root: Path, bench_inputs: Callable[..., list[Film]]
) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    if not (data_root / "video").is_dir():
        pytest.skip(f"real clips not at hand: {data_root / 'video'}")
    films = bench_inputs(film_bundle, data=data_root / "video")
    assert {raw.pictures.shape for raw in films if raw.pictures} == {(90, 160, 3)}


def test_diff_compares_every_branch(
    film_bundle: Path, film_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.export.diff import diff, open_reference, open_side

    monkeypatch.setenv("ZOO_MODELS", str(film_models.parent))
    whole, _, _ = film(1.0)
    report = diff(open_side(film_bundle), open_reference(film_bundle), whole)
    assert [row.tensor for row in report.tensors[:3]] == ["features 0", "features 1", "features 2"]
    assert [row.shape[1:] for row in report.tensors[:3]] == [(3, 64, 64), (20, 64, 64), (1582,)]
    assert report.first_over is None
    assert len(report.tensors) > 20


def test_a_manifest_with_a_branch_too_few_is_refused(film_bundle: Path) -> None:
    manifest = open_bundle(film_bundle).manifest
    few = msgspec.structs.replace(manifest, branches=manifest.branches[:1])
    with pytest.raises(BundleError, match="the engine has 3 inputs, pipeline and branches fill 2"):
        decode_manifest(encode_manifest(few), "few")
    flow, sound = manifest.branches
    wrong = msgspec.structs.replace(flow, source="sound")
    swapped = msgspec.structs.replace(manifest, branches=(wrong, sound))
    with pytest.raises(BundleError, match="pipeline: "):
        decode_manifest(encode_manifest(swapped), "swapped")


def test_files_and_what_is_missing(film_bundle: Path, data_root: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    model = zoo.load(film_bundle)
    clip = data_root / "video" / "moviepy_doc_example2.mp4"
    if not clip.is_file():
        pytest.skip(f"real clips not at hand: {clip}")
    found = model(clip)
    assert len(found.outputs["valence"]) == 40  # of 2.0 s
    with pytest.raises(InputError, match=r"bikes\.mp4: it has no sound"):
        model(clip.with_name("bikes.mp4"))
    with pytest.raises(InputError, match="the model needs pictures, and none were given"):
        model((np.zeros(16000, np.float32), 16000))


def test_the_published_width_is_the_cards() -> None:
    _, variant = registry.find("movie-affect-full")
    with torch.device("meta"):
        net = WholeNet(variant.config["net"], variant.config["width"])
    assert net.fusion.arousal.matrix.weight.shape == (7, 5678)
    assert variant.weights.status == "random"
