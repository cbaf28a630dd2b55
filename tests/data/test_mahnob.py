# SPDX-License-Identifier: Apache-2.0
"""MAHNOB-HCI's layout: a session's XML and its BDF file, written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.data.eye_state import CHANNELS
from zoo.data.mahnob import read, read_trials
from zoo.errors import DataError
from zoo.recording import Recording

RATE = 256


def bdf(path: Path, x: Any, names: tuple[str, ...]) -> None:
    """24 bits, one-second records, as BioSemi's specification says; x in microvolts, -8192 to 8191."""
    top = 1 << 23
    records = len(x) // RATE
    fields: list[tuple[Any, int]] = [("X", 80), ("X", 80), ("01.01.20", 8), ("00.00.00", 8)]
    fields += [(256 * (len(names) + 1), 8), ("24BIT", 44), (records, 8), (1, 8), (len(names), 4)]
    fields += [(name, 16) for name in names] + [("", 80) for _ in names]
    for value, width in (
        ("uV", 8),
        (-8192, 8),
        (8191, 8),
        (-top, 8),
        (top - 1, 8),
        ("", 80),
        (RATE, 8),
        ("", 32),
    ):
        fields += [(value, width)] * len(names)
    text = "".join(str(value).ljust(width) for value, width in fields)
    digital = np.rint((x + 8192) / 16383 * (2 * top - 1) - top).astype(np.int64)
    data = digital[: records * RATE].reshape(records, RATE, len(names)).transpose(0, 2, 1).ravel()
    samples = (data & 0xFFFFFF).astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3]
    path.write_bytes(b"\xffBIOSEMI" + text.encode("ascii") + samples.tobytes())


def session(root: Path, number: int, felt: str, seconds: int = 7, subject: str = '<subject id="3"/>') -> Path:
    folder = root / "Sessions" / str(number)
    folder.mkdir(parents=True)
    (folder / "session.xml").write_text(f'<session mediaFile="53.avi" {felt}>{subject}</session>')
    names = ("Fp1", *CHANNELS, "EXG1")
    t = np.arange(RATE * seconds) / RATE
    # 10 Hz stays, 90 Hz lies beyond half of the lower rate and must not come back as 38 Hz
    wave = 300 + 20 * np.sin(2 * np.pi * 10 * t) + 20 * np.sin(2 * np.pi * 90 * t)
    bdf(folder / "Part_1_S_Trial1_emotion.bdf", np.repeat(wave[:, None], len(names), 1), names)
    return folder


def test_sessions_are_read_thinned_out_and_cut(tmp_path: Path) -> None:
    pytest.importorskip("mne")
    session(tmp_path, 10, 'feltVlnc="9" feltArsl="5"')
    session(tmp_path, 2, 'feltVlnc="3" feltArsl="1"')
    session(tmp_path, 5, 'isStim="0"')  # of a tagging experiment: no ratings
    trials = read_trials(tmp_path, margin=2.0)
    assert [(trial.id, trial.valence, trial.arousal) for trial in trials] == [
        ("3/2-53.avi", -0.5, -1.0),
        ("3/10-53.avi", 1.0, 0.0),
    ]
    for trial in trials:
        assert trial.baseline is not None
        assert (trial.recording.rate, trial.recording.channels) == (128, CHANNELS)
        assert (len(trial.baseline.samples), len(trial.recording.samples)) == (256, 3 * 128)
        t = 2 + np.arange(3 * 128) / 128
        wave = 300 + 20 * np.sin(2 * np.pi * 10 * t)
        np.testing.assert_allclose(trial.recording.samples[:, 4], wave, atol=0.5)
    item = read(tmp_path, margin=2.0).items[1]
    assert isinstance(item.source, Recording)
    assert item.label == (1.0, 0.0)


def test_another_layout_is_told(tmp_path: Path) -> None:
    pytest.importorskip("mne")
    with pytest.raises(DataError, match=r"no Sessions/<number>/session.xml"):
        read_trials(tmp_path)
    folder = session(tmp_path, 1, 'feltVlnc="9" feltArsl="5"', seconds=3)
    with pytest.raises(DataError, match=r"lasts 3.0 s, not longer than its margins of 2 s"):
        read_trials(tmp_path, margin=2.0)
    xml = folder / "session.xml"
    cases = [
        ('<session feltVlnc="9" feltArsl="5"/>', "names no subject"),
        (
            '<session feltVlnc="0" feltArsl="5"><subject id="3"/></session>',
            "feltVlnc: rating 0; the scale goes from 1",
        ),
        ('<session feltVlnc="x" feltArsl="5"><subject id="3"/></session>', "feltVlnc is 'x', no number"),
        ('<session isStim="1"/>', "no session of .* has ratings"),
        ("<session", "not readable XML"),
    ]
    for text, message in cases:
        xml.write_text(text)
        with pytest.raises(DataError, match=message):
            read_trials(tmp_path, margin=0.5)
    xml.write_text('<session feltVlnc="9" feltArsl="5"><subject id="3"/></session>')
    (folder / "other.bdf").write_bytes(b"")
    with pytest.raises(DataError, match="holds 2 BDF files; a session has one"):
        read_trials(tmp_path)
