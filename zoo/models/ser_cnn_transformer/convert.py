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

from zoo.errors import DataError
from zoo.models.ser_cnn_transformer.model import build
from zoo.models.state_dict import F32, check_state_dict, read_state_dict, shapes_of

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
    found = read_state_dict(path, most=_LARGEST)
    wanted = shapes_of(build(variant.config))
    if not any(key.startswith("conv2Dblock1.") for key in found):
        raise DataError(f"{path}: holds no conv2Dblock1, so it is no state dict of this model")
    ours, theirs = _outline(wanted), _outline({key: value.shape for key, value in found.items()})
    if ours != theirs:
        raise DataError(f"{path}: {variant.name} has {ours}; the file has {theirs}")
    check_state_dict(found, wanted, path=path, model=variant.name)
    return found


def _outline(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What tells the networks apart, in words."""
    layers = {key.split(".")[2] for key in shapes if key.startswith("transformer_encoder.layers.")}
    width = shapes.get("transformer_encoder.layers.0.norm1.weight", (0,))
    encoder = f"{len(layers)} Transformer layers of width {width[0]}" if layers else "no Transformer"
    return f"{encoder} and a last layer of shape {tuple(shapes.get('fc1_linear.weight', ()))}"
