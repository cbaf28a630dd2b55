# SPDX-License-Identifier: Apache-2.0
"""Weights: safetensors only, checked by name and shape against the reference."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from zoo.errors import DataError
from zoo.specs import WeightsStatus

if TYPE_CHECKING:
    from zoo.card import Card, Variant

#: Parameter and buffer names to arrays.
Tensors = Mapping[str, NDArray[Any]]

#: Counters that no inference reads.
IGNORED = ("num_batches_tracked",)


@dataclass(frozen=True)
class Tuned:
    """Weights fine-tuned for INT8, and the activation ranges learned with them (see :mod:`zoo.export.qat`)."""

    tensors: Tensors
    limits: Mapping[str, float]


@dataclass(frozen=True)
class Weights:
    """Weights and where they come from. ``sha256`` is that of the file, or of the generated tensors."""

    tensors: Tensors
    status: WeightsStatus
    source: str
    sha256: str
    own: bool
    """Whether they are the card's own weights, so that the card's figures and folds belong to them."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """INT8 ranges learned with the weights; empty where they come from calibration."""
    folds: Mapping[str, Tuned] = field(default_factory=dict)
    """The card's fold models fine-tuned in the same way; empty where there are none."""


def load_weights(card: Card, variant: Variant, override: Path | None = None) -> Weights:
    """The card's weights, or those of ``override``.

    Raises
    ------
    DataError
        The file is missing, is not safetensors, is of another variant, or does not fit the reference.
    """
    spec = variant.weights
    if override is not None:
        tensors, metadata = read_safetensors(override)
        tensors = _shared(card, variant) | tensors
        _check_metadata(override, metadata, variant)
        folds: dict[str, Tuned] = {}
        tuned = Tuned(tensors, {})
        if "qat" in metadata:
            tuned, folds = _split_tuned(tensors)
        status = metadata.get("status", "trained")
        if status not in get_args(WeightsStatus):
            raise DataError(
                f"{override}: metadata status is {status!r}, not one of {get_args(WeightsStatus)}"
            )
        weights = Weights(
            tuned.tensors,
            cast("WeightsStatus", status),
            metadata.get("source", override.name),
            hashlib.sha256(override.read_bytes()).hexdigest(),
            own=False,
            limits=tuned.limits,
            folds=folds,
        )
        where = str(override)
    elif spec.status == "random":
        if spec.seed is None:
            raise DataError(f"{variant.name}: the card has random weights without a seed; add weights.seed")
        tensors = random_tensors(card, variant, spec.seed)
        digest = hashlib.sha256(save(dict(tensors))).hexdigest()
        weights = Weights(tensors, "random", spec.source or f"random, seed {spec.seed}", digest, own=True)
        where = f"random weights of {variant.name}"
    else:
        if spec.file is None:
            raise DataError(f"{variant.name}: the card names no weights file; give --weights FILE")
        path = card.path(spec.file)
        tensors, _ = read_safetensors(path)
        tensors |= _shared(card, variant)
        content = path.read_bytes() + (
            card.path(spec.shared).read_bytes() if spec.shared is not None else b""
        )
        digest = hashlib.sha256(content).hexdigest()
        weights = Weights(tensors, spec.status, spec.source, digest, own=True)
        where = str(path)
    shapes = reference_shapes(card, variant)
    check_tensors(shapes, weights.tensors, where)
    for group, fold in weights.folds.items():
        check_tensors(shapes, fold.tensors, f"{where}, fold {group}")
    return weights


def _shared(card: Card, variant: Variant) -> dict[str, NDArray[Any]]:
    """Tensors that the variant has in common with others."""
    if variant.weights.shared is None:
        return {}
    return read_safetensors(card.path(variant.weights.shared))[0]


def load_folds(card: Card, variant: Variant) -> dict[str, Tensors]:
    """Held-out group to the weights of the model that has not seen it; empty where the card has none.

    Raises
    ------
    DataError
        The file is missing, or a fold does not fit the reference.
    """
    if variant.folds is None:
        return {}
    path = card.path(variant.folds.file)
    tensors, _ = read_safetensors(path)
    folds: dict[str, dict[str, NDArray[Any]]] = {}
    for key, value in tensors.items():
        parts = key.split("/", 2)
        if len(parts) != 3 or parts[0] != "fold":
            raise DataError(f"{path}: key {key!r} is not fold/<group>/<parameter>")
        folds.setdefault(parts[1], {})[parts[2]] = value
    shapes = reference_shapes(card, variant)
    for group, fold in folds.items():
        check_tensors(shapes, fold, f"{path}, fold {group}")
    return dict(sorted(folds.items()))


def read_safetensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Tensors in name order, and the file's metadata.

    ``zoo train`` and ``zoo convert`` write theirs as one JSON object under the key ``zoo``: safetensors keeps
    several keys in no fixed order, so equal files would differ.

    Raises
    ------
    DataError
        Missing or not safetensors.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            about = json.loads(metadata.pop("zoo", "{}"))
            metadata.update({key: str(value) for key, value in about.items()})
            return {name: file.get_tensor(name) for name in sorted(file.keys())}, metadata
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a readable safetensors file: {error}") from error


def reference_shapes(card: Card, variant: Variant) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the reference's parameters and buffers."""
    state = card.build(variant.config).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith(IGNORED)}


def random_tensors(card: Card, variant: Variant, seed: int) -> dict[str, NDArray[Any]]:
    """The reference's own initial values after seeding torch; the global random state is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = card.build(variant.config).state_dict()
    kept = {name: tensor for name, tensor in state.items() if not name.endswith(IGNORED)}
    return {name: np.array(kept[name].numpy()) for name in sorted(kept)}


def check_tensors(shapes: Mapping[str, tuple[int, ...]], tensors: Tensors, where: str) -> None:
    """Compare names and shapes, and refuse values that are not finite.

    Raises
    ------
    DataError
        Names the first tensors that are missing, unknown, of another shape or not finite.
    """
    missing = sorted(set(shapes) - set(tensors))
    unknown = sorted(name for name in set(tensors) - set(shapes) if not name.endswith(IGNORED))
    wrong = [
        f"{name} has shape {tensors[name].shape}, the model has {shape}"
        for name, shape in shapes.items()
        if name in tensors and tensors[name].shape != shape
    ]
    problems = [f"{_few(missing)} missing"] if missing else []
    problems += [f"{_few(unknown)} unknown to the model"] if unknown else []
    problems += [_few(wrong)] if wrong else []
    problems += [
        f"{name} is not finite"
        for name in shapes
        if name in tensors
        and np.issubdtype(tensors[name].dtype, np.floating)
        and not np.isfinite(tensors[name]).all()
    ][:1]
    if problems:
        raise DataError(f"{where}: these weights do not fit the model: {'; '.join(problems)}")


def build_reference(card: Card, variant: Variant, tensors: Tensors) -> Any:
    """The PyTorch reference in evaluation mode with these weights. The tensors must have been checked."""
    import torch

    net = card.build(variant.config)
    state = net.state_dict()
    for name, tensor in state.items():
        if name in tensors:
            state[name] = torch.from_numpy(np.array(tensors[name])).to(tensor.dtype)
    net.load_state_dict(state)
    return net.eval()


def _split_tuned(tensors: Tensors) -> tuple[Tuned, dict[str, Tuned]]:
    """The model and its folds in a file of ``zoo train --qat``: ``[fold/<group>/]<parameter>`` and ``...int8/<tensor>``."""
    arrays: dict[str, dict[str, NDArray[Any]]] = {"": {}}
    limits: dict[str, dict[str, float]] = {"": {}}
    for key, value in tensors.items():
        group, name = "", key
        if key.startswith("fold/") and key.count("/") >= 2:
            _, group, name = key.split("/", 2)
        if name.startswith("int8/"):
            limits.setdefault(group, {})[name.removeprefix("int8/")] = float(value)
        else:
            arrays.setdefault(group, {})[name] = value
    found = {group: Tuned(own, limits.get(group, {})) for group, own in sorted(arrays.items())}
    return found.pop(""), found


def _check_metadata(path: Path, metadata: Mapping[str, str], variant: Variant) -> None:
    found = metadata.get("variant")
    if found is not None and found != variant.name:
        raise DataError(
            f"{path}: these weights are of {found}, not of {variant.name}; "
            f"export them with: zoo export {found} --weights {path}"
        )


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
