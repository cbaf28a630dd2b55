# SPDX-License-Identifier: Apache-2.0
"""Oracle: a slow implementation in numpy float64, written from sheet 10 frame by frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from zoo.errors import ZooError
from zoo.models.tim_net.model import BatchNorm, CausalConv, TimNet, build

F64 = NDArray[np.float64]
CORPORA = {  # classes, blocks, trainable, with batch-norm statistics (sheet 10, section 2)
    "casia": (6, 8, 104456, 106952),
    "emodb": (7, 8, 104496, 106992),
    "emovo": (7, 8, 104496, 106992),
    "savee": (7, 8, 104496, 106992),
    "ravdess": (8, 8, 104536, 107032),
    "iemocap": (4, 10, 129650, 132770),
}


def random_net(classes: int = 7, blocks: int = 8, seed: int = 0) -> TimNet:
    """A network in inference mode whose every parameter and statistic is away from its initial value."""
    net = build({"classes": classes, "blocks": blocks})
    assert isinstance(net, TimNet)
    generator = torch.Generator().manual_seed(seed)
    net.reset_parameters(generator)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            noise = torch.rand(value.shape, generator=generator) - 0.5
            value.copy_(0.5 + value.abs() + noise if name.endswith("running_var") else value + 0.2 * noise)
    return net.eval()


def slow(net: TimNet, features: F64) -> F64:
    """Logits of one clip (T, 39), by the sheet's formulas and with loops over frames."""
    state = {name: value.double().numpy() for name, value in net.state_dict().items()}
    frames, channels = features.shape

    def gate(side: str, j: int, z: F64) -> F64:
        x = z
        for layer in "12":
            stem = f"{side}_blocks.{j}."
            kernel, bias = state[f"{stem}conv{layer}.weight"], state[f"{stem}conv{layer}.bias"]
            y = np.zeros((frames, channels))
            for t in range(frames):
                past = x[t - 2**j] if t >= 2**j else np.zeros(channels)
                y[t] = kernel[:, :, 0] @ past + kernel[:, :, 1] @ x[t] + bias
            norm = f"{stem}bn{layer}."
            y = (y - state[f"{norm}running_mean"]) / np.sqrt(state[f"{norm}running_var"] + 1e-3)
            x = np.maximum(y * state[f"{norm}weight"] + state[f"{norm}bias"], 0)
        return z * (1 / (1 + np.exp(-x)))

    u = np.stack([state["forward_in.weight"][:, :, 0] @ row + state["forward_in.bias"] for row in features])
    v = np.stack(
        [state["backward_in.weight"][:, :, 0] @ row + state["backward_in.bias"] for row in features[::-1]]
    )
    z = np.zeros(channels)
    for j, weight in enumerate(state["fusion"]):
        u, v = gate("forward", j, u), gate("backward", j, v)
        z += weight * (u.mean(axis=0) + v.mean(axis=0))
    return np.asarray(state["dense.weight"] @ z + state["dense.bias"])


@pytest.mark.parametrize("corpus", CORPORA)
def test_parameter_counts(corpus: str) -> None:
    classes, blocks, trainable, total = CORPORA[corpus]
    net = build({"classes": classes, "blocks": blocks})
    assert sum(p.numel() for p in net.parameters()) == trainable
    assert sum(value.numel() for value in net.state_dict().values()) == total


@pytest.mark.parametrize(("blocks", "frames"), [(8, 87), (8, 300), (10, 20), (3, 1)])
def test_equals_the_slow_implementation(blocks: int, frames: int) -> None:
    net = random_net(5, blocks)
    features = np.random.default_rng(frames).standard_normal((2, frames, 39)) * 10
    with torch.no_grad():
        logits, probs = net(torch.from_numpy(features.astype(np.float32)))
    expected = np.stack([slow(net, clip) for clip in features.astype(np.float32).astype(np.float64)])
    assert np.abs(logits.numpy() - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    shares = np.exp(expected - expected.max(axis=1, keepdims=True))
    np.testing.assert_allclose(probs.numpy(), shares / shares.sum(axis=1, keepdims=True), atol=1e-5)


def test_direction_matters_and_a_clip_is_itself_in_any_batch() -> None:
    net = random_net()
    x = torch.randn(4, 60, 39, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = net(x)[0]
        assert torch.allclose(logits[2:3], net(x[2:3])[0], atol=1e-5)
        assert not torch.allclose(logits, net(x.flip(1))[0], atol=1e-3)
        swapped = random_net()
        swapped.forward_in, swapped.backward_in = net.backward_in, net.forward_in
        swapped.forward_blocks, swapped.backward_blocks = net.backward_blocks, net.forward_blocks
        assert torch.allclose(logits, swapped(x.flip(1))[0], atol=1e-5)


def test_convolution_is_causal() -> None:
    conv = CausalConv(39, 39, 2, dilation=4)
    x = torch.randn(1, 39, 30, generator=torch.Generator().manual_seed(1))
    changed = x.clone()
    changed[:, :, 17:] += 1
    with torch.no_grad():
        a, b = conv(x), conv(changed)
    assert a.shape == x.shape
    assert torch.equal(a[:, :, :17], b[:, :, :17])
    assert not torch.allclose(a[:, :, 17:], b[:, :, 17:])


def test_gate_scales_by_half_to_one() -> None:
    block = random_net().forward_blocks[2]
    z = torch.randn(2, 39, 30, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ratio = block(z) / z
    assert ratio.min() >= 0.5 - 1e-6
    assert ratio.max() < 1 + 1e-6


def test_batch_norm_keeps_the_biased_variance_as_keras_does() -> None:
    norm = BatchNorm(3).train()
    x = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1)) * 3 + 1
    y = norm(x)
    values = x.numpy().transpose(1, 0, 2).reshape(3, -1)
    mean, var = values.mean(axis=1), values.var(axis=1)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.01 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.99 + 0.01 * var, rtol=1e-5)
    expected = (x.numpy() - mean[None, :, None]) / np.sqrt(var + 1e-3)[None, :, None]
    np.testing.assert_allclose(y.detach().numpy(), expected, atol=1e-5)


def test_initial_values_are_those_of_keras() -> None:
    net = build({"classes": 7})
    assert isinstance(net, TimNet)
    bound = float(np.sqrt(6 / (2 * 39 + 2 * 39)))  # Glorot: fan in and out are kernel * channels
    weight = net.forward_blocks[0].get_parameter("conv1.weight")
    assert 0.9 * bound < weight.abs().max() <= bound
    assert net.fusion.abs().max() <= 0.05
    assert not net.forward_in.bias.any()


def test_folding_the_norms_keeps_the_function() -> None:
    net = random_net()
    folded = net.fold()
    assert not any(isinstance(module, BatchNorm) for module in folded.modules())
    assert any(isinstance(module, BatchNorm) for module in net.modules())
    x = torch.randn(3, 87, 39, generator=torch.Generator().manual_seed(1)) * 20
    with torch.no_grad():
        a, b = net(x)[0], folded(x)[0]
    assert (a - b).abs().max() <= 1e-5 * a.abs().max()
    assert torch.equal(folded.fold()(x)[0], b)


@pytest.mark.parametrize("fold", [False, True])
def test_exports_to_onnx_with_free_batch_and_time(fold: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    net = random_net(blocks=2)
    path = tmp_path / "net.onnx"
    torch.onnx.export(
        net.fold() if fold else net,
        (torch.randn(2, 87, 39),),
        path,
        dynamo=True,
        opset_version=20,
        input_names=["features"],
        output_names=["logits", "probs"],
        dynamic_shapes=(
            {0: torch.export.Dim("batch", min=1, max=64), 1: torch.export.Dim("time", min=1, max=4000)},
        ),
        verbose=False,
    )
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch, frames in ((1, 87), (3, 188), (5, 2), (1, 700)):
        x = torch.randn(batch, frames, 39, generator=torch.Generator().manual_seed(frames)) * 10
        with torch.no_grad():
            expected = net(x)
        found = session.run(["logits", "probs"], {"features": x.numpy()})
        for a, b in zip(expected, found, strict=True):
            assert np.abs(a.numpy() - b).max() <= 1e-5 * max(1.0, float(a.abs().max()))


@pytest.mark.parametrize("config", [{}, {"classes": 7, "depth": 3}, {"classes": "7"}])
def test_build_refuses_odd_configs(config: dict[str, object]) -> None:
    with pytest.raises(ZooError, match="config"):
        build(config)
