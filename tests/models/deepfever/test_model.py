# SPDX-License-Identifier: Apache-2.0
"""The net's contract: shapes, the norm inside the graph, its size; the narrow backbone."""

from __future__ import annotations

import pytest

from zoo import registry
from zoo.errors import ZooError

torch = pytest.importorskip("torch", reason="torch is not installed")

from zoo.models.deepfever.model import TRIPLET, VECTOR, build  # noqa: E402
from zoo.models.neurogaze_distill.model import ResNet  # noqa: E402
from zoo.models.resnet import BasicBlock  # noqa: E402

CONFIG = {"base": 8, "blocks": [1, 2, 1, 1], "classes": 8}


@pytest.mark.parametrize("side", [32, 48, 112])
def test_outputs_have_the_sheets_shapes(side: int) -> None:
    net = build(CONFIG).eval()
    logits, probs, embedding, fec = net(torch.randn(3, 3, side, side))
    assert (logits.shape, probs.shape) == ((3, 8), (3, 8))
    assert (embedding.shape, fec.shape) == ((3, VECTOR), (3, TRIPLET))
    assert torch.allclose(probs, logits.softmax(dim=1))
    assert torch.allclose(fec.norm(dim=1), torch.ones(3), atol=1e-6)


def test_a_vector_of_zeros_has_no_direction_and_no_nan() -> None:
    net = build(CONFIG).eval()
    torch.nn.init.zeros_(net.fec.weight)
    torch.nn.init.zeros_(net.fec.bias)
    assert net(torch.randn(2, 3, 32, 32))[3].tolist() == [[0.0] * TRIPLET] * 2


def test_the_heads_read_the_vector_and_nothing_else() -> None:
    net = build(CONFIG).eval()
    logits, _, embedding, fec = net(torch.randn(2, 3, 32, 32))
    assert torch.allclose(net.expr(embedding), logits)
    assert torch.allclose(torch.nn.functional.normalize(net.fec(embedding)), fec)


def test_every_variant_is_small_enough() -> None:
    card, _ = registry.find("deepfever")
    for variant in card.file.variants:
        size = sum(parameter.numel() for parameter in build(variant.config).parameters())
        assert size <= 2_500_000
        assert variant.config == card.file.variants[0].config  # compared nets differ in nothing but training


def test_the_backbone_is_a_resnet_of_another_width() -> None:
    narrow = ResNet(BasicBlock, (1, 1), 8, stem="3x3", base=16)
    assert narrow.conv1.weight.shape == (16, 3, 3, 3)
    assert narrow.fc.in_features == 32
    assert ResNet(BasicBlock, (1,), 8).conv1.weight.shape == (64, 3, 7, 7)


@pytest.mark.parametrize(
    "change",
    [
        {"base": 0},
        {"blocks": [1, 1, 1]},
        {"blocks": 4},
        {"classes": 1},
        {"classes": True},
        {"width": 2},
        {"base": None},
    ],
)
def test_a_wrong_config_is_told(change: dict[str, object]) -> None:
    with pytest.raises(ZooError, match="it needs base >= 1, blocks of four stages"):
        build({**CONFIG, **change})
