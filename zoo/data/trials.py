# SPDX-License-Identifier: Apache-2.0
"""What readers of EEG with self-ratings of valence and arousal have in common: trials, and the data set made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.data import Dataset, Item
from zoo.errors import DataError
from zoo.recording import Recording

#: Names of the two values, each in [-1, 1].
LABELS = ("valence", "arousal")


@dataclass(frozen=True)
class Trial:
    """One person's EEG while watching one clip.

    Attributes
    ----------
    subject, clip : str
    recording : Recording
        While the clip was shown.
    baseline : Recording or None
        At rest, before it.
    valence, arousal : float
        The person's own rating, mapped to [-1, 1].
    """

    subject: str
    clip: str
    recording: Recording
    baseline: Recording | None
    valence: float
    arousal: float

    @property
    def id(self) -> str:
        """``<subject>/<clip>``."""
        return f"{self.subject}/{self.clip}"


def rating(value: float, low: float, high: float, where: str) -> float:
    """A rating on a scale from ``low`` to ``high``, mapped to [-1, 1]; DataError outside the scale."""
    if not low <= value <= high:
        raise DataError(f"{where}: rating {value:g}; the scale goes from {low:g} to {high:g}")
    return (2 * value - low - high) / (high - low)


def dataset(name: str, trials: Sequence[Trial], license: str) -> Dataset:
    """Trials as a data set: an item each, in groups by subject, with the values ``valence`` and ``arousal``."""
    return Dataset(
        name=name,
        labels=LABELS,
        items=tuple(
            Item(trial.id, trial.recording, (trial.valence, trial.arousal), trial.subject) for trial in trials
        ),
        license=license,
    )
