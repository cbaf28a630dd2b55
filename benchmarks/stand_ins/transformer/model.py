# SPDX-License-Identifier: Apache-2.0
"""A pre-norm Transformer encoder over MFCC frames with learned positions, mean over time, one dense layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Self-attention and a feed-forward layer, each with its residual; shape [batch, time, width] stays."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.join = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(0.2)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        query, key, value = self._split(self.query(y)), self._split(self.key(y)), self._split(self.value(y))
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(query.shape[3]), dim=3)
        x = x + self.dropout(self.join((weights @ value).transpose(1, 2).flatten(2)))
        return x + self.dropout(self.narrow(nn.functional.gelu(self.wide(self.norm2(x)))))


class Transformer(nn.Module):
    """``features``: [batch, time, 39]. Returns logits and probabilities, [batch, classes]."""

    def __init__(self, classes: int, time: int, width: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(39)
        self.embed = nn.Linear(39, width)
        self.positions = nn.Parameter(0.02 * torch.randn(time, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.last = nn.LayerNorm(width)
        self.dense = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(features.transpose(1, 2)).transpose(1, 2)
        x = self.blocks(self.embed(x) + self.positions)
        logits = self.dense(self.last(x).mean(dim=1))
        return logits, torch.softmax(logits, dim=1)


def build(config: Mapping[str, Any]) -> Transformer:
    """A fresh network."""
    return Transformer(**{name: int(value) for name, value in config.items()})
