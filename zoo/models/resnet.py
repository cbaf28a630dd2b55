# SPDX-License-Identifier: Apache-2.0
"""Residual networks up to their pooled features; parameters are named as torchvision's."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


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


class Stages(nn.Module):
    """A stem, stages of residual blocks, and the mean over all places.

    Parameters
    ----------
    block : type
        :class:`BasicBlock` or :class:`Bottleneck`.
    counts : sequence of int
        Blocks of each stage.
    channels : int
        Of the input.
    base : int
        Channels of the stem; each stage has twice as many as the one before.
    stem : {"7x7", "3x3"}
        7x7 of stride 2 and a max-pool (for 224 pixels), or 3x3 of stride 2 alone (for 32 to 64).
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        counts: Sequence[int],
        *,
        channels: int = 3,
        base: int = 64,
        stem: str = "7x7",
    ) -> None:
        super().__init__()
        side, pad = (7, 3) if stem == "7x7" else (3, 1)
        self.conv1 = nn.Conv2d(channels, base, side, 2, pad, bias=False)
        self.bn1 = nn.BatchNorm2d(base)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == "7x7" else nn.Identity()
        before = base
        for stage, count in enumerate(counts):
            width = base << stage
            blocks: list[nn.Module] = []
            for i in range(count):
                blocks.append(block(before, width, 2 if stage and not i else 1))
                before = width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stages = len(counts)
        self.width = before

    def features(self, image: Tensor) -> Tensor:
        """Pooled features (B, width) of ``image`` (B, channels, H, W)."""
        x: Tensor = self.maxpool(F.relu(self.bn1(self.conv1(image))))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x.mean(dim=(2, 3))
