# SPDX-License-Identifier: Apache-2.0
"""MAHNOB-HCI (Soleymani et al. 2012), emotion experiment: 32-channel BioSemi EEG while watching clips, self-ratings 1 to 9.

Layout read here (given out under a signed agreement)::

    Sessions/<number>/session.xml    <session feltVlnc="7" feltArsl="5" mediaFile="53.avi" ...><subject id="1" .../>
    Sessions/<number>/*.bdf          EEG, 30 s before the clip, the clip, 30 s after it

Sessions without both ratings (those of the tagging experiments) are passed over. Needs MNE (extra ``eeg``).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from zoo import ops
from zoo.data import Dataset
from zoo.data.eye_state import CHANNELS
from zoo.data.trials import Trial, dataset, rating
from zoo.errors import DataError, InputError
from zoo.recording import Recording, read_recording

LICENSE = "restricted: given out under a signed academic agreement"
#: Hz: end of the pass band where the rate is lowered; the bands of sheet 9 end there.
_EDGE = 45.0


def read(root: Path, *, rate: int = 128, margin: float = 30.0) -> Dataset:
    """A session an item, with valence and arousal in [-1, 1], in groups by subject; see :func:`read_trials`."""
    return dataset("mahnob", read_trials(root, rate=rate, margin=margin), LICENSE)


def read_trials(root: Path, *, rate: int = 128, margin: float = 30.0) -> list[Trial]:
    """Every rated session: the 14 channels that the EPOC has too, at ``rate``.

    Parameters
    ----------
    root : Path
        ``Sessions``, the folder that holds it, or one that holds that as ``mahnob``.
    rate : int
        Hz. Recordings at a multiple of it are low-passed at 45 Hz (an FIR filter without delay) and thinned out.
    margin : float
        Seconds before and after the clip; those before are the baseline.

    Raises
    ------
    DataError
        No such folder, no rated session, or one that is not in that layout (it is named).
    ProviderUnavailable
        MNE is not installed.
    """
    places = (root / "Sessions", root / "mahnob" / "Sessions", root)
    folder = next((place for place in places if any(place.glob("*/session.xml"))), None)
    if folder is None:
        raise DataError(
            f"mahnob: no Sessions/<number>/session.xml in {root}; give the folder that holds Sessions"
        )
    paths = sorted(folder.glob("*/session.xml"), key=lambda path: (len(path.parent.name), path.parent.name))
    trials = [trial for path in paths if (trial := _session(path, rate, margin)) is not None]
    if not trials:
        raise DataError(f"mahnob: no session of {folder} has ratings feltVlnc and feltArsl")
    return trials


def _session(path: Path, rate: int, margin: float) -> Trial | None:
    try:
        session = ET.parse(path).getroot()
    except (ET.ParseError, OSError) as error:
        raise DataError(f"mahnob: {path} is not readable XML: {error}") from error
    if "feltVlnc" not in session.attrib or "feltArsl" not in session.attrib:
        return None
    subject = session.find("subject")
    if subject is None or not subject.get("id"):
        raise DataError(f"mahnob: {path} names no subject")
    values = []
    for name in ("feltVlnc", "feltArsl"):
        try:
            values.append(rating(float(session.attrib[name]), 1, 9, f"mahnob: {path}, {name}"))
        except ValueError as error:
            raise DataError(f"mahnob: {path}: {name} is {session.attrib[name]!r}, no number") from error
    files = sorted(path.parent.glob("*.bdf"))
    if len(files) != 1:
        raise DataError(f"mahnob: {path.parent} holds {len(files)} BDF files; a session has one")
    try:
        recording = _lowered(read_recording(files[0], channels=CHANNELS), rate)
    except InputError as error:
        raise DataError(f"mahnob: {error}") from error
    edge = round(margin * rate)
    if len(recording.samples) <= 2 * edge:
        seconds = len(recording.samples) / rate
        raise DataError(
            f"mahnob: {files[0]} lasts {seconds:.1f} s, not longer than its margins of {margin:g} s"
        )
    stop = len(recording.samples) - edge
    clip = session.get("mediaFile") or "unknown"

    def part(first: int, last: int) -> Recording:
        return Recording(recording.samples[first:last], rate, CHANNELS, str(files[0]))

    return Trial(
        subject=subject.attrib["id"],
        clip=f"{path.parent.name}-{clip}",
        recording=part(edge, stop),
        baseline=part(0, edge) if edge else None,
        valence=values[0],
        arousal=values[1],
    )


def _lowered(recording: Recording, rate: int) -> Recording:
    ratio = recording.rate / rate
    if ratio != int(ratio) or ratio < 1:
        raise InputError(f"{recording.name}: recorded at {recording.rate:g} Hz, no multiple of {rate} Hz")
    samples = np.asarray(recording.samples)
    if ratio > 1:
        smooth = ops.filter(samples, recording.rate, [_EDGE], kind="lowpass", design="fir", phase="zero")
        samples = np.ascontiguousarray(smooth[:: int(ratio)])
    return Recording(samples, rate, recording.channels, recording.name)
