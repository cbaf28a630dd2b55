# SPDX-License-Identifier: Apache-2.0
"""The whole net of fact sheet 5: a ResNet-50 over pictures, a ResNet-101 over stacks of optical flow, and the fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.models.movie_affect.model import WIDTHS, Fusion
from zoo.models.resnet import Bottleneck, Stages

#: Blocks in each stage of a ResNet-50 and a ResNet-101: of the pictures' and of the motion's backbone.
PICTURES, MOTION = (3, 4, 6, 3), (3, 4, 23, 3)
#: Channels of ten flows, x and y each.
FLOW_CHANNELS = 20


class Backbone(Stages):
    """A bottleneck ResNet without its classifier; parameters are named as torchvision's.

    Parameters
    ----------
    stages : sequence of int
        Blocks in each of the four stages.
    channels : int
        Of the input.
    width : int
        Channels of the first stage; 64 is the published one.
    """

    def __init__(self, stages: Sequence[int], channels: int, width: int) -> None:
        super().__init__(Bottleneck, stages, channels=channels, base=width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, channels, 224, 224) to (batch, 32 * width)."""
        return self.features(x)


class WholeNet(nn.Module):
    """Backbones and fusion in one graph.

    Parameters
    ----------
    net : str
        The fusion: ``2fc``, ``folded`` or ``lstm``.
    width : int
        Of both backbones; 64 is the published one.
    pictures, motion : sequence of int
        Blocks in each of the four stages of the backbones.
    """

    def __init__(
        self,
        net: str,
        width: int = 64,
        pictures: Sequence[int] = PICTURES,
        motion: Sequence[int] = MOTION,
    ) -> None:
        super().__init__()
        self.rgb = Backbone(pictures, 3, width)
        self.motion = Backbone(motion, FLOW_CHANNELS, width)
        sizes = {"rgb": 32 * width, "OF": 32 * width, "audio": WIDTHS["audio"]}
        self.fusion = Fusion(net, tuple(sizes), sizes)

    def forward(self, pictures: Tensor, flow: Tensor, sound: Tensor) -> tuple[Tensor, ...]:
        """Judge every step.

        Parameters
        ----------
        pictures : float32, shape (B, T, 3, 224, 224)
            RGB, normalised as for ImageNet.
        flow : float32, shape (B, T, 20, 224, 224)
            Ten flows as bytes / 255, x and y.
        sound : float32, shape (B, T, 1582)
            Functionals scaled to [0, 1].

        Returns
        -------
        arousal, valence : float32, shape (B, T, 7)
            Logits, before the temperature.
        """
        steps = sound.shape[:2]
        seen = [
            net(x.flatten(0, 1)).reshape(*steps, -1) for net, x in ((self.rgb, pictures), (self.motion, flow))
        ]
        fused: tuple[Tensor, ...] = self.fusion(torch.cat((*seen, sound), dim=2))
        return fused


def build(config: Mapping[str, object]) -> nn.Module:
    """The net for a card's ``config``: ``net`` (2fc, folded, lstm), and perhaps ``width``, ``pictures`` and ``motion``.

    Raises
    ------
    ZooError
        An unknown or missing key, or a value that is none of these.
    """
    width = config.get("width", 64)
    stages = [config.get(name, default) for name, default in (("pictures", PICTURES), ("motion", MOTION))]
    if (
        not {"net"} <= set(config) <= {"net", "width", "pictures", "motion"}
        or not _whole(width, 256)
        or not all(
            isinstance(s, (list, tuple)) and len(s) == 4 and all(_whole(n, 64) for n in s) for s in stages
        )
    ):
        raise ZooError(
            f"movie_affect_full: config has {dict(config)}; it needs net and may have width (1 to 256), pictures and motion "
            "(four numbers of blocks each, 1 to 64)"
        )
    return WholeNet(str(config["net"]), width, *stages)  # type: ignore[arg-type]


def _whole(value: object, most: int) -> bool:
    return isinstance(value, int) and 1 <= value <= most


def with_flow_channels(weight: Tensor) -> Tensor:
    """A first convolution of RGB (out, 3, 7, 7) as one of 20 flow channels: the mean over RGB, 20 times.

    Source: fact sheet 5, section 2, "Motion".
    """
    return weight.mean(dim=1, keepdim=True).expand(-1, FLOW_CHANNELS, -1, -1).contiguous()
