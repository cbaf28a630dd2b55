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
from zoo.bundle import check_output, write_output
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


def convert_model(
    name: str, checkpoint: Path | Sequence[Path], out: Path, *, force: bool = False
) -> ConvertResult:
    """Convert an official checkpoint of a model.

    Parameters
    ----------
    name : str
        A variant. Where its card says ``converts_to``, the weights are for that variant.
    checkpoint : Path or sequence of Path
        File in the official format, or a folder with one of the names that the model's ``convert.py`` lists in ``FILES``;
        several where each holds a part of the weights (a head, say).
    out : Path
        Safetensors file to write, atomically. Its metadata say ``status``, ``source`` and ``variant`` (see ``read_safetensors``).

    Raises
    ------
    UnknownModel
        No such variant.
    DataError
        No such checkpoint, it does not fit the model, or two hold the same tensor.
    ZooError
        The model has no converter, or ``out`` exists and ``force`` is not given.
    """
    card, variant = registry.find(name)
    if variant.converts_to is not None:
        variant = card.variant(variant.converts_to)
    if not card.has("convert"):
        raise ZooError(f"model {card.file.model} has no converter: no official weights of it are known")
    module = card.module("convert")
    names = getattr(module, "FILES", ())
    given = [checkpoint] if isinstance(checkpoint, Path) else list(checkpoint)
    checkpoints = [_file(path, names) for path in given]
    if out.exists() and any(out.samefile(path) for path in checkpoints):
        raise ZooError(f"{out} is the checkpoint itself; give another --out")
    check_output(out, force=force)
    tensors: dict[str, NDArray[Any]] = {}
    sources = []
    for path in checkpoints:
        part = dict(module.convert(path, variant))
        twice = sorted(tensors.keys() & part.keys())
        if twice:
            raise DataError(
                f"{path}: holds {twice[0]}, as another of the given files does; give each part once"
            )
        tensors |= part
        sources.append(f"{path.name}, sha256 {file_sha256(path)}")
    check_tensors(reference_shapes(card, variant), tensors, ", ".join(str(path) for path in checkpoints))
    about = {
        "status": "official",
        "source": f"official checkpoint{'s' if len(sources) > 1 else ''} {'; '.join(sources)}",
        "variant": variant.name,
    }
    if hasattr(module, "describe"):  # where not everything comes from the checkpoint
        described = module.describe(checkpoints[0], variant)
        about |= {**described, "source": f"{about['source']}: {described['source']}"}
    ordered = {key: np.ascontiguousarray(tensors[key]) for key in sorted(tensors)}
    write_output(out, save(ordered, {"zoo": json.dumps(about)}))
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
