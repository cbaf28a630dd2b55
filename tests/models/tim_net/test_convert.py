# SPDX-License-Identifier: Apache-2.0
"""Official Keras files do not lie in this repository: the test writes one in their layout (sheet 10, section 6)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from zoo.errors import DataError
from zoo.models.tim_net.convert import convert
from zoo.models.tim_net.model import TimNet, build

h5py = pytest.importorskip("h5py")
VARIANT = SimpleNamespace(
    name="tim-net-test", labels=("a", "b", "c", "d", "e", "f", "g"), config={"classes": 7, "blocks": 8}
)


def random_net(classes: int = 7, blocks: int = 8) -> TimNet:
    net = build({"classes": classes, "blocks": blocks})
    assert isinstance(net, TimNet)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            value.copy_(
                torch.rand(value.shape, generator=generator) * 0.4 + (0.5 if "running_var" in name else -0.2)
            )
    return net.eval()


def keras_layers(net: TimNet, offset: int) -> list[tuple[str, list[tuple[str, np.ndarray]]]]:
    """Layers in the order of creation with Keras' automatic names, counted on from ``offset``."""
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    counts: dict[str, int] = {}

    def auto(kind: str) -> str:
        number = counts.get(kind, offset)
        counts[kind] = number + 1
        return f"{kind}_{number}" if number else kind

    layers = []

    def conv(stem: str) -> None:
        name = auto("conv1d")
        kernel = state[f"{stem}.weight"].transpose(2, 1, 0)
        layers.append((name, [(f"{name}/kernel:0", kernel), (f"{name}/bias:0", state[f"{stem}.bias"])]))

    conv("forward_in")
    conv("backward_in")
    for j in range(len(net.forward_blocks)):
        for side in ("forward", "backward"):
            for layer in "12":
                stem = f"{side}_blocks.{j}."
                conv(f"{stem}conv{layer}")
                name = auto("batch_normalization")
                pairs = zip(
                    ("gamma", "beta", "moving_mean", "moving_variance"),
                    ("weight", "bias", "running_mean", "running_var"),
                    strict=True,
                )
                arrays = [(f"{name}/{theirs}:0", state[f"{stem}bn{layer}.{ours}"]) for theirs, ours in pairs]
                layers += [(name, arrays), (f"activation_{len(layers)}", [])]
    layers.append(("weight_layer", [("weight_layer/kernel:0", state["fusion"][:, None])]))
    name = auto("dense")
    layers.append(
        (name, [(f"{name}/kernel:0", state["dense.weight"].T), (f"{name}/bias:0", state["dense.bias"])])
    )
    return layers


def write(
    path: Path,
    net: TimNet,
    *,
    offset: int = 0,
    nested: bool = False,
    root: str = "",
    change: Callable[[dict[str, np.ndarray]], None] | None = None,
) -> Path:
    """An HDF5 file as ``Model.save_weights`` of Keras 2.7 lays it out."""
    layers = keras_layers(net, offset)
    rng = np.random.default_rng(0)
    if nested:  # as one layer that holds everything but the head
        inner = [array for name, arrays in layers[:-2] for array in arrays]
        layers = [("tim_net", [(f"tim_net/{name}", value) for name, value in inner]), *layers[-2:]]
    if change:
        arrays = {name: value for _, entries in layers for name, value in entries}
        before = set(arrays)
        change(arrays)
        layers = [
            (name, [(key, arrays[key]) for key, _ in entries if key in arrays]) for name, entries in layers
        ]
        extra = [(key, arrays[key]) for key in arrays if key not in before]
        layers += [("extra", extra)] if extra else []
    with h5py.File(path, "w") as file:
        group = file.create_group(root) if root else file
        order = rng.permutation(len(layers))  # the graph's order is not the order of creation
        group.attrs["layer_names"] = [layers[i][0].encode() for i in order]
        group.attrs["backend"] = b"tensorflow"
        group.attrs["keras_version"] = b"2.7.0"
        for name, entries in layers:
            layer = group.create_group(name)
            layer.attrs["weight_names"] = [key.encode() for key, _ in entries]
            for key, value in entries:
                layer.create_dataset(key, data=value)
    return path


@pytest.mark.parametrize(
    ("offset", "nested", "root"),
    [(0, False, ""), (38, False, ""), (9, True, ""), (0, False, "model_weights")],
)
def test_round_trip(tmp_path: Path, offset: int, nested: bool, root: str) -> None:
    net = random_net()
    state = convert(write(tmp_path / "w.hdf5", net, offset=offset, nested=nested, root=root), VARIANT)
    assert all(value.dtype == np.float32 for value in state.values())
    copy = build(VARIANT.config).eval()
    copy.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    x = torch.randn(2, 50, 39, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert (net(x)[0] - copy(x)[0]).abs().max() <= 1e-6


def drop(name: str) -> Callable[[dict[str, np.ndarray]], None]:
    return lambda arrays: arrays.__delitem__(name)


def put(name: str, value: np.ndarray) -> Callable[[dict[str, np.ndarray]], None]:
    return lambda arrays: arrays.__setitem__(name, value)


ZEROS = np.zeros
BAD = {
    "array missing": (drop("conv1d_7/bias:0"), "layer conv1d 7 has the arrays kernel; expected kernel, bias"),
    "head missing": (drop("weight_layer/kernel:0"), "1 weight_layer layers, the file has 0"),
    "kernel of three taps": (
        put("conv1d_7/kernel:0", ZEROS((3, 39, 39))),
        r"has shape \(3, 39, 39\).*needs \(2, 39, 39\)",
    ),
    "transposed": (put("conv1d/kernel:0", ZEROS((39, 39, 1))), r"forward_in\.weight has shape \(39, 39, 1\)"),
    "other fusion": (
        put("weight_layer/kernel:0", ZEROS((10, 1))),
        r"fusion has shape \(10, 1\).*needs \(8,\)",
    ),
    "left over": (put("lstm_1/kernel:0", ZEROS(3)), "lstm_1/kernel:0 belongs to no layer"),
    "odd array": (put("dense/gamma:0", ZEROS(3)), "a dense layer has kernel, bias"),
    "one more dense": (put("dense_1/kernel:0", ZEROS((39, 7))), "layer dense 1 has the arrays kernel"),
    "not a number": (
        put("dense/bias:0", np.full(7, np.nan)),
        r"dense\.bias holds values that are not finite",
    ),
    "negative variance": (
        put("batch_normalization/moving_variance:0", np.full(39, -1.0)),
        "negative variances",
    ),
    "integers": (put("dense/bias:0", ZEROS(7, np.int32)), "dense/bias:0 holds int32"),
    "huge": (put("dense/kernel:0", ZEROS((2000, 1000), np.float32)), "2000000 numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(tmp_path: Path, case: str) -> None:
    change, match = BAD[case]
    with pytest.raises(DataError, match=match):
        convert(write(tmp_path / "w.hdf5", random_net(), change=change), VARIANT)


def test_weights_of_another_corpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 7 classes \(a, b, c, d, e, f, g\), the file has 6"):
        convert(write(tmp_path / "w.hdf5", random_net(classes=6)), VARIANT)
    with pytest.raises(
        DataError, match="34 conv1d layers, the file has 42: a network of 10 blocks per direction, not 8"
    ):
        convert(write(tmp_path / "w.hdf5", random_net(blocks=10)), VARIANT)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a readable Keras HDF5"):
        convert(tmp_path / "missing.hdf5", VARIANT)
    (tmp_path / "text.hdf5").write_text("weights")
    with pytest.raises(DataError, match="not a readable Keras HDF5"):
        convert(tmp_path / "text.hdf5", VARIANT)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1.0]
    with pytest.raises(DataError, match="no attribute layer_names"):
        convert(tmp_path / "other.h5", VARIANT)


def test_damaged_files_never_do_more_than_raise(tmp_path: Path) -> None:
    path = write(tmp_path / "w.hdf5", random_net())
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    expected = convert(path, VARIANT)
    broken = tmp_path / "broken.hdf5"
    for cut in rng.integers(0, len(whole), 15):
        broken.write_bytes(whole[:cut])
        with pytest.raises(DataError):
            convert(broken, VARIANT)
    for at in rng.integers(0, len(whole), 25):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        broken.write_bytes(damaged)
        try:
            state = convert(broken, VARIANT)
        except DataError:
            continue
        assert {name: value.shape for name, value in state.items()} == {
            name: value.shape for name, value in expected.items()
        }
