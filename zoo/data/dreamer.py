# SPDX-License-Identifier: Apache-2.0
"""DREAMER (Katsigiannis and Ramzan 2018): 23 people, 18 film clips each, a 14-channel Emotiv EPOC at 128 Hz, self-ratings 1 to 5.

Layout read here, the one MATLAB file that is given out under a signed agreement (sheet 9)::

    DREAMER.mat
      DREAMER.EEG_SamplingRate             128
      DREAMER.EEG_Electrodes{14}           names of the columns
      DREAMER.Data{subject}.EEG.baseline{clip}, .EEG.stimuli{clip}    [samples, 14], microvolts
      DREAMER.Data{subject}.ScoreValence[clip], .ScoreArousal[clip]   1 to 5

Needs SciPy (extra ``eeg``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data import Dataset
from zoo.data.trials import Trial, dataset, rating
from zoo.errors import DataError, ProviderUnavailable
from zoo.recording import Recording

FILE = "DREAMER.mat"
LICENSE = "restricted: given out under a signed academic agreement"


def read(root: Path) -> Dataset:
    """A trial an item, with valence and arousal in [-1, 1], in groups by subject; see :func:`read_trials`."""
    return dataset("dreamer", read_trials(root), LICENSE)


def read_trials(root: Path) -> list[Trial]:
    """Every trial with its baseline, by subject and clip (``01/01`` ...).

    Parameters
    ----------
    root : Path
        The file, or the folder that holds it, or one that holds that as ``dreamer``.

    Raises
    ------
    DataError
        The file is missing, no MATLAB file, or not in that layout (the field is named).
    ProviderUnavailable
        SciPy is not installed.
    """
    places = (root, root / FILE, root / "dreamer" / FILE)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(f"dreamer: no {FILE} in {root}; give the file or the folder that holds it")
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ProviderUnavailable(
            f"dreamer: {path} is read with SciPy: pip install 'affect-zoo[eeg]'"
        ) from error
    try:
        content: dict[str, Any] = loadmat(path, variable_names=["DREAMER"], simplify_cells=True)
    except Exception as error:  # SciPy raises whatever its parser does on damaged files
        raise DataError(f"dreamer: {path} is not a readable MATLAB file: {error}") from error
    top = _field(content, "DREAMER", str(path))
    where = f"{path}: DREAMER"
    rate = float(_field(top, "EEG_SamplingRate", where))
    names = tuple(str(name).strip() for name in _cells(_field(top, "EEG_Electrodes", where)))
    trials = []
    for number, subject in enumerate(_cells(_field(top, "Data", where)), start=1):
        place = f"{where}.Data{{{number}}}"
        eeg = _field(subject, "EEG", place)
        stimuli, baselines = (_cells(_field(eeg, part, f"{place}.EEG")) for part in ("stimuli", "baseline"))
        valence, arousal = (
            np.atleast_1d(np.asarray(_field(subject, score, place), np.float64)).ravel()
            for score in ("ScoreValence", "ScoreArousal")
        )
        if not len(stimuli) == len(baselines) == len(valence) == len(arousal):
            raise DataError(
                f"dreamer: {place} has {len(stimuli)} stimuli, {len(baselines)} baselines, {len(valence)} and {len(arousal)} "
                "ratings; they must be as many"
            )
        for clip in range(len(stimuli)):
            name = f"{number:02d}/{clip + 1:02d}"
            trials.append(
                Trial(
                    subject=f"{number:02d}",
                    clip=f"{clip + 1:02d}",
                    recording=_recording(
                        stimuli[clip], rate, names, f"dreamer: {place}.EEG.stimuli{{{clip + 1}}}", name
                    ),
                    baseline=_recording(
                        baselines[clip], rate, names, f"dreamer: {place}.EEG.baseline{{{clip + 1}}}", name
                    ),
                    valence=rating(float(valence[clip]), 1, 5, f"dreamer: {place}.ScoreValence({clip + 1})"),
                    arousal=rating(float(arousal[clip]), 1, 5, f"dreamer: {place}.ScoreArousal({clip + 1})"),
                )
            )
    if not trials:
        raise DataError(f"dreamer: {path} holds no trial")
    return trials


def _recording(samples: Any, rate: float, names: tuple[str, ...], where: str, trial: str) -> Recording:
    array: NDArray[Any] = np.asarray(samples)
    if array.ndim != 2 or array.shape[1] != len(names) or array.dtype.kind not in "fiu":
        raise DataError(
            f"{where} has shape {array.shape} of {array.dtype}; it must be [samples, {len(names)}] numbers"
        )
    return Recording(np.ascontiguousarray(array, np.float64), rate, names, f"DREAMER {trial}")


def _field(struct: Any, name: str, where: str) -> Any:
    if not isinstance(struct, dict) or name not in struct:
        raise DataError(f"dreamer: {where} has no field {name}; this is not the file of the DREAMER data set")
    return struct[name]


def _cells(value: Any) -> list[Any]:
    """A cell array as a list; SciPy gives an array of one cell as the cell itself."""
    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype.kind in "OU"):
        return list(value)
    return [value]
