# SPDX-License-Identifier: Apache-2.0
"""The students: ResNet-18 and ResNet-50 of the sheet, and a small one of inverted residuals (fact sheet 09).

Parameters of the ResNets are named as torchvision's. Besides the classes every net gives the pooled features f(x).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError

_KEYS = frozenset({"arch", "classes", "stem", "dropout"})


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(before, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, before, H, W) to (B, width, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 (which strides), 1x1 convolution beside a shortcut."""

    expansion = 4

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(before, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, before, H, W) to (B, 4 * width, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(before: int, after: int, stride: int) -> nn.Sequential | None:
    """A 1x1 convolution where the shape changes."""
    if stride == 1 and before == after:
        return None
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


class Student(nn.Module):
    """What all nets share: a linear layer from the features, which subclasses give, to the classes."""

    fc: nn.Linear

    def _head(self, width: int, classes: int, dropout: float) -> None:
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(width, classes)

    def features(self, image: Tensor) -> Tensor:
        """Pooled features (B, width) of ``image`` (B, 3, H, W)."""
        raise NotImplementedError

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


class ResNet(Student):
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
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        counts: tuple[int, ...],
        classes: int,
        *,
        stem: str = "7x7",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = (
            nn.Conv2d(3, 64, 7, 2, 3, bias=False) if stem == "7x7" else nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        )
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == "7x7" else nn.Identity()
        before = 64
        for stage, count in enumerate(counts):
            width = 64 << stage
            blocks: list[nn.Module] = []
            for i in range(count):
                blocks.append(block(before, width, 2 if stage and not i else 1))
                before = width * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stages = len(counts)
        self._head(before, classes, dropout)
        _start(self)

    def features(self, image: Tensor) -> Tensor:
        """Pooled features (B, 512 or 2048) of ``image`` (B, 3, H, W)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(image))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x.mean(dim=(2, 3))


class InvertedResidual(nn.Module):
    """1x1 that widens, 3x3 on each channel, 1x1 that narrows; a shortcut where the shape stays."""

    def __init__(self, before: int, after: int, stride: int, widen: int) -> None:
        super().__init__()
        inner = before * widen
        parts: list[nn.Module] = []
        if widen > 1:
            parts += [nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()]
        parts += [
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, after, 1, bias=False),
            nn.BatchNorm2d(after),
        ]
        self.body = nn.Sequential(*parts)
        self.keeps = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, before, H, W) to (B, after, H / stride, W / stride)."""
        y: Tensor = self.body(x)
        return x + y if self.keeps else y


#: Stages of the small student: factor of widening, channels, blocks, stride of the first one.
_SMALL = ((1, 16, 1, 1), (4, 24, 2, 1), (4, 40, 3, 2), (4, 80, 4, 2), (4, 112, 3, 1), (6, 160, 3, 2))

#: Its features: as wide as ResNet-18's, and as the EEG prototypes.
_SMALL_WIDTH = 512


class SmallStudent(Student):
    """MobileNetV2's building blocks for faces of 48 pixels: fewer strides, fewer layers; features of 512."""

    def __init__(self, classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
        before = 32
        for widen, width, count, stride in _SMALL:
            for i in range(count):
                parts.append(InvertedResidual(before, width, stride if i == 0 else 1, widen))
                before = width
        parts += [
            nn.Conv2d(before, _SMALL_WIDTH, 1, bias=False),
            nn.BatchNorm2d(_SMALL_WIDTH),
            nn.ReLU(),
        ]
        self.body = nn.Sequential(*parts)
        self._head(_SMALL_WIDTH, classes, dropout)
        _start(self)

    def features(self, image: Tensor) -> Tensor:
        """Pooled features (B, 512) of ``image`` (B, 3, H, W)."""
        x: Tensor = self.body(image)
        return x.mean(dim=(2, 3))


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

    Keys: ``arch`` (resnet18, resnet50 or small) and ``classes``; ``stem`` (7x7 or 3x3, of the ResNets) and ``dropout``
    may be given.

    Raises
    ------
    ZooError
        An unknown key or value, or a required one is missing.
    """
    arch, classes = config.get("arch"), config.get("classes")
    stem, dropout = config.get("stem", "7x7"), config.get("dropout", 0.0)
    if (
        set(config) - _KEYS
        or arch not in ("resnet18", "resnet50", "small")
        or (arch == "small" and "stem" in config)
        or not isinstance(classes, int)
        or isinstance(classes, bool)
        or classes < 2
        or stem not in ("7x7", "3x3")
        or isinstance(dropout, bool)
        or not isinstance(dropout, (int, float))
        or not 0 <= dropout < 1
    ):
        raise ZooError(
            f"neurogaze_distill: config is {dict(config)}; it needs arch (resnet18, resnet50 or small) and classes >= 2, "
            "and may have dropout in [0, 1) and, of a resnet, stem (7x7 or 3x3)"
        )
    if arch == "small":
        return SmallStudent(classes, dropout=float(dropout))
    if arch == "resnet50":
        return ResNet(Bottleneck, (3, 4, 6, 3), classes, stem=str(stem), dropout=float(dropout))
    return ResNet(BasicBlock, (2, 2, 2, 2), classes, stem=str(stem), dropout=float(dropout))
