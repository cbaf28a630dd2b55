# SPDX-License-Identifier: Apache-2.0
"""``zoo plot MODEL FOLDER``: a map of the images of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.common import progress
from zoo.cli.similar import embeddings
from zoo.errors import InputError
from zoo.specs import Heads, Softmax

if TYPE_CHECKING:
    from zoo.runtime import Model
    from zoo.runtime.prediction import Prediction

_SUFFIXES = (".png", ".jpg", ".jpeg")


def map_of(model: Model, folder: Path) -> bytes:
    """A PNG of the folder's images by the model's first embedding, coloured by its first choice among labels.

    Images that cannot be read are told on stderr and left out.

    Raises
    ------
    click.UsageError
        The model takes no images, or gives no embedding.
    InputError
        Fewer than 3 images can be read.
    """
    from zoo.maps import draw_map, plane

    manifest = model.manifest
    if manifest.input.modality != "image":
        raise click.UsageError(
            f"{folder} is a folder; {manifest.name} takes {manifest.input.modality}, no images"
        )
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    names: list[str] = []
    predictions: list[Prediction] = []
    with progress() as report:
        for place, path in enumerate(files, 1):
            try:
                predictions.append(model(path))
                names.append(path.name)
            except InputError as error:
                click.echo(f"zoo: {error}", err=True)
            report("reading", place, len(files))
    if len(predictions) < 3:
        raise InputError(
            f"{folder}: a map needs 3 PNG or JPEG images or more; {len(predictions)} of {len(files)} can be read"
        )
    vectors = embeddings(manifest.decode, predictions)
    if not vectors:
        raise click.UsageError(f"{manifest.name} gives no embedding, so there is nothing to map")
    name, rows = next(iter(vectors.items()))
    points, shares = plane(rows)
    title = f"{manifest.name}: {name} of {len(names)} images"
    if manifest.provenance.weights == "random":
        title += " (random weights: this means nothing)"
    return draw_map(points, shares, names, [_label(model, one) for one in predictions], title=title)


def _label(model: Model, prediction: Prediction) -> str:
    """The answer of the first head that chooses one label; empty where there is none."""
    decode = model.manifest.decode
    if isinstance(decode, Heads):
        for head in decode.heads:
            if isinstance(head.decode, Softmax):
                return prediction.heads[head.name].label or ""
    return prediction.label or ""
