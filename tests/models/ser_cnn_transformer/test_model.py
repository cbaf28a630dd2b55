# SPDX-License-Identifier: Apache-2.0
"""Oracle: the sheet's network put together from PyTorch's own modules, loaded with the same names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.models.ser_cnn_transformer.model import ParallelCnnTransformer, build

# classes, map, pools of the CNNs and the Transformer; parameters counted by hand from the sheet:
# a CNN has 160 + 32 + 4640 + 64 + 18496 + 128 = 23520; a layer of width d has 4 d d + 1024 d + 9 d + 512
NETWORKS = {
    "sheet": ({"classes": 8}, (282, 40), 1064, 2 * 23520 + 4 * (6400 + 40960 + 360 + 512) + 1065 * 8),
    "emodb": (
        {"classes": 7, "frames": 188, "rescale": True},
        (188, 40),
        680,
        2 * 23520 + 4 * (6400 + 40960 + 360 + 512) + 681 * 7,
    ),
    "mel": (
        {"classes": 8, "bands": 128, "frames": 563, "conv_pools": [2, 8, 8], "transformer_pool": [2, 4]},
        (563, 128),
        576,
        2 * 23520 + 4 * (16384 + 65536 + 576 + 512) + 577 * 8,
    ),
    "cnn": ({"classes": 8, "layers": 0}, (282, 40), 1024, 2 * 23520 + 1025 * 8),
}


class Oracle(nn.Module):
    """The sheet's part A, with ``nn.TransformerEncoder``."""

    def __init__(self, net: ParallelCnnTransformer, config: dict[str, object]) -> None:
        super().__init__()
        pools = config.get("conv_pools", [2, 4, 4])
        for name in ("conv2Dblock1", "conv2Dblock2"):
            parts: list[nn.Module] = []
            for before, after, pool in zip((1, 16, 32), (16, 32, 64), pools, strict=True):  # type: ignore[call-overload]
                parts += [
                    nn.Conv2d(before, after, kernel_size=3, stride=1, padding=1),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                    nn.MaxPool2d(kernel_size=pool, stride=pool),
                    nn.Dropout(0.3),
                ]
            setattr(self, name, nn.Sequential(*parts))
        self.pool = nn.MaxPool2d(tuple(config.get("transformer_pool", [1, 4])))  # type: ignore[arg-type]
        width = net.fc1_linear.in_features % 64 or 64
        if net.transformer_encoder is not None:
            layer = nn.TransformerEncoderLayer(
                width, nhead=4, dim_feedforward=512, dropout=0.4, activation="relu"
            )
            self.transformer_encoder = nn.TransformerEncoder(layer, num_layers=4, enable_nested_tensor=False)
        self.fc1_linear = nn.Linear(net.fc1_linear.in_features, net.fc1_linear.out_features)

    def forward(self, x: Tensor) -> Tensor:
        parts = [
            torch.flatten(self.conv2Dblock1(x), start_dim=1),
            torch.flatten(self.conv2Dblock2(x), start_dim=1),
        ]
        if hasattr(self, "transformer_encoder"):
            steps = torch.squeeze(self.pool(x), 1).permute(2, 0, 1)  # time, batch, width
            parts.append(torch.mean(self.transformer_encoder(steps), dim=0))
        out: Tensor = self.fc1_linear(torch.cat(parts, dim=1))
        return out


def random_net(config: dict[str, object], seed: int = 0) -> ParallelCnnTransformer:
    """A network in inference mode whose every parameter and statistic is away from its initial value."""
    generator = torch.Generator().manual_seed(seed)
    net = build(config)
    assert isinstance(net, ParallelCnnTransformer)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point() and not name.startswith("input_"):
                noise = torch.rand(value.shape, generator=generator) - 0.5
                value.copy_(
                    0.5 + value.abs() + noise if name.endswith("running_var") else value + 0.1 * noise
                )
    return net.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_and_parameter_counts(name: str) -> None:
    config, (frames, bands), features, parameters = NETWORKS[name]
    net = random_net(config)
    assert net.fc1_linear.in_features == features
    assert sum(value.numel() for value in net.parameters()) == parameters
    with torch.no_grad():
        logits, probs = net(torch.randn(2, frames, bands))
    assert logits.shape == probs.shape == (2, config["classes"])
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_equals_the_sheets_network_of_pytorchs_own_modules(name: str) -> None:
    config, (frames, bands), _, _ = NETWORKS[name]
    net = random_net(config)
    oracle = Oracle(net, config).eval()
    state = {key: value for key, value in net.state_dict().items() if not key.startswith("input_")}
    oracle.load_state_dict(state, strict=True)
    x = torch.randn(3, frames, bands, generator=torch.Generator().manual_seed(1)) * 2
    with torch.no_grad():
        found, wanted = net(x)[0], oracle(x.transpose(1, 2)[:, None])
        again = net.train()(x)[0]
    # float32 sums in another order
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, again, atol=1e-2)  # training drops values


def test_a_batch_equals_its_items() -> None:
    net = random_net({"classes": 7, "frames": 188})
    x = torch.randn(5, 188, 40)
    with torch.no_grad():
        together = net(x)[0]
        alone = torch.cat([net(row[None])[0] for row in x])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_rescale_is_a_scale_and_a_shift_of_each_band() -> None:
    config: dict[str, object] = {"classes": 7, "frames": 188, "rescale": True}
    net = random_net(config)
    x = torch.randn(2, 188, 40)
    with torch.no_grad():
        scale, shift = torch.rand(40) + 0.5, torch.randn(40)
        wanted = net(x * scale + shift)[0]
        net.input_scale.copy_(scale)
        net.input_shift.copy_(shift)
        torch.testing.assert_close(net(x)[0], wanted)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "needs classes"),
        ({"classes": 7, "depth": 3}, "config has .*depth"),
        ({"classes": "7"}, "classes = '7' is of the wrong type"),
        ({"classes": 7, "rescale": 1}, "rescale = 1 is of the wrong type"),
        ({"classes": 7, "conv_pools": 4}, "conv_pools = 4 is of the wrong type"),
        ({"classes": 7, "frames": 31}, "do not fit a map of 40 bands x 31 frames"),
        ({"classes": 7, "heads": 3}, "with 3 heads do not fit"),
    ],
)
def test_what_cannot_be_built_is_said(config: dict[str, object], message: str) -> None:
    with pytest.raises(ZooError, match=message):
        build(config)
