# SPDX-License-Identifier: Apache-2.0
"""A small residual CNN over log-mel frames with one embedding and three heads: emotion, the speaker's sex, and age.

Ours, not a published network: the multitask idea of fact sheet 7 (one shared embedding, a small head a task) on features
that can be trained here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError

#: What a fully silent band lies below the rest, dB: the scale of the input.
_SPREAD = 16.0
_KEYS = frozenset({"classes", "bands", "widths", "embedding", "dropout", "age_mean", "age_std"})


class Residual(nn.Module):
    """Two 3x3 convolutions beside a 1x1 one; the first may halve time and bands."""

    def __init__(self, before: int, channels: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.skip = nn.Conv2d(before, channels, 1, stride, bias=False)
        self.skip_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, F) to (B, channels, T / stride, F / stride), rounded up."""
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(y + self.skip_norm(self.skip(x)))


class AttentivePool(nn.Module):
    """Mean and deviation over time, each frame weighted by what a small net makes of it."""

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, 2 C)."""
        weight = torch.softmax(self.score(torch.tanh(self.hidden(x))), dim=1)
        mean = (x * weight).sum(dim=1)
        centred = x - mean[:, None]
        return torch.cat([mean, ((centred * centred * weight).sum(dim=1) + 1e-4).sqrt()], dim=1)


class SerEmbedding(nn.Module):
    """Log-mel frames to an embedding, and from it to emotion, sex and age.

    Parameters
    ----------
    classes : int
        Emotions.
    bands : int
        Mel bands.
    widths : tuple of int
        Channels of the stem (the first) and of each residual block (all).
    embedding : int
        Size of the embedding.
    dropout : float
        Share of the embedding dropped in front of the heads in training.
    age_mean, age_std : float
        Years; the age head starts from this mean and in these steps.
    """

    def __init__(
        self,
        classes: int,
        *,
        bands: int = 64,
        widths: tuple[int, ...] = (16, 32, 48, 64),
        embedding: int = 128,
        dropout: float = 0.3,
        age_mean: float = 30.0,
        age_std: float = 5.0,
    ) -> None:
        super().__init__()
        self.age_mean, self.age_std = age_mean, age_std
        self.stem = nn.Conv2d(1, widths[0], 5, 2, 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(widths[0])
        before = (widths[0], *widths[:-1])
        strides = [(1, 2)] + [(2, 2)] * (len(widths) - 1)
        self.blocks = nn.ModuleList(
            Residual(b, c, stride) for b, c, stride in zip(before, widths, strides, strict=True)
        )
        rows = -(-bands // 2)
        for _ in widths:
            rows = -(-rows // 2)
        self.pool = AttentivePool(widths[-1] * rows)
        self.project = nn.Linear(2 * widths[-1] * rows, embedding)
        self.project_norm = nn.BatchNorm1d(embedding)
        self.drop = nn.Dropout(dropout)
        self.emotion = nn.Linear(embedding, classes)
        self.sex = nn.Linear(embedding, 2)
        self.age = nn.Linear(embedding, 1)

    def logits(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Emotion and sex as logits, age in steps of ``age_std`` from ``age_mean``, and the embedding.

        Parameters as of :meth:`forward`.
        """
        # The level of the recording says more about the microphone than about the speaker. In two steps: engines add up
        # thousands of numbers in float32, and the rounding of one long sum would be most of their error.
        level = features.mean(dim=2, keepdim=True).mean(dim=1, keepdim=True)
        x = (features - level) / _SPREAD
        x = torch.relu(self.stem_norm(self.stem(x[:, None])))
        for block in self.blocks:
            x = block(x)
        x = x.permute(0, 2, 1, 3).flatten(2)
        embedding = self.project_norm(self.project(self.pool(x)))
        hidden = self.drop(F.relu(embedding))
        return self.emotion(hidden), self.sex(hidden), self.age(hidden), embedding

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Answer for clips.

        Parameters
        ----------
        features : float32, shape (B, T, bands)
            Mel power in dB, T >= 1.

        Returns
        -------
        emotion : float32, shape (B, classes)
            Probabilities.
        sex : float32, shape (B, 2)
            Probabilities of female and male.
        age : float32, shape (B, 1)
            Years.
        embedding : float32, shape (B, embedding)
        """
        emotion, sex, age, embedding = self.logits(features)
        return (
            torch.softmax(emotion, dim=1),
            torch.softmax(sex, dim=1),
            age * self.age_std + self.age_mean,
            embedding,
        )


def build(config: Mapping[str, object]) -> nn.Module:
    """The network for a card's ``config``: ``classes``, and if need be the other parameters of :class:`SerEmbedding`.

    Raises
    ------
    ZooError
        An unknown key, ``classes`` is missing, or a value of the wrong type.
    """
    unknown = sorted(set(config) - _KEYS)
    if unknown or "classes" not in config:
        raise ZooError(
            f"ser_embedding_small: config has {sorted(config)}; it needs classes and may have "
            f"{sorted(_KEYS - {'classes'})}"
        )
    values: dict[str, object] = {}
    for key, value in config.items():
        if key == "widths":
            if not isinstance(value, (list, tuple)) or not value or not all(map(_is_width, value)):
                raise ZooError(f"ser_embedding_small: config widths = {value!r} must list whole numbers")
            values[key] = tuple(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            real = key in ("dropout", "age_mean", "age_std")
            values[key] = float(value) if real else int(value)
        else:
            raise ZooError(f"ser_embedding_small: config {key} = {value!r} must be a number")
    return SerEmbedding(**values)  # type: ignore[arg-type]


def _is_width(value: object) -> bool:
    return type(value) is int and value > 0
