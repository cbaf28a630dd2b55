# SPDX-License-Identifier: Apache-2.0
"""NTUA-SLP's network: against PyTorch's packed LSTM, and free of padding effects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import ZooError
from zoo.models.ntua_slp.model import NtuaSlp, build

CONFIG = {"vocabulary": 200, "hidden": 12, "layers": 2, "depth": 2, "outputs": 5, "task": "labels"}


def network(**changes: object) -> NtuaSlp:
    torch.manual_seed(0)
    net = build({**CONFIG, **changes}).eval()
    table = net.feature_extractor.embedding.embedding
    table.weight.copy_(torch.randint(-127, 128, table.weight.shape, dtype=torch.int8))
    table.scale.copy_(torch.rand(table.scale.shape) / 100)
    table.weight[0] = 0
    return net


NET = network()


def padded(rows: list[list[int]]) -> torch.Tensor:
    ids = torch.zeros(len(rows), max(1, *map(len, rows)), dtype=torch.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return ids


def test_the_encoder_is_a_packed_bidirectional_lstm() -> None:
    lengths = torch.tensor([9, 4, 1])
    x = torch.randn(3, 9, 310)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    with torch.inference_mode():
        expected, _ = torch.nn.utils.rnn.pad_packed_sequence(
            NET.feature_extractor.encoder.rnn(packed)[0], batch_first=True
        )
        found = NET.feature_extractor.encoder(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        assert (found[row, :length] - expected[row, :length]).abs().max() <= 1e-6


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(1, 199), max_size=40), min_size=1, max_size=6))
def test_a_batch_of_n_equals_n_singles(rows: list[list[int]]) -> None:
    with torch.inference_mode():
        logits, scores, attention = NET(padded(rows))
        assert torch.isfinite(logits).all()
        for i, row in enumerate(rows):
            one = NET(padded([row]))
            assert (one[0][0] - logits[i]).abs().max() <= 1e-6
            assert (one[1][0] - scores[i]).abs().max() <= 1e-6
            n = len(row)
            assert torch.allclose(one[2][0, :n], attention[i, :n], rtol=0, atol=1e-6)
            assert attention[i, n:].abs().sum() == 0
            assert attention[i].sum() == pytest.approx(1.0 if n else 0.0, abs=1e-5)


def test_long_tweets_and_no_token() -> None:
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        logits, _, attention = NET(torch.from_numpy(rng.integers(1, 200, (1, 500))))
        assert torch.isfinite(logits).all()
        assert attention.sum() == pytest.approx(1.0, abs=1e-4)
        empty, _, weights = NET(torch.zeros(1, 1, dtype=torch.int64))
    assert torch.equal(empty[0], NET.linear.bias)
    assert weights.sum() == 0


def test_attention_weights_differ_by_at_most_e_squared() -> None:
    # The score ends in a tanh (sheet 01, section 2).
    with torch.inference_mode():
        _, _, attention = NET(torch.randint(1, 200, (4, 30)))
    assert float((attention.amax(1) / attention.amin(1)).max()) <= np.e**2 + 1e-3


@pytest.mark.parametrize(("task", "outputs"), [("classes", 7), ("value", 1)])
def test_scores_of_other_tasks(task: str, outputs: int) -> None:
    net = network(task=task, outputs=outputs)
    with torch.inference_mode():
        logits, scores, _ = net(torch.randint(1, 200, (3, 8)))
    expected = torch.softmax(logits, -1) if task == "classes" else logits
    assert torch.equal(scores, expected)


def test_parameter_names_are_those_of_the_authors() -> None:
    names = set(dict(build({**CONFIG, "depth": 2}).named_parameters()))
    extractor = "feature_extractor."
    assert {
        f"{extractor}attention.attention.{i}.{kind}" for i in (0, 3) for kind in ("weight", "bias")
    } <= names
    assert {
        f"{extractor}encoder.rnn.{kind}_l{layer}{side}"
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        for layer in (0, 1)
        for side in ("", "_reverse")
    } <= names
    assert {"linear.weight", "linear.bias"} <= names
    # Two layers of 150 a direction on 310 numbers, attention of depth 2, a head of 11.
    full = build({**CONFIG, "hidden": 150, "outputs": 11})
    lstm = 2 * (4 * 150 * (310 + 150 + 2) + 4 * 150 * (300 + 150 + 2))
    assert sum(p.numel() for p in full.parameters()) == lstm + 300 * 300 + 300 + 300 + 1 + 11 * 301


def test_several_heads_are_rows_of_one_layer() -> None:
    heads = [
        {"outputs": 5, "task": "labels"}, {"outputs": 1, "task": "value"}, {"outputs": 3, "task": "classes"},
    ]  # fmt: skip
    net = network(outputs=0, heads=heads)
    ids = torch.randint(1, 200, (3, 8))
    with torch.inference_mode():
        labels, value, classes, attention = net(ids)
        logits, weights = net.logits(ids)
    assert torch.equal(attention, weights)
    assert torch.equal(labels, torch.sigmoid(logits[:, :5]))
    assert torch.equal(value, logits[:, 5:6])
    assert torch.equal(classes, torch.softmax(logits[:, 6:], -1))
    # The same rows alone, in a model of one subtask.
    alone = network(outputs=3, task="classes")
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("linear.")}
    alone.load_state_dict(
        {**state, "linear.weight": net.linear.weight[6:], "linear.bias": net.linear.bias[6:]}
    )
    with torch.inference_mode():
        assert torch.allclose(alone(ids)[1], classes, rtol=0, atol=1e-6)


def test_bad_configs_are_named() -> None:
    for outputs, heads in ((0, []), (5, [{"outputs": 1, "task": "value"}])):
        with pytest.raises(ZooError, match="give outputs and task, or heads"):
            build({**CONFIG, "outputs": outputs, "heads": heads})
    with pytest.raises(ZooError, match=r"ntua-slp: config .*unknown field `width`"):
        build({**CONFIG, "width": 3})
    with pytest.raises(ZooError, match="Invalid enum value 'ordinal'"):
        build({**CONFIG, "task": "ordinal"})
