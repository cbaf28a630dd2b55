# SPDX-License-Identifier: Apache-2.0
"""The EEG teacher of NeuroGaze-Distill (sheet 9, "Teacher CNN"): topomaps of four bands to a state, or to valence and arousal."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

BANDS, SIZE, FEATURES = 4, 32, 512


class TopomapNet(nn.Module):
    """CNN on topomaps.

    Parameters
    ----------
    answers : int
        Classes, or values.
    values : bool
        Values in [-1, 1] by tanh, else probabilities by softmax.
    width : int
        Channels of the first stage; the others have twice and four times as many.
    dropout : float
        Before the last layer, in training.

    Notes
    -----
    ``input_scale`` and ``input_shift`` (4, 32, 32) standardise each pixel by what the training saw. The sheet standardises
    each channel before the map, which is linear in the channels; this way a model of one fold carries the numbers of its own
    training items only.
    """

    def __init__(self, answers: int, *, values: bool = False, width: int = 32, dropout: float = 0.3) -> None:
        super().__init__()
        self.values = values
        self.register_buffer("input_scale", torch.ones(BANDS, SIZE, SIZE))
        self.register_buffer("input_shift", torch.zeros(BANDS, SIZE, SIZE))
        layers: list[nn.Module] = []
        channels = BANDS
        for stage in range(3):
            out = width << stage
            for _ in range(2):
                layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
                channels = out
            if stage < 2:
                layers.append(nn.MaxPool2d(2))
        self.stages = nn.Sequential(*layers)
        self.features = nn.Linear(channels, FEATURES)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(FEATURES, answers)

    def forward(self, topomaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Judge windows.

        Parameters
        ----------
        topomaps : float32, shape (batch, 4, 32, 32)

        Returns
        -------
        raw : float32, shape (batch, answers)
            Before softmax or tanh.
        answer : float32, shape (batch, answers)
        embedding : float32, shape (batch, 512)
            The penultimate features t, not below 0, not scaled to unit length.
        """
        assert isinstance(self.input_scale, Tensor)
        assert isinstance(self.input_shift, Tensor)
        x = self.stages(topomaps * self.input_scale + self.input_shift)
        embedding = torch.relu(self.features(x.mean(dim=(2, 3))))
        raw = self.head(self.dropout(embedding))
        return raw, torch.tanh(raw) if self.values else torch.softmax(raw, dim=1), embedding


def build(config: Mapping[str, object]) -> nn.Module:
    """The network of a card's ``config`` with fresh weights."""
    return TopomapNet(
        int(str(config["answers"])),
        values=bool(config.get("values", False)),
        width=int(str(config.get("width", 32))),
        dropout=float(str(config.get("dropout", 0.3))),
    )
