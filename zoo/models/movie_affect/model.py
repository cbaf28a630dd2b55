# SPDX-License-Identifier: Apache-2.0
"""Fusion nets of fact sheet 5: features of a film, step by step, to logits of seven bins of arousal and of valence.

Parameters are named as the official ones, below the head's name; a net of one modality calls its reduction
``reduced_rgb`` there whatever it reduces, here it bears the modality's own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zoo.errors import ZooError

#: The heads, in the order of the outputs.
HEADS = ("arousal", "valence")
#: Values of a step of each modality, in the order in which they are put together.
WIDTHS = {"rgb": 2048, "OF": 2048, "audio": 1582}
BINS = 7
#: Steps that the LSTM sees: the one it judges and those before it.
STEPS = 5
_REDUCED, _HIDDEN = 128, 64


class Reduced(nn.Module):
    """One linear reduction to 128 a modality, without bias; the outputs side by side.

    Parameters
    ----------
    modalities : sequence of str
        Of ``WIDTHS``, in its order.
    sizes : mapping of str to int
        Values of a step of each.
    """

    def __init__(self, modalities: Sequence[str], sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.sizes = [sizes[name] for name in modalities]
        self.reductions = [f"reduced_{name}" for name in modalities]
        for name, size in zip(self.reductions, self.sizes, strict=True):
            self.add_module(name, nn.Linear(size, _REDUCED, bias=False))

    def reduce(self, x: Tensor) -> Tensor:
        """x: (batch, time, sum of sizes) to (batch, time, 128 a modality)."""
        parts = torch.split(x, self.sizes, dim=2)
        reduced = [self.get_submodule(name)(part) for name, part in zip(self.reductions, parts, strict=True)]
        return torch.cat(reduced, dim=2) if len(reduced) > 1 else reduced[0]


class TwoLayers(Reduced):
    """The source's "2FC" net: the reductions, then three linear layers; no bias, no activation."""

    def __init__(self, modalities: Sequence[str], sizes: Mapping[str, int] = WIDTHS) -> None:
        super().__init__(modalities, sizes)
        self.fc1 = nn.Linear(_REDUCED * len(modalities), _HIDDEN, bias=False)
        self.fc2 = nn.Linear(_HIDDEN, _HIDDEN, bias=False)
        self.class_dim = nn.Linear(_HIDDEN, BINS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, time, sum of sizes) to logits (batch, time, 7)."""
        logits: Tensor = self.class_dim(self.fc2(self.fc1(self.reduce(x))))
        return logits


class Folded(nn.Module):
    """The same map as one matrix; :func:`fold` makes it from the weights of a ``TwoLayers``."""

    def __init__(self, modalities: Sequence[str], sizes: Mapping[str, int] = WIDTHS) -> None:
        super().__init__()
        self.matrix = nn.Linear(sum(sizes[name] for name in modalities), BINS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, time, sum of sizes) to logits (batch, time, 7)."""
        logits: Tensor = self.matrix(x)
        return logits


class Recurrent(Reduced):
    """The source's LSTM net: the reductions, two LSTM layers over five steps, a linear layer on the last one.

    Before the first step it is repeated (our choice: the source has no window that starts earlier).
    """

    def __init__(self, modalities: Sequence[str], sizes: Mapping[str, int] = WIDTHS) -> None:
        super().__init__(modalities, sizes)
        self.lstm = nn.LSTM(_REDUCED * len(modalities), _HIDDEN, 2, batch_first=True)
        self.class_dim = nn.Linear(_HIDDEN, BINS)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, time, sum of sizes) to logits (batch, time, 7), of each step from it and the four before."""
        reduced = self.reduce(x)
        batch, time, width = reduced.shape
        before = reduced[:, :1].expand(batch, STEPS - 1, width)
        longer = torch.cat((before, reduced), dim=1)
        windows = torch.stack([longer[:, k : k + time] for k in range(STEPS)], dim=2)
        hidden, _ = self.lstm(windows.reshape(batch * time, STEPS, width))
        logits: Tensor = self.class_dim(hidden[:, -1]).reshape(batch, time, BINS)
        return logits


_NETS = {"2fc": TwoLayers, "folded": Folded, "lstm": Recurrent}


class Fusion(nn.Module):
    """One net for each head over the same features.

    Parameters
    ----------
    net : str
        ``2fc``, ``folded`` or ``lstm``.
    modalities : sequence of str
        Of ``WIDTHS``, in its order.
    sizes : mapping of str to int
        Values of a step of each.

    Raises
    ------
    ZooError
        Another net.
    """

    def __init__(self, net: str, modalities: Sequence[str], sizes: Mapping[str, int] = WIDTHS) -> None:
        super().__init__()
        if net not in _NETS:
            raise ZooError(f"movie_affect: net = {net!r}; give one of {', '.join(_NETS)}")
        for head in HEADS:
            self.add_module(head, _NETS[net](modalities, sizes))

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Judge every step.

        Parameters
        ----------
        features : float32, shape (B, T, sum of sizes)
            Of the modalities side by side; audio scaled to [0, 1].

        Returns
        -------
        arousal, valence : float32, shape (B, T, 7)
            Logits, before the temperature.
        """
        return tuple(self.get_submodule(head)(features) for head in HEADS)


def fold(weights: Mapping[str, NDArray[np.float32]], modalities: Sequence[str]) -> NDArray[np.float32]:
    """The matrix (7, sum of sizes) that a ``TwoLayers`` with these weights multiplies by; products in float64."""
    behind = np.asarray(weights["class_dim.weight"], np.float64)
    for name in ("fc2.weight", "fc1.weight"):
        behind = behind @ np.asarray(weights[name], np.float64)
    blocks = np.split(behind, len(modalities), axis=1)
    reduced = [np.asarray(weights[f"reduced_{name}.weight"], np.float64) for name in modalities]
    whole = np.concatenate([block @ part for block, part in zip(blocks, reduced, strict=True)], axis=1)
    return whole.astype(np.float32)


def modalities_of(config: Mapping[str, object]) -> tuple[str, ...]:
    """The modalities of a card's ``config``, checked.

    Raises
    ------
    ZooError
        They are not some of ``WIDTHS`` in its order.
    """
    given = config.get("modalities")
    names = tuple(given) if isinstance(given, (list, tuple)) else ()
    if not names or names != tuple(name for name in WIDTHS if name in names):
        raise ZooError(
            f"movie_affect: config modalities = {given!r}; give one or more of {', '.join(WIDTHS)}, in this order"
        )
    return names


def build(config: Mapping[str, object]) -> nn.Module:
    """The nets for a card's ``config``: ``net`` (2fc, folded, lstm) and ``modalities``.

    Raises
    ------
    ZooError
        An unknown or missing key, or a value that is none of these.
    """
    if set(config) != {"net", "modalities"} or config["net"] not in _NETS:
        raise ZooError(
            f"movie_affect: config has {dict(config)}; it needs net (one of {', '.join(_NETS)}) and modalities"
        )
    return Fusion(str(config["net"]), modalities_of(config))
