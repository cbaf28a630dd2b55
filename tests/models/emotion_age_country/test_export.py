# SPDX-License-Identifier: Apache-2.0
"""The card's own variants through the exporter's steps, with a small network in place of the large one."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from zoo import registry
from zoo.export import placement, quantize
from zoo.export.calibrate import record, thresholds
from zoo.export.graph import Graph, Trace
from zoo.export.session import Session
from zoo.export.weights import build_reference, random_tensors
from zoo.specs import embedding_outputs

sys.path.insert(0, str(Path(__file__).parent))
from official import SMALL_CONFIG

CARD, FULL = registry.find("emotion-age-country")
SMALL = msgspec.structs.replace(FULL, config={**SMALL_CONFIG, "layers": 2})


def signal(samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return random_tensors(CARD, SMALL, 7)


@pytest.fixture(scope="module")
def graph(weights: dict[str, np.ndarray]) -> Graph:
    return Trace(CARD, SMALL).finish(weights)


def test_any_length_of_the_profile_equals_the_reference(graph: Graph, weights: dict[str, np.ndarray]) -> None:
    net, session = build_reference(CARD, SMALL, weights), Session(graph.model)
    names = [output.name for output in CARD.file.engine_outputs]
    for samples in (400, 719, 720, 8000, 50_001):
        clip = signal(samples, samples)
        with torch.inference_mode():
            expected = dict(zip(names, net(torch.from_numpy(clip)[None]), strict=True))
        found = session.run((clip,))
        for name in names:
            np.testing.assert_allclose(found[name], expected[name].numpy(), rtol=0, atol=2e-5, err_msg=name)


def test_the_graph_holds_the_positional_weight_ready_made(graph: Graph) -> None:
    constants = {tensor.name for tensor in graph.model.graph.initializer}
    convolutions = [node for node in graph.model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 8
    assert all(node.input[1] in constants for node in convolutions)
    assert not any(name.endswith(("weight_v", "weight_g")) for name in constants)


def test_int8_keeps_the_waveform_and_the_embeddings_direction(graph: Graph) -> None:
    raw = placement.raw(graph.model)
    assert raw == ["wav2vec2.feature_extractor.conv_layers.0.conv"]
    clips = [(signal(6000, i) * np.float32(0.2 + 0.2 * i),) for i in range(6)]
    ranges = record(graph.model, quantize.ranged(graph.model, outputs=True), clips)
    limits = thresholds(ranges, "mse", placement.positive(graph.model))
    session = Session(quantize.quantize(graph.model, limits, raw, outputs=True))
    plain = Session(graph.model)
    for clip in clips:
        left, right = (s.run(clip)["hidden_states"][0] for s in (plain, session))
        assert left @ right / np.linalg.norm(left) / np.linalg.norm(right) > 0.999


def test_every_variant_says_what_is_random_and_what_is_an_embedding() -> None:
    layers = {}
    for variant in CARD.file.variants:
        layers[variant.name] = variant.config["layers"]
        assert variant.weights.status == "random"
        assert "CC-BY-NC-SA" in variant.license.weights
        assert embedding_outputs(CARD.decode(variant)) == ("hidden_states",)
    assert layers == {"emotion-age-country": 12, "emotion-age-country-6l": 6, "emotion-age-country-4l": 4}


def test_the_pipeline_is_the_sheets_normalisation() -> None:
    samples = signal(4000, 1) * np.float32(0.1) + np.float32(0.05)
    double = samples.astype(np.float64)
    expected = (double - double.mean()) / np.sqrt(double.var() + 1e-7)
    np.testing.assert_allclose(CARD.pipeline(FULL).run(samples, 16_000), expected, atol=1e-5)
