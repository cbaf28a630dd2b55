# SPDX-License-Identifier: Apache-2.0
"""PyTorch state dicts with torchvision's ResNet names to the state dict of ``model.py`` (fact sheet 09, "Artefacts").

The tensor names of the paper's release were not found. Names are the same as ours, so this is a check; prefixes that
wrappers leave behind are taken off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.errors import DataError
from zoo.models.neurogaze_distill.model import build
from zoo.models.state_dict import F32, check_state_dict, read_state_dict, shapes_of

_LARGEST = 512 << 20  # bytes; a ResNet-50 has 94 MB, a checkpoint with its optimizer three times that
#: What ``DataParallel`` and common training loops put in front of every name.
_PREFIXES = ("module.", "model.", "backbone.")


def convert(path: Path, variant: Any) -> dict[str, F32]:
    """Read a state dict, plain or under the key ``state_dict``; nothing in it is executed.

    Parameters
    ----------
    path : Path
        Of a ResNet-18 or -50 whose last layer has the variant's number of classes, in FERPlus's order.
    variant : zoo.card.Variant
        The variant whose network the file should fit: its ``config`` is used.

    Returns
    -------
    dict of float32 arrays
        For ``load_state_dict``; counters of batches are left out.

    Raises
    ------
    DataError
        The file is no state dict, or is one of another network; the message says what was expected and what was found.
    """
    found = read_state_dict(path, most=_LARGEST, nested="state_dict")
    for prefix in _PREFIXES:
        if found and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    wanted = shapes_of(build(variant.config))
    last = found.get("fc.weight")
    if last is not None and last.ndim == 2 and last.shape[1] == wanted["fc.weight"][1]:
        classes = wanted["fc.weight"][0]
        if len(last) != classes:
            raise DataError(
                f"{path}: its last layer has {len(last)} classes, {variant.name} has {classes}; weights of another task, such "
                "as ImageNet's, have to be fine-tuned first"
            )
    check_state_dict(found, wanted, path=path, model=variant.name)
    return found
