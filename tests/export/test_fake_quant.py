# SPDX-License-Identifier: Apache-2.0
"""The model that is tuned computes what its INT8 graph computes in onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.card import Card
from zoo.errors import ZooError
from zoo.export import calibrate, quantize
from zoo.export.fake_quant import FakeQuantized, fake_quantize, fake_quantize_weights
from zoo.export.graph import Graph, Trace
from zoo.export.inputs import Features
from zoo.export.session import Session
from zoo.export.weights import random_tensors

CARD = """
schema = 1
model = "mixed"
title = "Mixed"
task = "none"
golden = ["0.wav", "1.wav", "2.wav"]
paper = { title = "none", venue = "none", id = "none", sheet = "none" }
input = { modality = "audio", rate = 8000, channels = 1, shape = ["samples"] }
engine_inputs = [{ name = "features", dtype = "float32", shape = ["batch", 7, 6] }]
engine_outputs = [{ name = "vector", dtype = "float32", shape = ["batch", 3] }]
decode = { type = "embedding", output = "vector" }

[[variants]]
name = "mixed"
summary = "every kind of layer"
labels = ["a"]
profile = { batch = [1, 1, 4] }
license = { code = "Apache-2.0", weights = "Apache-2.0", data = "CC0-1.0" }
pipeline = [{ op = "resample", rate = 8000 }]
weights = { status = "random", seed = 0 }
"""
MODEL = """
import torch
from torch import nn
from torch.nn import functional as F


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm1d(6)
        self.lstm = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(10, 2, 16, batch_first=True)
        self.gru = nn.GRU(10, 4, batch_first=True)
        self.up = nn.ConvTranspose1d(4, 4, 2, stride=2)
        self.mix = nn.Parameter(torch.randn(5, 4))
        self.dense = nn.Linear(14, 3)
        self.norm.weight.data.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = x + torch.relu(self.norm(self.conv(x.transpose(1, 2)))).transpose(1, 2)
        h = self.encoder(self.lstm(x)[0])
        q = h.unsqueeze(1)
        h = h + F.scaled_dot_product_attention(q, q, q, is_causal=True).squeeze(1)
        g = self.up(self.gru(h)[0].transpose(1, 2))
        scores = torch.softmax(torch.bmm(h, h.transpose(1, 2)), -1)
        mixed = (torch.matmul(self.mix, g)).mean(2)
        pooled = torch.einsum("btf,bt->bf", h, scores.mean(1))
        return self.dense(torch.cat([mixed[:, :4], pooled], 1))


def build(config):
    return Mixed()
"""


def inputs_of(shape: tuple[int, ...], count: int) -> list[Features]:
    return [(np.random.default_rng(i).standard_normal(shape).astype(np.float32),) for i in range(count)]


def limits_of(graph: Graph, inputs: list[Features]) -> dict[str, float]:
    names = dict.fromkeys(name for layer in quantize.layers(graph.model) for name in layer.data)
    return calibrate.thresholds(calibrate.record(graph.model, list(names), inputs), "minmax")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, list[Features], FakeQuantized]:
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "card.toml").write_text(CARD)
    (folder / "model.py").write_text(MODEL)
    card = Card(folder, None)
    variant = card.variant("mixed")
    tensors = random_tensors(card, variant, 0)
    graph = Trace(card, variant).finish(tensors)
    inputs = inputs_of((7, 6), 24)
    return graph, inputs, FakeQuantized(card, variant, tensors, graph, limits_of(graph, inputs), inputs[0])


def test_every_kind_of_layer_is_found_and_equals_the_graph(mixed) -> None:
    graph, inputs, net = mixed
    limits = net.limits()
    layers = quantize.layers(graph.model)
    assert {layer.op for layer in layers} == {"Conv", "LSTM", "MatMul", "Gemm", "GRU", "ConvTranspose"}
    assert set(limits) == {name for layer in layers for name in layer.data}
    plain = Session(graph.model)
    quantized = Session(quantize.quantize(graph.model, limits), optimize=False)
    errors, losses = [], []
    with torch.no_grad():
        for features in inputs:
            batch = [torch.from_numpy(features[0][None])]
            expected, exact = quantized.run(features)["vector"], plain.run(features)["vector"]
            np.testing.assert_allclose(net.forward(batch, quantized=False)["vector"], exact, atol=1e-5)
            errors.append(np.abs(net.forward(batch)["vector"].numpy() - expected).max())
            losses.append(np.abs(exact - expected).max())
    # Rounding is the same but where a value lies on the edge of two steps.
    assert np.median(errors) < 1e-5
    assert np.median(losses) > 100 * np.median(errors)


def test_a_batch_is_its_items_and_everything_gets_a_gradient(mixed) -> None:
    _, inputs, net = mixed
    batch = torch.from_numpy(np.stack([array for (array,) in inputs[:4]]))
    together = net.forward([batch], quantized=False)["vector"].detach()
    single = [net.forward([row[None]], quantized=False)["vector"].detach() for row in batch]
    np.testing.assert_allclose(together, torch.cat(single), atol=1e-5)
    for value in net.log_limits.values():
        value.requires_grad_()
    net.forward([batch])["vector"].sum().backward()
    assert all(value.grad is not None for value in net.parameters().values())
    assert all(value.grad is not None and torch.isfinite(value.grad) for value in net.log_limits.values())


def test_a_layer_that_is_not_there_is_named(toy) -> None:
    other = inputs_of((16, 12), 1)[0]
    limits = limits_of(toy.graph, list(toy.inputs.features))
    changed = {key: value * 1.5 for key, value in random_tensors(toy.card, toy.variant, 0).items()}
    with pytest.raises(ZooError, match=r"toy: .* does not find . layers .* reference: conv2 \(Conv\)"):
        FakeQuantized(toy.card, toy.variant, changed, toy.graph, limits, other)


def test_quantisers_match_numpy() -> None:
    x = torch.linspace(-2, 2, 1001, requires_grad=True)
    limit = torch.tensor(1.5, requires_grad=True)
    y = fake_quantize(x, limit)
    scale = np.float32(1.5) / np.float32(127)
    expected = np.clip(np.rint(x.detach().numpy() / scale), -128, 127) * scale
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    y.sum().backward()
    steps = x.detach().numpy() / scale
    inside = (steps > -127.9) & (steps < 126.9)
    np.testing.assert_array_equal(x.grad.numpy()[inside], 1)
    np.testing.assert_array_equal(x.grad.numpy()[(steps < -128.1) | (steps > 127.1)], 0)
    assert limit.grad is not None
    weight = np.random.default_rng(0).standard_normal((4, 3, 2)).astype(np.float32)
    values, scales = quantize.quantize_weight(weight, 1)
    (found,) = fake_quantize_weights([torch.from_numpy(weight)], 1)
    np.testing.assert_allclose(found.numpy(), values * scales[None, :, None], rtol=1e-6)
