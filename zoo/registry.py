# SPDX-License-Identifier: Apache-2.0
"""Finds models: every folder with a ``card.toml`` below ``zoo/models`` and below the folders in ``ZOO_MODELS``."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from zoo.card import Card, Variant
from zoo.errors import ZooError

_BUILTIN = Path(__file__).parent / "models"


class UnknownModel(ZooError):
    """A name that no card has."""

    exit_code = 2


def cards() -> list[Card]:
    """All cards, built-in ones first, each group sorted by folder name.

    Raises
    ------
    ZooError
        A card is not valid, or two cards define the same variant.
    """
    found = [Card(folder, f"zoo.models.{folder.name}") for folder in _model_folders(_BUILTIN)]
    for root in filter(None, os.environ.get("ZOO_MODELS", "").split(os.pathsep)):
        if not Path(root).is_dir():
            raise ZooError(f"ZOO_MODELS names {root}, which is not a folder")
        found += [Card(folder, None) for folder in _model_folders(Path(root))]
    seen: dict[str, Path] = {}
    for card in found:
        for variant in card.file.variants:
            if variant.name in seen:
                raise ZooError(
                    f"variant {variant.name} is defined in {seen[variant.name]} and in {card.folder}"
                )
            seen[variant.name] = card.folder
    return found


def variants() -> Iterator[tuple[Card, Variant]]:
    """Every variant of every card."""
    for card in cards():
        for variant in card.file.variants:
            yield card, variant


def find(name: str) -> tuple[Card, Variant]:
    """The card and variant called ``name``.

    Raises
    ------
    UnknownModel
        No such variant; the message suggests the nearest names.
    """
    known = {variant.name: (card, variant) for card, variant in variants()}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else "zoo list shows all names"
    raise UnknownModel(f"no model is called {name!r}; {hint}")


def _model_folders(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob("*/card.toml"))
