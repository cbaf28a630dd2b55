# SPDX-License-Identifier: Apache-2.0
"""Official state dicts of the fusion nets (PyTorch's old format, one file a head) to the state dict of ``model.py``.

Fact sheet 5, section 7. A file holds the weights of one 2FC net; which head it is for is in its name only
(``RAT_emobase2010_2FC__Arousal_Audio.pth``), and a net of one modality calls its reduction ``reduced_rgb`` whatever it
reduces. ``zoo convert`` takes the two files of a model at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.errors import DataError
from zoo.models.movie_affect.model import HEADS, WIDTHS, TwoLayers, fold, modalities_of
from zoo.models.state_dict import F32, check_state_dict, read_state_dict, shapes_of

_LARGEST = 64 << 20  # bytes; the official files have 0.9 to 3.0 MB


def convert(path: Path, variant: Any) -> dict[str, F32]:
    """Read the official weights of one head; nothing in the file is executed.

    Parameters
    ----------
    path : Path
        A state dict as the source saves it, with ``arousal`` or ``valence`` in its name, in any case.
    variant : zoo.card.Variant
        Says which modalities the net has, and whether it is to be folded into one matrix.

    Returns
    -------
    dict of float32 arrays
        The parameters of that head, their names as in ``model.py``.

    Raises
    ------
    DataError
        The file names no head, is no state dict, or is one of another net; the message says what is wrong.
    """
    head = _head(path)
    kind, modalities = variant.config["net"], modalities_of(variant.config)
    if kind == "lstm":
        raise DataError(f"{path}: {variant.name} is an LSTM net; no official weights of it were published")
    if len(modalities) == 1:
        # Nets of RGB and of OF have the same shapes.
        others = {name.lower() for name in WIDTHS} - {modalities[0].lower()}
        named = others & set(path.stem.lower().split("_"))
        if named:
            raise DataError(
                f"{path}: {variant.name} is of {modalities[0]} features, the file's name says {', '.join(sorted(named))}"
            )
    found = read_state_dict(path, most=_LARGEST)
    # The source's class for one modality was written for RGB and reused.
    names = {"reduced_rgb.weight": f"reduced_{modalities[0]}.weight"} if len(modalities) == 1 else {}
    renamed = {names.get(key, key): value for key, value in found.items()}
    check_state_dict(renamed, shapes_of(TwoLayers(modalities)), path=path, model=variant.name)
    if kind == "folded":
        return {f"{head}.matrix.weight": fold(renamed, modalities)}
    return {f"{head}.{key}": value for key, value in renamed.items()}


def _head(path: Path) -> str:
    heads = [head for head in HEADS if head in path.name.lower()]
    if len(heads) != 1:
        raise DataError(
            f"{path}: its name must say which head the weights are for, {' or '.join(HEADS)}; "
            "keep the official name"
        )
    return heads[0]
