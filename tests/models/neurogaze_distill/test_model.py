# SPDX-License-Identifier: Apache-2.0
"""The students: the sheet's sizes, names as torchvision's, features and logits that go together."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.errors import ZooError

torch = pytest.importorskip("torch", reason="torch is not installed")

from zoo.models.neurogaze_distill.model import build  # noqa: E402


@pytest.mark.parametrize(
    ("config", "parameters", "width"),
    [
        ({"arch": "resnet18", "classes": 8}, 11_180_616, 512),
        ({"arch": "resnet50", "classes": 8}, 23_524_424, 2048),
        # The 3x3 stem has 64 * 3 * (49 - 9) fewer.
        ({"arch": "resnet18", "classes": 8, "stem": "3x3"}, 11_180_616 - 7680, 512),
        ({"arch": "resnet18", "classes": 8, "stem": "3x3", "base": 28}, 2_142_372, 224),
    ],
)
def test_the_sheets_numbers_of_parameters(config: dict, parameters: int, width: int) -> None:
    net = build(config).eval()
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters
    with torch.no_grad():
        logits, probs, embedding = net(torch.randn(2, 3, 48, 48))
    assert embedding.shape == (2, width)
    assert torch.allclose(logits, net.fc(embedding), atol=1e-6)
    assert torch.allclose(probs, torch.softmax(logits, dim=1))


def torchvision_names(bottleneck: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's resnet18 and resnet50, written down from its published code."""
    counts, expansion = ((3, 4, 6, 3), 4) if bottleneck else ((2, 2, 2, 2), 1)
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    shapes["conv1.weight"] = (64, 3, 7, 7)
    norm("bn1", 64)
    before = 64
    for stage, count in enumerate(counts, 1):
        width = 32 * 2**stage
        for i in range(count):
            name = f"layer{stage}.{i}"
            if bottleneck:
                kernels = [(width, before, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            else:
                kernels = [(width, before, 3, 3), (width, width, 3, 3)]
            for k, kernel in enumerate(kernels, 1):
                shapes[f"{name}.conv{k}.weight"] = kernel
                norm(f"{name}.bn{k}", kernel[0])
            if i == 0 and (stage > 1 or bottleneck):
                shapes[f"{name}.downsample.0.weight"] = (expansion * width, before, 1, 1)
                norm(f"{name}.downsample.1", expansion * width)
            before = expansion * width
    shapes["fc.weight"], shapes["fc.bias"] = (8, before), (8,)
    return shapes


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_parameters_are_named_as_torchvisions(arch: str) -> None:
    state = build({"arch": arch, "classes": 8}).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == torchvision_names(
        arch == "resnet50"
    )


def test_a_basic_block_is_two_convolutions_beside_a_shortcut() -> None:
    """Against the same sums written with numpy, at one pixel of an image of 3 x 3."""
    from zoo.models.resnet import BasicBlock

    torch.manual_seed(0)
    block = BasicBlock(2, 3, 2).double().eval()
    with torch.no_grad():
        for module in block.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
        x = torch.randn(1, 2, 3, 3, dtype=torch.float64)
        found = block(x)[0].numpy()

    def conv(image: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
        pad = weight.shape[2] // 2
        padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
        size = (image.shape[1] - 1) // stride + 1
        out = np.zeros((len(weight), size, size))
        for o, i, j in np.ndindex(out.shape):
            part = padded[:, i * stride :, j * stride :][:, : weight.shape[2], : weight.shape[3]]
            out[o, i, j] = (part * weight[o]).sum()
        return out

    def norm(image: np.ndarray, bn: torch.nn.BatchNorm2d) -> np.ndarray:
        mean, var, weight, bias = (
            t.detach().numpy()[:, None, None] for t in (bn.running_mean, bn.running_var, bn.weight, bn.bias)
        )
        return (image - mean) / np.sqrt(var + bn.eps) * weight + bias

    image = x[0].numpy()
    inner = np.maximum(norm(conv(image, block.conv1.weight.detach().numpy(), 2), block.bn1), 0)
    deep = norm(conv(inner, block.conv2.weight.detach().numpy(), 1), block.bn2)
    side = norm(conv(image, block.downsample[0].weight.detach().numpy(), 2), block.downsample[1])
    assert found == pytest.approx(np.maximum(deep + side, 0), abs=1e-10)


@pytest.mark.parametrize(
    "config",
    [
        {"arch": "resnet18"},
        {"arch": "resnet34", "classes": 8},
        {"arch": "resnet18", "classes": 8, "base": 2},
        {"arch": "resnet18", "classes": 8, "base": True},
        {"arch": "resnet18", "classes": 8, "stem": "5x5"},
        {"arch": "resnet18", "classes": True},
        {"arch": "resnet18", "classes": 8, "dropout": 1.0},
        {"arch": "resnet18", "classes": 8, "width": 64},
    ],
)
def test_another_config_is_refused(config: dict) -> None:
    with pytest.raises(ZooError, match="it needs arch"):
        build(config)
