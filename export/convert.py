# SPDX-License-Identifier: Apache-2.0
"""``zoo convert``: an official checkpoint, read by the model's own ``convert.py``, to checked safetensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from zoo import registry
from zoo.bundle import write_file
from zoo.errors import DataError, ZooError
from zoo.export.sources import file_sha256
from zoo.export.weights import check_tensors, reference_shapes


@dataclass(frozen=True)
class ConvertResult:
    """The written file, the variant that it is for, and what it holds."""

    path: Path
    variant: str
    tensors: int
    parameters: int


def convert_model(name: str, checkpoint: Path, out: Path, *, force: bool = False) -> ConvertResult:
    """Convert an official checkpoint of a model.

    Parameters
    ----------
    name : str
        A variant. Where its card says ``converts_to``, the weights are for that variant.
    checkpoint : Path
        File in the official format, or a folder with one of the names that the model's ``convert.py`` lists in ``FILES``.
    out : Path
        Safetensors file to write, atomically. Its metadata say ``status``, ``source`` and ``variant`` (see ``read_safetensors``).

    Raises
    ------
    UnknownModel
        No such variant.
    DataError
        No such checkpoint, or it does not fit the model.
    ZooError
        The model has no converter, or ``out`` exists and ``force`` is not given.
    """
    card, variant = registry.find(name)
    if variant.converts_to is not None:
        variant = card.variant(variant.converts_to)
    if not card.has("convert"):
        raise ZooError(f"model {card.file.model} has no converter: no official weights of it are known")
    module = card.module("convert")
    checkpoint = _file(checkpoint, getattr(module, "FILES", ()))
    if out.exists() and out.samefile(checkpoint):
        raise ZooError(f"{out} is the checkpoint itself; give another --out")
    if out.exists() and not force:
        raise ZooError(f"{out} exists; give --force to replace it, or another --out")
    tensors: dict[str, NDArray[Any]] = dict(module.convert(checkpoint, variant))
    check_tensors(reference_shapes(card, variant), tensors, str(checkpoint))
    digest = file_sha256(checkpoint)
    about = {
        "status": "official",
        "source": f"official checkpoint {checkpoint.name}, sha256 {digest}",
        "variant": variant.name,
    }
    if hasattr(module, "describe"):  # where not everything comes from the checkpoint
        described = module.describe(checkpoint, variant)
        about |= {**described, "source": f"{about['source']}: {described['source']}"}
    ordered = {key: np.ascontiguousarray(tensors[key]) for key in sorted(tensors)}
    write_atomically(out, save(ordered, {"zoo": json.dumps(about)}))
    return ConvertResult(out, variant.name, len(ordered), sum(array.size for array in ordered.values()))


def _file(checkpoint: Path, names: Sequence[str]) -> Path:
    """The checkpoint itself, or the file of it in a folder."""
    if checkpoint.is_file():
        return checkpoint
    if not checkpoint.is_dir() or not names:
        raise DataError(f"{checkpoint}: no such checkpoint")
    for name in names:
        if (checkpoint / name).is_file():
            return checkpoint / name
    raise DataError(
        f"{checkpoint}: no {', no '.join(names)} in this folder; give the checkpoint's file or folder"
    )


def write_atomically(out: Path, data: bytes) -> None:
    """Write a file as a whole or not at all; ZooError where the folder cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_file(out, data)
    except OSError as error:
        raise ZooError(f"{out} cannot be written: {error.strerror}") from error
