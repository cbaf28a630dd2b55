# SPDX-License-Identifier: Apache-2.0
"""DREAMER's layout, written here with SciPy as MATLAB saves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.data.dreamer import read, read_trials
from zoo.data.eye_state import CHANNELS
from zoo.errors import DataError
from zoo.recording import Recording


def cells(values: list[Any]) -> Any:
    made = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        made[i, 0] = value
    return made


def content(subjects: int = 3, clips: int = 4, seconds: int = 4, seed: int = 0) -> dict[str, Any]:
    """As the official file: a struct of cells of structs. Beta power goes with arousal, so that there is something to learn."""
    rng = np.random.default_rng(seed)

    def eeg(n: int, gain: float) -> Any:
        t = np.arange(n) / 128
        beta = gain * np.sin(2 * np.pi * 20 * t)[:, None] * (1 + 0.1 * np.arange(14))
        return 4200 + 5 * rng.standard_normal((n, 14)) + beta

    data = []
    for subject in range(subjects):
        ratings = np.stack([1 + (np.arange(clips) + subject) % 5, 1 + (np.arange(clips) * 2) % 5], 1)
        data.append(
            {
                "Age": "30",
                "Gender": "female",
                "EEG": {
                    "baseline": cells([eeg(256, 0.0) for _ in range(clips)]),
                    "stimuli": cells([eeg(128 * seconds, 3.0 * (r - 1)) for r in ratings[:, 1]]),
                },
                "ScoreValence": ratings[:, :1],
                "ScoreArousal": ratings[:, 1:],
                "ScoreDominance": ratings[:, :1],
            }
        )
    return {
        "Data": cells(data).T,
        "EEG_SamplingRate": 128,
        "EEG_Electrodes": cells(list(CHANNELS)).T,
        "noOfSubjects": subjects,
    }


def written(path: Path, top: Any) -> Path:
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(path, {"DREAMER": top}, do_compression=True)
    return path


@pytest.mark.parametrize(("subjects", "clips"), [(3, 4), (1, 2), (2, 1)])
def test_every_trial_is_read(subjects: int, clips: int, tmp_path: Path) -> None:
    top = content(subjects, clips)
    written(tmp_path / "DREAMER.mat", top)
    trials = read_trials(tmp_path)
    assert [trial.id for trial in trials] == [
        f"{s + 1:02d}/{c + 1:02d}" for s in range(subjects) for c in range(clips)
    ]
    for trial in trials:
        eeg = top["Data"][0, int(trial.subject) - 1]["EEG"]
        clip = int(trial.clip) - 1
        np.testing.assert_array_equal(trial.recording.samples, eeg["stimuli"][clip, 0])
        assert trial.baseline is not None
        np.testing.assert_array_equal(trial.baseline.samples, eeg["baseline"][clip, 0])
        assert (trial.recording.rate, trial.recording.channels) == (128.0, CHANNELS)
    first = read(tmp_path).items[0]
    assert isinstance(first.source, Recording)
    assert (first.group, first.label) == ("01", (-1.0, -1.0))  # rated 1 and 1 on a scale from 1 to 5


def test_another_layout_is_told(tmp_path: Path) -> None:
    path = tmp_path / "DREAMER.mat"
    with pytest.raises(DataError, match=r"no DREAMER.mat in"):
        read_trials(tmp_path)
    path.write_bytes(b"no MATLAB file" * 20)
    with pytest.raises(DataError, match="not a readable MATLAB file"):
        read_trials(path)
    top = content()
    with pytest.raises(DataError, match="has no field EEG_SamplingRate"):
        read_trials(written(path, {key: value for key, value in top.items() if key != "EEG_SamplingRate"}))
    top["Data"][0, 1]["ScoreValence"] = np.array([[1], [2], [6], [4]])
    with pytest.raises(DataError, match=r"Data\{2\}.ScoreValence\(3\): rating 6; the scale goes from 1 to 5"):
        read_trials(written(path, top))
    top["Data"][0, 1]["ScoreValence"] = np.array([[1], [2]])
    with pytest.raises(DataError, match=r"4 stimuli, 4 baselines, 2 and 4 ratings"):
        read_trials(written(path, top))
    top = content()
    top["Data"][0, 2]["EEG"]["stimuli"][1, 0] = np.zeros((20, 13))
    with pytest.raises(DataError, match=r"Data\{3\}.EEG.stimuli\{2\} has shape \(20, 13\)"):
        read_trials(written(path, top))
