# SPDX-License-Identifier: Apache-2.0
"""The two official state dicts (PyTorch ``.pkl``, plain ``OrderedDict``) to the state dict of ``model.py``.

Fact sheet 06, part A. Neither fits the network that the source's code builds: one has a Transformer of width 64 and
the head of a 128 x 563 map, the other has no Transformer at all. Each is a variant of its own in the card. Names are
the same as ours, so this is a check, with an answer in words where a file is of another variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.models.ser_cnn_transformer.model import build

F32 = NDArray[np.float32]
_LARGEST = 64 << 20  # bytes; the official files have 0.2 and 1.6 MB


def convert(path: Path, variant: Any) -> dict[str, F32]:
    """Read an official weight file; nothing in it is executed.

    Parameters
    ----------
    path : Path
        ``parallel_all_you_want-119.pkl``, ``parallel_all_you_wantFINAL-429.pkl``, or a state dict of that layout.
    variant : zoo.card.Variant
        The variant whose network the file should fit: its ``config`` is used.

    Returns
    -------
    dict of float32 arrays
        For ``ParallelCnnTransformer.load_state_dict(strict=True)``; counters of batches are left out.

    Raises
    ------
    DataError
        The file is no state dict, or is one of another network; the message says what was expected and what was found.
    """
    found = _read(path)
    wanted = {
        key: tuple(value.shape)
        for key, value in build(variant.config).state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    if not any(key.startswith("conv2Dblock1.") for key in found):
        raise DataError(f"{path}: holds no conv2Dblock1, so it is no state dict of this model")
    ours, theirs = _outline(wanted), _outline({key: value.shape for key, value in found.items()})
    if ours != theirs:
        raise DataError(f"{path}: {variant.name} has {ours}; the file has {theirs}")
    problems = [f"no {key}" for key in sorted(wanted.keys() - found.keys())]
    problems += [f"{key}, which the model has not" for key in sorted(found.keys() - wanted.keys())]
    problems += [
        f"{key} of shape {found[key].shape}, not {shape}"
        for key, shape in wanted.items()
        if key in found and found[key].shape != shape
    ]
    problems += [f"values in {key} that are not finite" for key in found if not np.isfinite(found[key]).all()]
    problems += [
        f"negative variances in {key}"
        for key in found
        if key.endswith("running_var") and (found[key] < 0).any()
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError(f"{path}: does not fit {variant.name}: it has {'; '.join(problems[:3])}{more}")
    return found


def _outline(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What tells the networks apart, in words."""
    layers = {key.split(".")[2] for key in shapes if key.startswith("transformer_encoder.layers.")}
    width = shapes.get("transformer_encoder.layers.0.norm1.weight", (0,))
    encoder = f"{len(layers)} Transformer layers of width {width[0]}" if layers else "no Transformer"
    return f"{encoder} and a last layer of shape {tuple(shapes.get('fc1_linear.weight', ()))}"


def _read(path: Path) -> dict[str, F32]:
    size = path.stat().st_size
    if size > _LARGEST:
        raise DataError(f"{path}: {size} bytes, more than any state dict of this model ({_LARGEST})")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader fails on damaged bytes in as many ways as they can be damaged
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{path}: not a readable PyTorch state dict: {reason}") from error
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        raise DataError(f"{path}: expected a state dict, names to tensors; found a {type(content).__name__}")
    out: dict[str, F32] = {}
    for key, value in content.items():
        if key.endswith("num_batches_tracked"):
            continue
        if not value.is_floating_point():
            raise DataError(f"{path}: {key} holds {value.dtype}, expected floating point numbers")
        out[key] = np.ascontiguousarray(value.detach().float().numpy())
    return out
