# SPDX-License-Identifier: Apache-2.0
"""A state dict of the authors' network (PyTorch) to the state dict of ``model.py``.

Fact sheet 01, section 2. The authors saved whole modules (pickles, which run code when they are read) and published none,
so what is taken is the state dict of such a module. Names are the same as ours but for the table of word vectors: float
there (``feature_extractor.embedding.embedding.weight``), here int8 rows with a scale each. A table of other rows belongs to
another vocabulary, whose word numbers mean something else: refused.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.models.ntua_slp.embeddings import quantize
from zoo.models.ntua_slp.model import build
from zoo.models.state_dict import check_state_dict, read_state_dict, shapes_of

_LARGEST = 4 << 30  # bytes; the authors' table had about 800,000 words of 310 numbers
_TABLE = "feature_extractor.embedding.embedding"


def convert(path: Path, variant: Any) -> dict[str, NDArray[Any]]:
    """Read a state dict; nothing in it is executed.

    Parameters
    ----------
    path : Path
        File of ``torch.save(module.state_dict(), ...)``.
    variant : zoo.card.Variant
        The variant whose network the file should fit: its ``config`` is used.

    Returns
    -------
    dict of arrays
        For ``NtuaSlp.load_state_dict(strict=True)``: float32, but for the table's int8 rows.

    Raises
    ------
    DataError
        The file is a pickled module or no state dict, or is that of another network or vocabulary; the message says what was
        expected and what was found.
    """
    try:
        found: dict[str, NDArray[Any]] = dict(read_state_dict(path, most=_LARGEST))
    except DataError as error:
        if isinstance(error.__cause__, pickle.UnpicklingError) and "GLOBAL" in str(error.__cause__):
            raise DataError(
                f"{path}: not a state dict but a pickled object, perhaps a whole module, which would run code when read; "
                'load it with the authors\' code and write torch.save(module.state_dict(), "model.pt")'
            ) from error
        raise
    name = f"{_TABLE}.weight"
    if name not in found:
        raise DataError(f"{path}: holds no {name}, so it is no state dict of this model")
    shapes = shapes_of(build(variant.config))
    if found[name].shape != shapes[name]:
        raise DataError(
            f"{path}: its word vectors are {_by(found[name].shape)}, those of {variant.name} {_by(shapes[name])}: they belong "
            "to another vocabulary than its vocabulary/words.txt"
        )
    del shapes[f"{_TABLE}.scale"]  # comes with the int8 rows
    check_state_dict(found, shapes, path=path, model=variant.name)
    if found[name][0].any():
        raise DataError(f"{path}: row 0 of {name}, that of padding, is not zero")
    found[name], found[f"{_TABLE}.scale"] = quantize(found[name])
    return found


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
