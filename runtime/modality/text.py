# SPDX-License-Identifier: Apache-2.0
"""Texts: str, or UTF-8 files."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import DataError, InputError
from zoo.pipeline import Vocab
from zoo.runtime.modality.base import Features, Given, Modality, Raw

if TYPE_CHECKING:
    from zoo.runtime.modality.front import Front
    from zoo.specs import RawInput


class Text(Modality):
    """One text a time."""

    takes, files, literal = "texts", "texts", True

    def features(self, front: Front, given: Given) -> tuple[Features, float]:
        start = perf_counter()
        text = read_text(given, front.model)
        decode_ms = (perf_counter() - start) * 1e3
        return self.run(front, text), decode_ms

    def unfit(self, front: Front, features: Features) -> str | None:
        ops = front.branches[0].pipeline
        # Features are numbers of tokens then, of which 0 is padding.
        if ops and isinstance(ops[-1], Vocab) and not (features[0].size and features[0][0]):
            return "the text has no token to judge by; give at least one word, mark or emoji"
        return None

    def golden(self, path: Path, spec: RawInput, model: str) -> Raw:
        try:
            return _raw(path.read_text("utf-8").rstrip("\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not a readable UTF-8 text: {error}") from error

    def given(self, raw: Raw) -> Given:
        return raw.text

    def altered(self, raw: Raw, step: int) -> Raw:
        """Other words in front, and fewer of them."""
        words = raw.text.split()
        turn, start = divmod(step, max(1, len(words)))
        kept = max(1, len(words) - turn)
        return _raw(" ".join((words[start:] + words[:start])[:kept]))


def _raw(text: str) -> Raw:
    return Raw(np.frombuffer(text.encode(), np.uint8), 0)


def read_text(given: Given, model: str) -> str:
    """The text, or that of a file.

    Raises
    ------
    InputError
        Neither a str nor a path, or no readable UTF-8 file.
    """
    if isinstance(given, str):
        return given
    if not isinstance(given, os.PathLike):
        raise InputError(f"{model}: input is {type(given).__name__}; give a text (str), or a file's Path")
    try:
        return Path(given).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{given}: not a readable UTF-8 text: {error}") from error
