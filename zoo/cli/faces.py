# SPDX-License-Identifier: Apache-2.0
"""``--faces``: photos in place of cropped faces, for the commands that take images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.bundle import Manifest
    from zoo.faces import Face, FaceFinder

faces_option = click.option(
    "--faces",
    is_flag=True,
    help="INPUTS are photos: find the faces in each, cut them out, and run the model on every one (extra faces).",
)


def finder_for(manifest: Manifest, wanted: bool) -> FaceFinder | None:
    """What finds faces, or None where it is not ``wanted``.

    Raises
    ------
    click.UsageError
        The model's input is no cropped face.
    ProviderUnavailable
        OpenCV, or what it needs, is not installed.
    """
    if not wanted:
        return None
    if (manifest.input.modality, manifest.input.name) != ("image", "face"):
        raise click.UsageError(
            f"--faces is for models that take a cropped face; {manifest.name} takes {manifest.input.modality}"
        )
    from zoo.faces import FaceFinder

    return FaceFinder()


def inputs_of(finder: FaceFinder | None, given: Any, shown: str) -> Iterator[tuple[str, Any, Face | None]]:
    """What is run for one argument: itself, or each face of the photo; with a name for people.

    Raises
    ------
    InputError
        The photo cannot be read, or has no face.
    """
    if finder is None:
        yield shown, given, None
        return
    from zoo.ops import read_image

    found = finder(read_image(given))
    if not found:
        raise InputError(
            f"{shown}: no face found (frontal, upright, 24 pixels or more); give a face cut out, without --faces"
        )
    for place, face in enumerate(found, 1):
        left, top, right, bottom = (round(edge) for edge in face.box)
        yield f"{shown} (face {place}: {left},{top} to {right},{bottom})", face.pixels, face


def as_json(face: Face, place: int) -> dict[str, Any]:
    """Where a face was; ``place`` counts from 1, the largest first."""
    return {"place": place, "box": [round(edge, 1) for edge in face.box], "turned_deg": round(face.turned, 1)}
