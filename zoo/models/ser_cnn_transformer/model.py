# SPDX-License-Identifier: Apache-2.0
"""Two parallel CNNs beside a Transformer encoder (fact sheet 06, part A). Parameters are named as the official ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError

_KEYS = frozenset(
    {"classes", "bands", "frames", "conv_pools", "transformer_pool", "layers", "heads", "ffn", "dropout",
     "transformer_dropout", "rescale"}
)  # fmt: skip
_CHANNELS = (16, 32, 64)


class SelfAttention(nn.Module):
    """Multi-head self-attention with the parameter names of ``nn.MultiheadAttention``.

    Parameters
    ----------
    width, heads : int
        Size of a step, and heads that share it.
    dropout : float
        Share of the attention weights dropped in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.drop = nn.Dropout(dropout)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the steps of ``x`` (B, T, width)."""
        batch, steps, width = x.shape
        packed = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = (
            part.reshape(batch, steps, self.heads, width // self.heads).transpose(1, 2)
            for part in packed.chunk(3, dim=2)
        )
        weights = self.drop(torch.softmax(q @ k.transpose(2, 3) * (width // self.heads) ** -0.5, dim=3))
        mixed: Tensor = self.out_proj((weights @ v).transpose(1, 2).reshape(batch, steps, width))
        return mixed


class EncoderLayer(nn.Module):
    """Post-norm Transformer layer, equal to ``nn.TransformerEncoderLayer`` and named as it."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads, dropout)
        self.linear1 = nn.Linear(width, ffn)
        self.linear2 = nn.Linear(ffn, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.drop1, self.drop, self.drop2 = (nn.Dropout(dropout) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, T, width) to the same shape."""
        x = self.norm1(x + self.drop1(self.self_attn(x)))
        hidden = self.drop(torch.relu(self.linear1(x)))
        y: Tensor = self.norm2(x + self.drop2(self.linear2(hidden)))
        return y


class Encoder(nn.Module):
    """A stack of layers without a norm behind it."""

    def __init__(self, count: int, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, ffn, dropout) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, T, width) to the same shape."""
        for layer in self.layers:
            x = layer(x)
        return x


def conv_block(pools: tuple[int, ...], dropout: float) -> nn.Sequential:
    """[3x3 convolution, norm, ReLU, max-pool, dropout] three times, 1 to 64 channels; the source's indices."""
    modules: list[nn.Module] = []
    before = 1
    for channels, pool in zip(_CHANNELS, pools, strict=True):
        modules += [
            nn.Conv2d(before, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(pool),
            nn.Dropout(dropout),
        ]
        before = channels
    return nn.Sequential(*modules)


class ParallelCnnTransformer(nn.Module):
    """Two equal CNNs and a Transformer over one time-frequency map, their outputs side by side into one linear layer.

    Parameters
    ----------
    classes : int
        Number of labels.
    bands, frames : int
        Size of the map.
    conv_pools : tuple of int
        Side of each max-pool of the CNNs.
    transformer_pool : tuple of int
        Bands and frames that one value of a Transformer step covers.
    layers, heads, ffn : int
        Of the Transformer; no layers: no Transformer, only the CNNs.
    dropout, transformer_dropout : float
        Shares dropped in training.
    rescale : bool
        Whether the map is scaled and shifted per band first (buffers ``input_scale``, ``input_shift``). A model that
        was trained with statistics other than the pipeline's, such as one of a cross-validation, carries the
        difference in them.
    """

    input_scale: Tensor
    input_shift: Tensor

    def __init__(
        self,
        classes: int,
        *,
        bands: int = 40,
        frames: int = 282,
        conv_pools: tuple[int, ...] = (2, 4, 4),
        transformer_pool: tuple[int, ...] = (1, 4),
        layers: int = 4,
        heads: int = 4,
        ffn: int = 512,
        dropout: float = 0.3,
        transformer_dropout: float = 0.4,
        rescale: bool = False,
    ) -> None:
        super().__init__()
        self.bands, self.frames, self.rescale = bands, frames, rescale
        height, width = bands, frames
        for pool in conv_pools:
            height, width = height // pool, width // pool
        step = bands // transformer_pool[0]
        if min(height, width, step) < 1 or (layers and step % heads):
            raise ZooError(
                f"ser_cnn_transformer: pools {conv_pools} and {transformer_pool} with {heads} heads "
                f"do not fit a map of {bands} bands x {frames} frames"
            )
        self.conv2Dblock1 = conv_block(conv_pools, dropout)
        self.conv2Dblock2 = conv_block(conv_pools, dropout)
        flat = 2 * _CHANNELS[-1] * height * width
        self.transformer_encoder: Encoder | None = None
        if layers:
            self.transformer_maxpool = nn.MaxPool2d(transformer_pool)
            self.transformer_encoder = Encoder(layers, step, heads, ffn, transformer_dropout)
            flat += step
        self.fc1_linear = nn.Linear(flat, classes)
        if rescale:
            self.register_buffer("input_scale", torch.ones(bands))
            self.register_buffer("input_shift", torch.zeros(bands))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Classify clips.

        Parameters
        ----------
        features : float32, shape (B, frames, bands)
            The map, time first, as the pipeline gives it.

        Returns
        -------
        logits : float32, shape (B, classes)
        probs : float32, shape (B, classes)
            Softmax of the logits.
        """
        if self.rescale:
            features = features * self.input_scale + self.input_shift
        x = features.transpose(1, 2).unsqueeze(1)
        parts = [self.conv2Dblock1(x).flatten(1), self.conv2Dblock2(x).flatten(1)]
        if self.transformer_encoder is not None:
            steps = self.transformer_maxpool(x).squeeze(1).transpose(1, 2)
            parts.append(self.transformer_encoder(steps).mean(dim=1))
        logits: Tensor = self.fc1_linear(torch.cat(parts, dim=1))
        return logits, torch.softmax(logits, dim=1)


def build(config: Mapping[str, object]) -> nn.Module:
    """The network for a card's ``config``: key classes (required) and the other parameters of the network.

    Raises
    ------
    ZooError
        An unknown key, a value of another type, or ``classes`` is missing.
    """
    unknown = sorted(set(config) - _KEYS)
    if unknown or "classes" not in config:
        raise ZooError(
            f"ser_cnn_transformer: config has {sorted(config)}; it needs classes and may have "
            f"{sorted(_KEYS - {'classes'})}"
        )
    values: dict[str, object] = {}
    for key, value in config.items():
        pools = key in ("conv_pools", "transformer_pool")
        if pools and isinstance(value, (list, tuple)) and all(isinstance(side, int) for side in value):
            values[key] = tuple(value)
        elif key == "rescale" and isinstance(value, bool):
            values[key] = value
        elif (
            not pools and key != "rescale" and isinstance(value, (int, float)) and not isinstance(value, bool)
        ):
            values[key] = float(value) if key.endswith("dropout") else int(value)
        else:
            raise ZooError(f"ser_cnn_transformer: config {key} = {value!r} is of the wrong type")
    return ParallelCnnTransformer(**values)  # type: ignore[arg-type]
