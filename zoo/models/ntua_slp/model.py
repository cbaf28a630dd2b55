# SPDX-License-Identifier: Apache-2.0
"""NTUA-SLP at SemEval-2018 Task 1: attentive bidirectional LSTM over word embeddings (sheet 01, section 2).

Parameter names are those of the authors' repository, so that its state dicts load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor, nn

from zoo.errors import ZooError

Task = Literal["labels", "classes", "value"]


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one subtask takes of the logits: so many of them, and what they say (see :class:`Config`)."""

    outputs: int
    task: Task


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``config`` table of a card.

    ``vocabulary`` counts the rows of the table, row 0 (pad) and row 1 (unknown word) with them. ``depth`` is the
    sheet's K. ``task``: what the head says, several labels (sigmoid), one class of several (softmax) or a value.
    ``heads`` take the place of ``outputs`` and ``task`` in a model of several subtasks.
    """

    vocabulary: int
    dimensions: int = 310
    hidden: int
    layers: int = 2
    depth: int = 1
    outputs: int = 0
    task: Task = "labels"
    heads: tuple[Head, ...] = ()
    noise: float = 0.0
    embedding_dropout: float = 0.0
    layer_dropout: float = 0.0
    attention_dropout: float = 0.0


class Table(nn.Module):
    """Frozen rows, int8 with one scale each: a quarter of the size, in every precision of the rest."""

    weight: Tensor
    scale: Tensor

    def __init__(self, rows: int, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(rows, dimensions, dtype=torch.int8))
        self.register_buffer("scale", torch.zeros(rows, 1))

    def forward(self, ids: Tensor) -> Tensor:
        """ids: int64 (...) to float32 (..., dimensions)."""
        rows = nn.functional.embedding(ids, self.weight).to(self.scale.dtype)
        return rows * nn.functional.embedding(ids, self.scale)


class Embedding(nn.Module):
    """Frozen word vectors; in training with Gaussian noise and dropout on them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embedding = Table(config.vocabulary, config.dimensions)
        self.noise = config.noise
        self.dropout = nn.Dropout(config.embedding_dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """ids: int64 (batch, time) to float32 (batch, time, dimensions)."""
        vectors: Tensor = self.embedding(ids)
        if self.training and self.noise:
            vectors = vectors + torch.randn_like(vectors) * self.noise
        dropped: Tensor = self.dropout(vectors)
        return dropped


class Encoder(nn.Module):
    """Bidirectional LSTM over sequences of different lengths, padded at the end.

    The backward direction of each layer runs forwards over the sequence reversed within its own length, so pads
    come last in both directions and reach no real step. What is exported are plain unidirectional LSTMs.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.rnn = nn.LSTM(
            config.dimensions, config.hidden, config.layers, batch_first=True, bidirectional=True
        )
        self.dropout = nn.Dropout(config.layer_dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x: (batch, time, dimensions), lengths: int64 (batch,) to (batch, time, 2 * hidden)."""
        step = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
        last = lengths.unsqueeze(1)
        mirrored = torch.where(step < last, last - 1 - step, step)
        for layer in range(self.rnn.num_layers):
            if layer:
                x = self.dropout(x)
            forward = self._run(x, f"l{layer}")
            backward = _take(self._run(_take(x, mirrored), f"l{layer}_reverse"), mirrored)
            x = torch.cat((forward, backward), 2)
        return x

    def _run(self, x: Tensor, name: str) -> Tensor:
        rnn = self.rnn
        weights = [
            getattr(rnn, f"{kind}_{name}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        zero = x.new_zeros(1, x.shape[0], rnn.hidden_size)
        output: Tensor = torch.lstm(x, (zero, zero), weights, True, 1, 0.0, self.training, False, True)[0]
        return output


class Attention(nn.Module):
    """Self-attention with a tanh on the score: weights over the real tokens of each sequence."""

    def __init__(self, size: int, depth: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Linear(size, size if i < depth - 1 else 1), nn.Tanh(), nn.Dropout(dropout)]
        self.attention = nn.Sequential(*layers)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x: (batch, time, size), mask: bool (batch, time) to the weighted mean (batch, size) and the weights.

        A row without a real token has the weights 0 and the mean 0.
        """
        scores: Tensor = self.attention(x).squeeze(-1)
        # The scores lie in [-1, 1], so exp needs no shift by their maximum.
        raw = torch.exp(scores) * mask.to(scores.dtype)
        weights = raw / raw.sum(1, keepdim=True).clamp_min(1e-30)
        return torch.matmul(weights.unsqueeze(1), x).squeeze(1), weights


class FeatureExtractor(nn.Module):
    """Embedding, encoder and attention: what the transfer step hands on."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embedding = Embedding(config)
        self.encoder = Encoder(config)
        self.attention = Attention(2 * config.hidden, config.depth, config.attention_dropout)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids: int64 (batch, time), 0 after the last token, to (batch, 2 * hidden) and (batch, time)."""
        mask = ids != 0
        encoded = self.encoder(self.embedding(ids), mask.sum(1))
        pooled, weights = self.attention(encoded, mask)
        return pooled, weights


class NtuaSlp(nn.Module):
    """One extractor and the heads of one or several subtasks: one linear layer, of which each head has its rows.

    Outputs of one subtask's model: ``logits`` (batch, outputs), ``scores`` (batch, outputs: probabilities, or the value
    itself), ``attention`` (batch, time: one weight a token, their sum 1). Of several: the scores of each, ``attention``.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads or (Head(outputs=config.outputs, task=config.task),)
        self.sizes = [head.outputs for head in self.heads]
        self.joint = bool(config.heads)
        self.feature_extractor = FeatureExtractor(config)
        self.linear = nn.Linear(2 * config.hidden, sum(self.sizes))

    def forward(self, ids: Tensor) -> tuple[Tensor, ...]:
        """ids: int64 (batch, time), 0 after the last token."""
        logits, attention = self.logits(ids)
        scores = self.scores(logits)
        return (*scores, attention) if self.joint else (logits, *scores, attention)

    def logits(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Those of all heads side by side, (batch, outputs), and the attention."""
        pooled, attention = self.feature_extractor(ids)
        logits: Tensor = self.linear(pooled)
        return logits, attention

    def split(self, logits: Tensor) -> tuple[Tensor, ...]:
        """The logits of each head."""
        return torch.split(logits, self.sizes, dim=-1) if self.joint else (logits,)

    def scores(self, logits: Tensor) -> tuple[Tensor, ...]:
        """Logits to the probabilities or values of each head."""
        return tuple(
            _decide(head.task, own) for head, own in zip(self.heads, self.split(logits), strict=True)
        )


def _decide(task: Task, logits: Tensor) -> Tensor:
    if task == "labels":
        return torch.sigmoid(logits)
    if task == "classes":
        return torch.softmax(logits, -1)
    return logits * 1.0


def build(config: Mapping[str, Any]) -> NtuaSlp:
    """The reference with fresh weights.

    Raises
    ------
    ZooError
        A key is unknown or missing, or a value does not fit.
    """
    try:
        found = msgspec.convert(dict(config), Config)
    except msgspec.ValidationError as error:
        raise ZooError(f"ntua-slp: config {dict(config)}: {error}") from error
    if bool(found.outputs) == bool(found.heads):
        raise ZooError(f"ntua-slp: config {dict(config)}: give outputs and task, or heads")
    return NtuaSlp(found)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Rows of x (batch, time, size) in the order of index (batch, time)."""
    return torch.gather(x, 1, index.unsqueeze(-1).expand(-1, -1, x.shape[2]))
