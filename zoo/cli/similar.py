# SPDX-License-Identifier: Apache-2.0
"""How alike the inputs of one run are to a model that gives embeddings: cosines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from zoo.cli.common import emit_table
from zoo.specs import Decode, Embedding, Heads

if TYPE_CHECKING:
    from zoo.runtime.prediction import Prediction

#: Inputs whose pairs are shown as a table; inputs that are compared at all: the matrix has their number squared.
_SHOWN, _MOST = 12, 512


def embeddings(decode: Decode, predictions: Sequence[Prediction]) -> dict[str, NDArray[np.float32]]:
    """Vectors (n, width) of n predictions, by the head's name, ``embedding`` where there are no heads; empty if none."""
    if isinstance(decode, Embedding):
        return {"embedding": np.stack([np.asarray(one.values, np.float32) for one in predictions])}
    if not isinstance(decode, Heads):
        return {}
    return {
        head.name: np.stack([np.asarray(one.heads[head.name].values, np.float32) for one in predictions])
        for head in decode.heads
        if isinstance(head.decode, Embedding)
    }


def cosines(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each pair of rows, float64 (n, n) in [-1, 1]; 0 to a vector of zeros."""
    wide = vectors.astype(np.float64)
    unit = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    found: NDArray[np.float64] = np.clip(unit @ unit.T, -1.0, 1.0)
    return found


def alike(decode: Decode, predictions: Sequence[Prediction]) -> dict[str, NDArray[np.float64]]:
    """Cosines (n, n) of n inputs by embedding; empty for one input, for too many, and for models without embeddings."""
    if not 1 < len(predictions) <= _MOST:
        return {}
    return {name: cosines(rows) for name, rows in embeddings(decode, predictions).items()}


def show(names: Sequence[str], found: Mapping[str, NDArray[np.float64]]) -> None:
    """A table of pairs, one column an embedding."""
    if len(names) > _SHOWN:
        click.echo(f"zoo: cosines of {len(names)} inputs: --json has them", err=True)
        return
    rows = [
        (names[i], names[j], *(f"{matrix[i, j]:.3f}" for matrix in found.values()))
        for i in range(len(names))
        for j in range(i + 1, len(names))
    ]
    emit_table(("input", "and", *(f"{name} cosine" for name in found)), rows)
