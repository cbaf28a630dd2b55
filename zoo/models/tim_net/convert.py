# SPDX-License-Identifier: Apache-2.0
"""Official Keras weights of TIM-Net (HDF5, ``save_weights`` of Keras 2.7) to the state dict of ``model.py``.

Fact sheet 10, section 6. Layout of such a file: the root (or the group ``model_weights`` of a whole saved model)
has the attribute ``layer_names``; each layer is a group with the attribute ``weight_names``, which lists paths of
its arrays inside that group (``conv1d_38/kernel:0``). Names are automatic, with whatever number the process had
reached, so layers of one kind are ordered by that number, which is the order of creation: forward 1x1, backward
1x1, then for each block the two layers of the forward direction and the two of the backward direction. A temporal
block may also be stored as one nested layer with all its arrays; they are then told apart by their own names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError

F32 = NDArray[np.float32]
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_KINDS: Mapping[str, tuple[str, ...]] = {
    "conv1d": ("kernel", "bias"),
    "batch_normalization": _NORM,
    "weight_layer": ("kernel",),
    "dense": ("kernel", "bias"),
}


def convert(path: Path, variant: Any) -> dict[str, F32]:
    """Read an official weight file.

    Parameters
    ----------
    path : Path
        HDF5 file, for instance ``10-fold_weights_best_1.hdf5``.
    variant : zoo.card.Variant
        The variant whose network the file should fit: its ``config`` and ``labels`` are used.

    Returns
    -------
    dict of float32 arrays
        For ``TimNet.load_state_dict(strict=True)``.

    Raises
    ------
    DataError
        The file is no HDF5 weight file, a layer is missing or left over, or an array has another shape; the message
        says what was expected and what was found.
    """
    config = dict(variant.config)
    filters, kernel = int(config.get("filters", 39)), int(config.get("kernel", 2))
    blocks, classes = int(config.get("blocks", 8)), int(config["classes"])
    layers = _read(path)
    expected = {"conv1d": 2 + 4 * blocks, "batch_normalization": 4 * blocks, "weight_layer": 1, "dense": 1}
    for kind, count in expected.items():
        found = len(layers[kind])
        if found != count:
            hint = ""
            if kind == "conv1d" and found > 2 and (found - 2) % 4 == 0:
                hint = f": a network of {(found - 2) // 4} blocks per direction, not {blocks}"
            raise DataError(f"{path}: {variant.name} has {count} {kind} layers, the file has {found}{hint}")
    convs, norms = layers["conv1d"], layers["batch_normalization"]
    head = layers["dense"][0]["kernel"].shape
    if len(head) == 2 and head[1] != classes:
        raise DataError(
            f"{path}: {variant.name} has {classes} classes ({', '.join(variant.labels)}), the file has {head[1]}; "
            "it was trained on another corpus"
        )
    out: dict[str, F32] = {}

    def put(name: str, value: F32, shape: tuple[int, ...], axes: tuple[int, ...] | None = None) -> None:
        if value.shape != shape:
            raise DataError(
                f"{path}: the array for {name} has shape {value.shape}; {variant.name} needs {shape}"
            )
        if not np.isfinite(value).all():
            raise DataError(f"{path}: the array for {name} holds values that are not finite")
        if name.endswith("running_var") and (value < 0).any():
            raise DataError(f"{path}: the array for {name} holds negative variances")
        out[name] = np.ascontiguousarray(value if axes is None else value.transpose(axes))

    def put_conv(name: str, layer: Mapping[str, F32], taps: int) -> None:
        put(f"{name}.weight", layer["kernel"], (taps, filters, filters), (2, 1, 0))
        put(f"{name}.bias", layer["bias"], (filters,))

    put_conv("forward_in", convs[0], 1)
    put_conv("backward_in", convs[1], 1)
    index = 0
    for j in range(blocks):
        for side in ("forward", "backward"):
            for layer in ("1", "2"):
                stem = f"{side}_blocks.{j}."
                put_conv(f"{stem}conv{layer}", convs[2 + index], kernel)
                names = ("weight", "bias", "running_mean", "running_var")
                for ours, theirs in zip(names, _NORM, strict=True):
                    put(f"{stem}bn{layer}.{ours}", norms[index][theirs], (filters,))
                index += 1
    fusion = layers["weight_layer"][0]["kernel"]
    put("fusion", fusion.reshape(-1) if fusion.shape == (blocks, 1) else fusion, (blocks,))
    put("dense.weight", layers["dense"][0]["kernel"], (filters, classes), (1, 0))
    put("dense.bias", layers["dense"][0]["bias"], (classes,))
    return out


def _read(path: Path) -> dict[str, list[dict[str, F32]]]:
    """Layers of each kind, in the order of creation."""
    import h5py

    numbered: dict[str, dict[int, dict[str, F32]]] = {kind: {} for kind in _KINDS}
    try:
        with h5py.File(path, "r") as file:
            for name, value in _arrays(path, file):
                kind, number, array = _identify(path, name)
                layer = numbered[kind].setdefault(number, {})
                if array in layer:
                    raise DataError(f"{path}: {name} occurs twice")
                layer[array] = value
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError) as error:
        raise DataError(f"{path}: not a readable Keras HDF5 weight file: {error}") from error
    for kind, layers in numbered.items():
        for number, layer in layers.items():
            if sorted(layer) != sorted(_KINDS[kind]):
                raise DataError(
                    f"{path}: layer {kind} {number} has the arrays {', '.join(sorted(layer))}; "
                    f"expected {', '.join(_KINDS[kind])}"
                )
    return {kind: [layers[number] for number in sorted(layers)] for kind, layers in numbered.items()}


def _arrays(path: Path, file: Any) -> Iterator[tuple[str, F32]]:
    root = file["model_weights"] if "layer_names" not in file.attrs and "model_weights" in file else file
    if "layer_names" not in root.attrs:
        raise DataError(
            f"{path}: no attribute layer_names, so it is no Keras weight file (save_weights, HDF5)"
        )
    for layer in _texts(root.attrs["layer_names"]):
        group = root[layer]
        for name in _texts(group.attrs["weight_names"]):
            data = group[name]
            size = int(np.prod(data.shape, dtype=np.int64))
            if size > 1 << 20:
                raise DataError(f"{path}: {name} holds {size} numbers, more than any array of this network")
            if data.dtype.kind != "f":
                raise DataError(f"{path}: {name} holds {data.dtype}, expected floating point numbers")
            yield name, np.asarray(data[()], np.float32)


def _texts(values: Any) -> list[str]:
    return [
        value.decode("utf-8") if isinstance(value, bytes) else str(value)
        for value in np.asarray(values).tolist()
    ]


def _identify(path: Path, name: str) -> tuple[str, int, str]:
    """Kind, automatic number and array of ``.../conv1d_38/kernel:0``."""
    parts = name.split("/")
    array = parts[-1].split(":")[0]
    for part in reversed(parts[:-1]):
        match = re.fullmatch(r"([a-z][a-z0-9_]*?)(?:_(\d{1,9}))?", part)
        if match and match[1] in _KINDS:
            if array not in _KINDS[match[1]]:
                raise DataError(f"{path}: {name}: a {match[1]} layer has {', '.join(_KINDS[match[1]])}")
            return match[1], int(match[2] or 0), array
    raise DataError(f"{path}: {name} belongs to no layer of TIM-Net ({', '.join(_KINDS)})")
