# SPDX-License-Identifier: Apache-2.0
"""Official weights of the parts to the state dict of ``model.py``: two fusion files and two backbones.

Fact sheet 5. A file is told by what it holds. A backbone is torchvision's ResNet state dict (``conv1``, ``layer1`` to
``layer4``, ``fc``): a ResNet-50 for the pictures, a ResNet-101 for the motion. That of the two-stream project calls its first
convolution ``conv1_custom`` and its classifier ``fc_custom``, lies under ``state_dict`` of a checkpoint, and may bear the
prefix ``module.``. A ResNet-101 of RGB gives its first convolution as that project does: the mean over RGB, 20 times.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from zoo.errors import DataError
from zoo.models.movie_affect import convert as fusion
from zoo.models.movie_affect.model import WIDTHS
from zoo.models.movie_affect_full.model import FLOW_CHANNELS, MOTION, PICTURES, build, with_flow_channels
from zoo.models.state_dict import F32, check_state_dict, read_state_dict, shapes_of

_LARGEST = 1 << 30  # bytes; a ResNet-101 checkpoint with its optimiser has 0.35 GB


def convert(path: Path, variant: Any) -> dict[str, F32]:
    """Read one of the four files; nothing in it is executed.

    Parameters
    ----------
    path : Path
        A fusion net (its name says for which head), or a backbone.
    variant : zoo.card.Variant

    Returns
    -------
    dict of float32 arrays
        The parameters of that part, their names as in ``model.py``.

    Raises
    ------
    DataError
        The file is none of these, or does not fit.
    """
    found = read_state_dict(path, most=_LARGEST, nested="state_dict")
    found = {key.removeprefix("module.").replace("_custom.", ".", 1): value for key, value in found.items()}
    if not any(key.startswith("layer1.") for key in found):
        asked = SimpleNamespace(
            name=variant.name, config={"net": variant.config["net"], "modalities": list(WIDTHS)}
        )
        return {f"fusion.{key}": value for key, value in fusion.convert(path, asked).items()}
    blocks = len({key.split(".")[1] for key in found if key.startswith("layer3.")})
    parts = {PICTURES[2]: "rgb", MOTION[2]: "motion"}
    if blocks not in parts:
        raise DataError(
            f"{path}: a ResNet with {blocks} blocks in layer3; the pictures' ResNet-50 has {PICTURES[2]}, the motion's "
            f"ResNet-101 {MOTION[2]}"
        )
    part = parts[blocks]
    kept = {key: value for key, value in found.items() if not key.startswith("fc.")}
    first = kept.get("conv1.weight")
    if part == "motion" and first is not None and first.ndim == 4 and first.shape[1] != FLOW_CHANNELS:
        kept["conv1.weight"] = with_flow_channels(torch.from_numpy(first)).numpy()
    with torch.device("meta"):
        net = build(variant.config)
    check_state_dict(kept, shapes_of(net.get_submodule(part)), path=path, model=f"{variant.name}, {part}")
    return {f"{part}.{key}": value for key, value in kept.items()}
