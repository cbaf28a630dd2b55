# SPDX-License-Identifier: Apache-2.0
"""A bidirectional LSTM over MFCC frames, mean over time, one dense layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Recurrent(nn.Module):
    """``features``: [batch, time, 39]. Returns logits and probabilities, [batch, classes]."""

    def __init__(self, classes: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(39)
        self.encoder = nn.LSTM(39, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.3)
        self.dense = nn.Linear(2 * hidden, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        states, _ = self.encoder(self.norm(features.transpose(1, 2)).transpose(1, 2))
        logits = self.dense(self.dropout(states.mean(dim=1)))
        return logits, torch.softmax(logits, dim=1)


def build(config: Mapping[str, Any]) -> Recurrent:
    """A fresh network."""
    return Recurrent(int(config["classes"]), int(config["hidden"]))
