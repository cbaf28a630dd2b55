# SPDX-License-Identifier: Apache-2.0
"""The students: ResNet-18 and ResNet-50 of the sheet, and narrow ones of the same kind (fact sheet 09).

Parameters of the ResNets are named as torchvision's. Besides the classes every net gives the pooled features f(x).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.models.resnet import BasicBlock, Bottleneck, Stages

_KEYS = frozenset({"arch", "classes", "stem", "dropout", "base"})


class Student(nn.Module, ABC):
    """What all nets share: a linear layer from the features, which subclasses give, to the classes."""

    fc: nn.Linear

    def _head(self, width: int, classes: int, dropout: float) -> None:
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(width, classes)

    @abstractmethod
    def features(self, image: Tensor) -> Tensor:
        """Pooled features (B, width) of ``image`` (B, 3, H, W)."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classify faces.

        Parameters
        ----------
        image : float32, shape (B, 3, H, W)
            As the pipeline gives it. Any size of 32 pixels a side or more; the one that a variant was trained at is its
            pipeline's.

        Returns
        -------
        logits : float32, shape (B, classes)
        probs : float32, shape (B, classes)
            Softmax of the logits.
        embedding : float32, shape (B, width)
            Pooled features, not normalised.
        """
        embedding = self.features(image)
        logits: Tensor = self.fc(self.drop(embedding))
        return logits, torch.softmax(logits, dim=1), embedding


class ResNet(Stages, Student):
    """ResNet with torchvision's parameter names.

    Parameters
    ----------
    block : type
        :class:`BasicBlock` or :class:`Bottleneck`.
    counts : tuple of int
        Blocks of each stage.
    classes : int
    stem : {"7x7", "3x3"}
        7x7 of stride 2 and a max-pool (the sheet's, for 224 pixels), or 3x3 of stride 2 alone, for faces of 32 to 64.
    dropout : float
        Share of the features dropped before the linear layer in training.
    base : int
        Channels of the stem; each stage has twice as many as the one before.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        counts: tuple[int, ...],
        classes: int,
        *,
        stem: str = "7x7",
        dropout: float = 0.0,
        base: int = 64,
    ) -> None:
        super().__init__(block, counts, base=base, stem=stem)
        self._head(self.width, classes, dropout)
        _start(self)


def _start(net: nn.Module) -> None:
    """Fresh weights: He's normal ones for the convolutions, by their outputs; the last norm of a block starts at 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for module in net.modules():
        if isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
        elif isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)


def build(config: Mapping[str, object]) -> Student:
    """The network for a card's ``config``.

    Keys: ``arch`` (resnet18 or resnet50) and ``classes``; ``stem`` (7x7 or 3x3), ``dropout`` and ``base`` (channels of the
    stem, 64 where it is not given) may be given.

    Raises
    ------
    ZooError
        An unknown key or value, or a required one is missing.
    """
    arch, classes = config.get("arch"), config.get("classes")
    stem, dropout, base = config.get("stem", "7x7"), config.get("dropout", 0.0), config.get("base", 64)
    if (
        set(config) - _KEYS
        or arch not in ("resnet18", "resnet50")
        or not isinstance(classes, int)
        or isinstance(classes, bool)
        or classes < 2
        or not isinstance(base, int)
        or isinstance(base, bool)
        or not 4 <= base <= 256
        or stem not in ("7x7", "3x3")
        or isinstance(dropout, bool)
        or not isinstance(dropout, (int, float))
        or not 0 <= dropout < 1
    ):
        raise ZooError(
            f"neurogaze_distill: config is {dict(config)}; it needs arch (resnet18 or resnet50) and classes >= 2, "
            "and may have dropout in [0, 1), stem (7x7 or 3x3) and base (4 to 256)"
        )
    block, counts = (Bottleneck, (3, 4, 6, 3)) if arch == "resnet50" else (BasicBlock, (2, 2, 2, 2))
    return ResNet(block, counts, classes, stem=str(stem), dropout=float(dropout), base=base)
