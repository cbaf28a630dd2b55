# SPDX-License-Identifier: Apache-2.0
"""EEG Eye State (Roesler 2013, UCI): one person, 117 s of a 14-channel Emotiv EPOC at 128 Hz, eyes open or closed.

Layout read here::

    eeg_eye_state.arff    14 channels in microvolts, then eyeDetection: 0 open, 1 closed

Neighbouring windows are nearly the same, and the signal drifts: random splits of this set measure little but that. Here
the recording falls into blocks of equal length, each a recording of its own from its first sample on: filters start anew,
and the samples between two blocks are in neither. Windows in which the eyes change are left out.
"""

from __future__ import annotations

from pathlib import Path

from zoo.data import Dataset, Item
from zoo.errors import DataError, InputError
from zoo.recording import Recording, read_recording

LABELS = ("open", "closed")
FILE = "eeg_eye_state.arff"
RATE = 128
CHANNELS = (
    "AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4",
)  # fmt: skip
_STATE = "eyeDetection"


def read(root: Path, *, blocks: int = 10, gap: int = 128, window: int = 128, hop: int = 64) -> Dataset:
    """The windows of every block.

    Parameters
    ----------
    root : Path
        The file, the folder that holds it, or one that holds that as ``eeg/eye_state``.
    blocks : int
        How many; the groups are ``block-00`` and so on, in time.
    gap : int
        Samples that no block has, between two of them.
    window, hop : int
        Samples of the pipeline's windows, and between their starts.

    Returns
    -------
    Dataset
        Items are recordings from their block's first sample to the end of a window, as a device has them that was
        switched on there.

    Raises
    ------
    DataError
        No such file, or not its columns; blocks that are too short for a window.
    """
    places = (root, root / FILE, root / "eeg" / "eye_state" / FILE)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(f"eye_state: no {FILE} in {root}; give the folder that holds it")
    try:
        table = read_recording(path, channels=(*CHANNELS, _STATE), rate=RATE)
    except InputError as error:
        raise DataError(f"eye_state: {error}") from error
    samples, state = table.samples[:, :-1], table.samples[:, -1]
    if not set(state.tolist()) <= {0.0, 1.0}:
        raise DataError(f"eye_state: {path}: {_STATE} has other values than 0 and 1")
    length = len(state) // blocks if blocks > 0 else 0
    if min(gap, window - 1, hop) < 1 or length - gap < window:
        raise DataError(
            f"eye_state: {blocks} blocks of {len(state)} samples with gaps of {gap} hold no window of {window}; "
            "ask for fewer or shorter ones"
        )
    items = []
    for block in range(blocks):
        group, first = f"block-{block:02d}", block * length
        for number, start in enumerate(range(0, length - gap - window + 1, hop)):
            stop = first + start + window
            seen = set(state[stop - window : stop].tolist())
            if len(seen) == 1:
                name = f"{group}/{number:02d}"
                source = Recording(samples[first:stop], RATE, CHANNELS, f"{path.name}, {name}")
                items.append(Item(name, source, int(seen.pop()), group))
    return Dataset(
        name="eye_state",
        labels=LABELS,
        items=tuple(items),
        license="CC-BY-4.0",
        notes=f"{blocks} blocks in time, {gap} samples between them in none; windows of one state",
    )
