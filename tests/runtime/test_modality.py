# SPDX-License-Identifier: Apache-2.0
"""Modalities: the golden inputs of every model, and what does not stream."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest

from zoo import registry
from zoo.card import Card
from zoo.errors import InputError
from zoo.export.inputs import derived_inputs, front_of, golden_inputs
from zoo.runtime.modality import Raw, modality
from zoo.specs import RawInput

NAMES = get_args(get_type_hints(RawInput)["modality"])
CARDS = registry.cards()


def same(a: Raw, b: Raw) -> bool:
    sounds = (a.sound is None) == (b.sound is None) and (
        a.sound is None or b.sound is None or same(a.sound, b.sound)
    )
    return a.rate == b.rate and np.array_equal(a.samples, b.samples) and sounds


def test_every_modality_of_a_manifest_has_its_module() -> None:
    kinds = [modality(name) for name in NAMES]
    assert len({type(kind) for kind in kinds}) == len(NAMES) == 5
    assert {card.file.input.modality for card in CARDS} == set(NAMES)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.file.model)
def test_golden_inputs_tell_their_modality_and_are_altered_alike(card: Card) -> None:
    golden = golden_inputs(card)
    assert {raw.modality for raw in golden} == {card.file.input.modality}
    made = derived_inputs(golden, 12)
    assert all(same(a, b) for a, b in zip(made, golden, strict=False))
    assert {raw.modality for raw in made} == {card.file.input.modality}
    assert not any(same(a, b) for i, a in enumerate(made) for b in made[:i])
    assert all(same(a, b) for a, b in zip(made, derived_inputs(golden, 12), strict=True))


def test_rows_read_in_blocks_are_those_of_the_whole_clip() -> None:
    card, variant = registry.find("movie-affect-audio")
    front = front_of(card, variant)
    raw = golden_inputs(card)[0]
    (rows,) = front.raw(raw)
    np.testing.assert_array_equal(rows, card.pipeline(variant).run(raw.samples, raw.rate))


def test_texts_do_not_stream() -> None:
    front = front_of(*registry.find("ntua-slp-e-c"))
    with pytest.raises(InputError, match="takes texts, which do not stream"):
        front.modality.windows(front, ["fine"], None, None)
    with pytest.raises(InputError, match="do not stream"):
        front.modality.chunks(Path("x"), front.spec, None)


def test_images_stream_at_a_rate_alone() -> None:
    front = front_of(*registry.find("neurogaze-distill-r18"))
    pictures = [np.zeros((48, 48), np.uint8)] * 5
    for rate, hop, message in (
        (None, None, "give pictures a second"),
        (10, 0.01, "give at least one sample"),
    ):
        with pytest.raises(InputError, match=message):
            list(front.modality.windows(front, pictures, rate, hop))
    found = list(front.modality.windows(front, pictures, 4, None))
    assert [(window.start, window.end) for window in found] == [(0.0, 0.25), (0.5, 0.75), (1.0, 1.25)]
    with pytest.raises(InputError, match="do not stream"):
        front.modality.chunks(Path("x"), front.spec, None)
