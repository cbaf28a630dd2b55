# SPDX-License-Identifier: Apache-2.0
"""The published encoder and head, put together from transformers' class, in the published size or a small one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.models.emotion_age_country.model import Config

SMALL = Config(layers=3, width=64, heads=4, ffn=96, channels=32, position_kernel=16, position_groups=4)
#: As a card's ``config``.
SMALL_CONFIG = {
    "layers": 3,
    "width": 64,
    "heads": 4,
    "ffn": 96,
    "channels": 32,
    "position_kernel": 16,
    "position_groups": 4,
}


class RegressionHead(nn.Module):
    """Dropout, dense, tanh, dropout, out_proj."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)
        self.out_proj = nn.Linear(width, 3)

    def forward(self, features: Tensor) -> Tensor:
        x = torch.tanh(self.dense(self.dropout(features)))
        values: Tensor = self.out_proj(self.dropout(x))
        return values


class Official(nn.Module):
    """Random weights, none of them zero or one, on transformers' ``Wav2Vec2Model``."""

    def __init__(self, config: Config, seed: int = 1) -> None:
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.wav2vec2 = Wav2Vec2Model(
                Wav2Vec2Config(
                    hidden_size=config.width,
                    num_hidden_layers=config.layers,
                    num_attention_heads=config.heads,
                    intermediate_size=config.ffn,
                    conv_dim=(config.channels,) * 7,
                    conv_bias=True,
                    feat_extract_norm="layer",
                    do_stable_layer_norm=True,
                    num_conv_pos_embeddings=config.position_kernel,
                    num_conv_pos_embedding_groups=config.position_groups,
                    attn_implementation="eager",
                )
            )
            self.classifier = RegressionHead(config.width)
            with torch.no_grad():
                for value in self.parameters():
                    value.add_(0.05 * torch.randn_like(value))
        self.eval()

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        states = self.wav2vec2(signal)[0].mean(dim=1)
        return states, self.classifier(states)


def older_spelling(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with the weight norm's names of older torch, as the official file has them."""
    return {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in state.items()
    }
