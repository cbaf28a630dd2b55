# SPDX-License-Identifier: Apache-2.0
"""TIM-Net (Ye et al., ICASSP 2023), written from fact sheet 10, section 2, with Keras' semantics."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError

_KEYS = frozenset({"classes", "filters", "kernel", "blocks", "dropout"})


class BatchNorm(nn.Module):
    """Batch normalisation of (B, C, T) per channel as Keras does it for 3-D input.

    eps 1e-3, running averages with share 0.01 of the new value. Keras' fused kernel (which would store the
    unbiased variance) takes 4-D input only, so the *biased* batch variance is used for normalising and for
    the running average alike.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-3, momentum: float = 0.01) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (B, C, T)."""
        if not self.training:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        with torch.no_grad():
            var, mean = torch.var_mean(x, dim=(0, 2), unbiased=False)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var, self.momentum)
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)


class CausalConv(nn.Conv1d):
    """Dilated convolution whose output at frame t sees frames <= t only: explicit left padding with zeros."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (B, C, T); the output has the same T."""
        return super().forward(F.pad(x, ((self.kernel_size[0] - 1) * self.dilation[0], 0)))


class TemporalAwareBlock(nn.Module):
    """z -> z * sigmoid([conv, norm, ReLU, channel dropout] twice); the gate lies in [0.5, 1) at inference."""

    def __init__(self, filters: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = CausalConv(filters, filters, kernel, dilation=dilation)
        self.bn1: nn.Module = BatchNorm(filters)
        self.drop1 = nn.Dropout1d(dropout)
        self.conv2 = CausalConv(filters, filters, kernel, dilation=dilation)
        self.bn2: nn.Module = BatchNorm(filters)
        self.drop2 = nn.Dropout1d(dropout)

    def forward(self, z: Tensor) -> Tensor:
        """Gate ``z`` (B, C, T)."""
        y = self.drop1(torch.relu(self.bn1(self.conv1(z))))
        y = self.drop2(torch.relu(self.bn2(self.conv2(y))))
        return torch.sigmoid(y) * z


class TimNet(nn.Module):
    """Two streams of temporal-aware blocks over the clip and its time reversal, fused over scales.

    Parameters
    ----------
    classes : int
        Number of labels.
    filters : int
        Channels of the features and of every layer (39 MFCC).
    kernel : int
        Taps of the causal convolutions.
    blocks : int
        Blocks per direction; block j has dilation 2**j. 8, or 10 for IEMOCAP.
    dropout : float
        Share of channels dropped in training.
    """

    def __init__(
        self, classes: int, *, filters: int = 39, kernel: int = 2, blocks: int = 8, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.filters = filters
        self.forward_in = nn.Conv1d(filters, filters, 1)
        self.backward_in = nn.Conv1d(filters, filters, 1)
        self.forward_blocks = nn.ModuleList(
            TemporalAwareBlock(filters, kernel, 2**j, dropout) for j in range(blocks)
        )
        self.backward_blocks = nn.ModuleList(
            TemporalAwareBlock(filters, kernel, 2**j, dropout) for j in range(blocks)
        )
        self.fusion = nn.Parameter(torch.empty(blocks))
        self.dense = nn.Linear(filters, classes)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Keras' initial values: Glorot uniform kernels, zero biases, fusion uniform in +-0.05."""
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        nn.init.uniform_(self.fusion, -0.05, 0.05, generator=generator)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Classify clips.

        Parameters
        ----------
        features : float32, shape (B, T, 39)
            MFCC frames, T >= 1.

        Returns
        -------
        logits : float32, shape (B, classes)
        probs : float32, shape (B, classes)
            Softmax of the logits.
        """
        x = features.transpose(1, 2)
        u = self.forward_in(x)
        v = self.backward_in(x.flip(2))
        scales = []
        for forward_block, backward_block in zip(self.forward_blocks, self.backward_blocks, strict=True):
            u = forward_block(u)
            v = backward_block(v)
            scales.append((u + v).mean(dim=2))  # v stays reversed: the mean does not mind
        z = torch.einsum("bfn,n->bf", torch.stack(scales, dim=2), self.fusion)
        logits: Tensor = self.dense(z)
        return logits, torch.softmax(logits, dim=1)

    def fold(self) -> TimNet:
        """A copy for inference with every batch normalisation folded into the convolution before it."""
        folded = copy.deepcopy(self).eval()
        for block in [*folded.forward_blocks, *folded.backward_blocks]:
            assert isinstance(block, TemporalAwareBlock)
            for conv, name in ((block.conv1, "bn1"), (block.conv2, "bn2")):
                norm = getattr(block, name)
                if not isinstance(norm, BatchNorm):
                    continue
                assert conv.bias is not None
                with torch.no_grad():
                    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
                    bias = norm.bias.double() + (conv.bias.double() - norm.running_mean.double()) * scale
                    conv.weight.copy_(conv.weight.double() * scale[:, None, None])
                    conv.bias.copy_(bias)
                setattr(block, name, nn.Identity())
        return folded


def build(config: Mapping[str, object]) -> nn.Module:
    """The network for a card's ``config``: keys classes (required), filters, kernel, blocks, dropout.

    Raises
    ------
    ZooError
        An unknown key, or ``classes`` is missing.
    """
    unknown = sorted(set(config) - _KEYS)
    if unknown or "classes" not in config:
        raise ZooError(
            f"tim_net: config has {sorted(config)}; it needs classes and may have {sorted(_KEYS - {'classes'})}"
        )
    numbers = {key: value for key, value in config.items() if isinstance(value, (int, float))}
    if len(numbers) != len(config):
        raise ZooError(f"tim_net: config values must be numbers, found {dict(config)}")
    return TimNet(
        int(numbers["classes"]),
        filters=int(numbers.get("filters", 39)),
        kernel=int(numbers.get("kernel", 2)),
        blocks=int(numbers.get("blocks", 8)),
        dropout=float(numbers.get("dropout", 0.1)),
    )
