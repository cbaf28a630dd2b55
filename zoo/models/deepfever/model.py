# SPDX-License-Identifier: Apache-2.0
"""One face in, one expression vector out: fact sheet 08, "Our build".

The paper's body was not readable: a network in its style, no reproduction. Teacher, student and the plain network that
they are compared with are of one architecture.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError
from zoo.models.neurogaze_distill.model import ResNet
from zoo.models.resnet import BasicBlock

_KEYS = frozenset({"base", "blocks", "classes"})
#: Width of the expression vector, and of the space of triplets (the sheet's).
VECTOR, TRIPLET = 256, 16
#: Least length that the triplet space divides by (the sheet's).
EPSILON = 1e-12


class ExpressionNet(nn.Module):
    """A narrow ResNet, the 256-wide vector with its norm, and two linear heads on it.

    Parameters
    ----------
    base : int
        Channels of the stem; each of the four stages has twice as many as the one before.
    blocks : tuple of int
        Residual blocks of each stage.
    classes : int
    """

    def __init__(self, base: int, blocks: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.backbone = ResNet(BasicBlock, blocks, classes, stem="3x3", base=base)
        width = self.backbone.fc.in_features
        del self.backbone.fc
        self.vector = nn.Linear(width, VECTOR, bias=False)
        self.norm = nn.BatchNorm1d(VECTOR)
        self.expr = nn.Linear(VECTOR, classes)
        self.fec = nn.Linear(VECTOR, TRIPLET)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Describe faces.

        Parameters
        ----------
        image : float32, shape (B, 3, H, W)
            As the pipeline gives it.

        Returns
        -------
        expr_logits : float32, shape (B, classes)
        expr_probs : float32, shape (B, classes)
            Softmax of the logits.
        embedding : float32, shape (B, 256)
            The expression vector, not normalised: compare by its cosine.
        fec : float32, shape (B, 16)
            Of length 1; distances between expressions as people judge them.
        """
        embedding: Tensor = self.norm(self.vector(self.backbone.features(image)))
        logits: Tensor = self.expr(embedding)
        return logits, torch.softmax(logits, dim=1), embedding, F.normalize(self.fec(embedding), eps=EPSILON)


def build(config: Mapping[str, object]) -> ExpressionNet:
    """The network for a card's ``config``.

    Keys: ``base`` (channels of the stem), ``blocks`` (of the four stages), ``classes``.

    Raises
    ------
    ZooError
        An unknown key, or a value is missing or out of range.
    """
    base, blocks, classes = (config.get(key) for key in ("base", "blocks", "classes"))
    sizes = [base, classes, *(blocks if isinstance(blocks, (list, tuple)) else [])]
    if (
        set(config) != _KEYS
        or len(sizes) != 6
        or not all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
        or min(sizes) < 1
        or sizes[1] < 2
    ):
        raise ZooError(
            f"deepfever: config is {dict(config)}; it needs base >= 1, blocks of four stages, each >= 1, and classes >= 2"
        )
    return ExpressionNet(sizes[0], tuple(sizes[2:]), sizes[1])
