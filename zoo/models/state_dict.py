# SPDX-License-Identifier: Apache-2.0
"""Official PyTorch state dicts, for the converters of the model folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.errors import DataError

F32 = NDArray[np.float32]


def read_state_dict(path: Path, *, most: int, nested: str | None = None) -> dict[str, F32]:
    """Read a plain state dict, in PyTorch's old or new format; nothing in it is executed.

    Parameters
    ----------
    most : int
        Bytes that no such file of this model exceeds.
    nested : str or None
        Key of a checkpoint that the state dict may lie under.

    Returns
    -------
    dict of float32 arrays
        Counters of batches (``num_batches_tracked``) are left out.

    Raises
    ------
    DataError
        The file is larger, damaged, not a dict of tensors, or holds other numbers than floating point ones.
    """
    size = path.stat().st_size
    if size > most:
        raise DataError(f"{path}: {size} bytes, more than any state dict of this model ({most})")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader fails on damaged bytes in as many ways as they can be damaged
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{path}: not a readable PyTorch state dict: {reason}") from error
    if nested is not None and isinstance(content, dict) and isinstance(content.get(nested), dict):
        content = content[nested]
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


def check_state_dict(
    found: Mapping[str, F32], wanted: Mapping[str, tuple[int, ...]], *, path: Path, model: str
) -> None:
    """Refuse a state dict that is not one of ``model``: names, shapes (those of ``wanted``) and finite numbers.

    Raises
    ------
    DataError
        The first three things that do not fit.
    """
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
        raise DataError(f"{path}: does not fit {model}: it has {'; '.join(problems[:3])}{more}")


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of a module's state dict by name, counters of batches left out."""
    return {
        key: tuple(value.shape)
        for key, value in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
