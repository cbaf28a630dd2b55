# SPDX-License-Identifier: Apache-2.0
"""Shapes, what the network must not depend on, and its pooling against a plain formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import ZooError
from zoo.models.ser_embedding_small.model import AttentivePool, SerEmbedding, build


def network(**config: object) -> SerEmbedding:
    torch.manual_seed(0)
    net = build({"classes": 7, **config}).eval()
    assert isinstance(net, SerEmbedding)
    return net


def test_parameters_counted_by_hand() -> None:
    """Convolutions without bias, two numbers a channel of each norm; the pool sees 64 channels x 2 rows of bands."""
    blocks = sum(9 * b * c + 9 * c * c + b * c + 6 * c for b, c in ((16, 16), (16, 32), (32, 48), (48, 64)))
    pool = 128 * 64 + 64 + 64 + 1
    ends = 256 * 128 + 128 + 2 * 128 + 129 * (7 + 2 + 1)
    assert sum(p.numel() for p in network().parameters()) == 25 * 16 + 2 * 16 + blocks + pool + ends


@settings(max_examples=15)
@given(frames=st.integers(1, 300), batch=st.integers(1, 3))
def test_a_batch_is_its_clips_one_by_one_at_any_length(frames: int, batch: int) -> None:
    net = network()
    x = torch.randn(batch, frames, 64, generator=torch.Generator().manual_seed(frames)) * 16 - 30
    with torch.no_grad():
        together = net(x)
        singles = [net(x[i : i + 1]) for i in range(batch)]
    for at, (value, width) in enumerate(zip(together, (7, 2, 1, 128), strict=True)):
        assert value.shape == (batch, width)
        assert torch.isfinite(value).all()
        torch.testing.assert_close(value, torch.cat([single[at] for single in singles]), rtol=1e-4, atol=1e-4)
    for probabilities in together[:2]:
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(batch))


def test_the_level_of_the_recording_changes_nothing() -> None:
    x = torch.randn(2, 60, 64) * 16 - 30
    with torch.no_grad():
        for quiet, loud in zip(network()(x), network()(x + 17.5), strict=True):
            torch.testing.assert_close(quiet, loud, rtol=1e-3, atol=1e-3)


def test_pool_is_the_weighted_mean_and_deviation() -> None:
    pool = AttentivePool(6, hidden=4)
    x = torch.randn(3, 11, 6)
    with torch.no_grad():
        found = pool(x).numpy()
        score = (torch.tanh(x @ pool.hidden.weight.T + pool.hidden.bias) @ pool.score.weight.T).numpy()
    weight = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)  # the bias of a softmax cancels
    mean = (weight * x.numpy()).sum(axis=1)
    deviation = np.sqrt((weight * (x.numpy() - mean[:, None]) ** 2).sum(axis=1) + 1e-4)
    np.testing.assert_allclose(found, np.concatenate([mean, deviation], axis=1), rtol=1e-4, atol=1e-5)


def test_age_is_in_years() -> None:
    net = network(age_mean=40, age_std=2)
    x = torch.randn(2, 60, 64)
    with torch.no_grad():
        steps = net.logits(x)[2]
        torch.testing.assert_close(net(x)[2], 40 + 2 * steps)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({}, "needs classes"),
        ({"classes": 7, "layers": 3}, "may have"),
        ({"classes": "7"}, "config classes = '7' must be a number"),
        ({"classes": 7, "widths": 16}, "must list whole numbers"),
        ({"classes": 7, "widths": []}, "must list whole numbers"),
        ({"classes": 7, "widths": [16, 0]}, "must list whole numbers"),
    ],
)
def test_bad_configs_are_named(config: dict[str, object], match: str) -> None:
    with pytest.raises(ZooError, match=match):
        build(config)
